/**
 * A shard goes away while its mail is being sent, and the process ends before it is back: what was delivered is known
 * to the next life, and sent to nobody twice.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { sharedFolder, startNode, startSink } from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import type { RelayFixture } from '../support/relay-fixture.ts';
import type { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { until } from '../support/wait.ts';

const skip = skipWithoutMariaDb();
const MAILS = 10;

/** Before a next hop: what it says waits while the gate is closed. */
class Gate {
  readonly #waiting = new Set<Socket>();
  #open = true;

  async start(t: TestContext, target: number): Promise<number> {
    const server = createServer((client) => {
      const hop = connect(target, '127.0.0.1');
      for (const [one, other] of [
        [client, hop],
        [hop, client],
      ] as const)
        one.on('error', () => other.destroy()).on('close', () => other.destroy());
      client.pipe(hop);
      hop.pipe(client);
      hop.once('connect', () => {
        if (this.#open) return;
        hop.unpipe(client);
        hop.pause();
        hop.once('let-go', () => hop.pipe(client));
        this.#waiting.add(hop);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    return (server.address() as AddressInfo).port;
  }

  close(): void {
    this.#open = false;
  }

  open(): void {
    this.#open = true;
    for (const hop of this.#waiting) hop.emit('let-go');
    this.#waiting.clear();
  }
}

interface World {
  relay: RelayFixture;
  sink: ScriptedSink;
  gate: Gate;
  /** Before the one shard of two that gets mail. */
  proxy: CommitProxy;
  /** Recipients with a fate to come. */
  recipients: string[];
}

async function start(t: TestContext, server: MariaDb, graceMs = 60_000): Promise<World> {
  const shards: DatabaseAccess[] = [];
  for (let i = 0; i < 2; i++) {
    const access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), Date.now());
    shards.push(access);
  }
  const proxy = await CommitProxy.start(server.port);
  t.after(() => proxy.close());
  const [far, near] = shards;
  const sink = await startSink(t);
  const gate = new Gate();
  const port = await gate.start(t, sink.port);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    database: {
      driver: 'mysql_distributed',
      retry_delay_ms: 100,
      max_retry_delay_ms: 200,
      shards: [
        { name: 'far', ...far, port: proxy.port },
        { name: 'near', ...near, weight: 0 },
      ],
    },
    lease_ms: 60_000,
    shutdown_grace_ms: graceMs,
    delivery: { smarthost: { host: '127.0.0.1', port } },
  });
  return { relay, sink, gate, proxy, recipients: [] };
}

/** The shard is away when the replies of the next hop come, one of which is a bounce. */
async function sendWhileAway({ relay, sink, gate, proxy, recipients }: World): Promise<void> {
  gate.close();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  for (let i = 1; i <= MAILS; i++) {
    const to = i === MAILS ? 'bounce-550@one.test' : `u${i}@one.test`;
    assert.match(await talk.send({ from: 'sender@home.test', to }), /^250/);
    recipients.push(to);
  }
  talk.destroy();
  proxy.goAway();
  gate.open();
  await sink.received(MAILS - 1);
}

const unsettled = ({ dataDir }: RelayFixture): string[] =>
  readdirSync(dataDir).filter((name) => /^unsettled-\d+$/.test(name));

/** Results that lie in files. */
const kept = (relay: RelayFixture): number =>
  unsettled(relay).reduce(
    (sum, name) => sum + readFileSync(join(relay.dataDir, name), 'latin1').split('\n').length - 1,
    0,
  );

async function eachOnce({ relay, sink, recipients }: World): Promise<void> {
  await oneFateEach([relay], [...recipients, 'sender@home.test'], 15_000);
  const counts = [...deliveries(sink)];
  assert.deepEqual(
    counts.filter(([, count]) => count !== 1),
    [],
    'sent twice',
  );
  assert.equal(counts.length, MAILS, 'all but the one that bounced, and a report about that');
  assert.deepEqual(unsettled(relay), [], 'the file goes with its results');
  assert.equal((await relay.queue('stats')).code, 0);
}

test('results of a shard that is away outlive the process', { skip, timeout: 120_000 }, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());

  await t.test('SIGTERM; the shard comes back after the next start', async (t) => {
    const world = await start(t, server);
    const { relay, proxy } = world;
    await sendWhileAway(world);
    const left = relay.logLine('results.left');
    const stopMs = performance.now();
    assert.equal((await relay.stop()).code, 0);
    const tookMs = performance.now() - stopMs;
    t.diagnostic(`ended after ${Math.round(tookMs)} ms`);
    assert.ok(tookMs > 2000 && tookMs < 15_000, 'what is kept needs no wait for the shard');
    // The bounce may not have begun.
    const waiting = Number((await left).results);
    assert.ok(waiting >= MAILS - 1, `${waiting} results`);
    const said = `unsettled-* holds ${waiting} results that are not in the queue`;
    const stopped = await relay.queue('stats');
    assert.equal(stopped.code, 75);
    assert.ok(stopped.stderr.includes(`${said}: they are written`), stopped.stderr);
    await relay.start();
    const running = await relay.queue('stats');
    assert.equal(running.code, 75);
    assert.ok(running.stderr.includes(`${said} yet`), running.stderr);
    const replayed = relay.logLine('results.replayed');
    proxy.comeBack();
    const { written, stale } = await replayed;
    assert.deepEqual([written, stale], [waiting, 0]);
    await eachOnce(world);
  });

  await t.test('kill -9; the shard is back at the next start', async (t) => {
    const world = await start(t, server);
    const { relay, proxy } = world;
    await sendWhileAway(world);
    await until(() => kept(relay) === MAILS, 'all results in a file');
    await relay.kill();
    proxy.comeBack();
    const replayed = relay.logLine('results.replayed');
    await relay.start();
    assert.equal((await replayed).written, MAILS);
    await eachOnce(world);
  });

  await t.test(
    'SIGTERM while it is not known whether a commit happened: a clean stop has no errors',
    async (t) => {
      const { relay, proxy } = await start(t, server, 2000);
      proxy.cuts = ['before'];
      proxy.awayAtCut = true;
      const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
      const answer = talk.send({ to: 'doubt@one.test' });
      await until(() => proxy.cuts.length === 0, 'the connection breaks');
      assert.equal((await relay.stop()).code, 0);
      // Other work may have met the cut, and the message is on the other shard then.
      await answer;
      // That the server broke the connection is an error until the relay closes its own: then no commit is known to fail.
      const errors = relay.log.filter(({ level }) => level === 'error').map(({ error }) => error);
      const ofServer = /socket has unexpectedly been closed|ECONNREFUSED|ECONNRESET/;
      assert.deepEqual(
        errors.filter((error) => !ofServer.test(JSON.stringify(error))),
        [],
      );
    },
  );
});
