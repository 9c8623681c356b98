/** What docs/cluster.md tells operators to do, done: its HAProxy section, adding a shard, a node that goes for good. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { shardOfQueueId } from '../../src/mail/queue-id.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { type DatabaseAccess, MariaDb, skipWithoutMariaDb } from '../services/mariadb.ts';
import { WebHdfsServer } from '../services/webhdfs-server.ts';
import { run } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { sharedFolder, startSink } from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';
import { eventually, until } from '../support/wait.ts';

const skip = skipWithoutMariaDb();

/** What stands in the page between the fences of this language. */
function shown(language: string): string {
  const page = readFileSync(join(import.meta.dirname, '../../docs/cluster.md'), 'utf8');
  const [, text] = new RegExp(`\`\`\`${language}\n([^\`]*)\`\`\``).exec(page) ?? [];
  assert.ok(text !== undefined, `docs/cluster.md has no ${language}`);
  return text;
}

function startHaproxy(t: TestContext, folder: string, config: string): ChildProcess {
  const path = join(folder, 'haproxy.cfg');
  writeFileSync(path, config);
  const haproxy = spawn(programPath('haproxy') as string, ['-db', '-f', path], { stdio: 'ignore' });
  t.after(async () => {
    haproxy.kill('SIGKILL');
    if (haproxy.exitCode === null && haproxy.signalCode === null) await once(haproxy, 'exit');
  });
  return haproxy;
}

test('the HAProxy section: clients are who they are, checks pass unseen, a node that stops is passed over', {
  skip: skipWithout('haproxy'),
  timeout: 60_000,
}, async (t) => {
  const nodes: RelayFixture[] = [];
  for (const name of ['mx1', 'mx2'])
    nodes.push(
      await RelayFixture.start({
        hostname: `${name}.test`,
        policy: { proxy_protocol: { networks: ['127.0.0.1/32'] } },
        relay_networks: ['127.0.0.2/32'],
        delivery: { enabled: false },
        session_threads: 1,
      }),
    );
  const [first, second] = nodes as [RelayFixture, RelayFixture];
  for (const node of nodes) t.after(() => node.destroy());
  const port = await freePort();
  let servers = 0;
  const config = shown('haproxy')
    .replace('bind :25', `bind 127.0.0.1:${port}`)
    .replaceAll(/192\.0\.2\.\d+:25/g, () => `127.0.0.1:${nodes[servers++]?.port}`)
    .replace('inter 5s', 'inter 100ms');
  assert.equal(servers, 2);
  startHaproxy(t, first.dir, config);
  const hello = (localAddress: string): Promise<Talk> =>
    Talk.hello({ host: '127.0.0.1', port, localAddress });
  await eventually(async () => (await hello('127.0.0.2')).destroy());
  let talk = await hello('127.0.0.2');
  await talk.accepted({ to: 'a@one.test' });
  talk.destroy();
  // The balancer's own address has no rights, nor has anybody else's.
  talk = await hello('127.0.0.3');
  assert.match(await talk.say('MAIL FROM:<a@there.test>'), /^250/);
  assert.match(await talk.say('RCPT TO:<b@one.test>'), /^550 5\.7\.1/);
  talk.destroy();
  const greetings = new Set<string>();
  const open: Talk[] = [];
  for (let i = 0; i < 4; i++) {
    const one = await hello('127.0.0.2');
    open.push(one);
    greetings.add(one.greeting);
  }
  assert.equal(greetings.size, 2, 'both serve');
  for (const one of open) one.destroy();
  await second.stop();
  for (let i = 0; i < 20; i++) {
    const one = await hello('127.0.0.2');
    assert.match(one.greeting, /^220 mx1\.test /);
    one.destroy();
  }
  const warned = nodes.flatMap(({ log }) => log.filter(({ level }) => level !== 'info' && level !== 30));
  assert.deepEqual(
    warned.map(({ event }) => event).filter((event) => event !== 'config.warning'),
    [],
    'no word of the checks',
  );
});

interface Shard extends DatabaseAccess {
  name: string;
  weight: number;
}

class Nodes {
  readonly relays: RelayFixture[] = [];
  readonly server: MariaDb;
  readonly #mail: string;
  readonly #sink: number;

  constructor(server: MariaDb, mail: string, sink: number) {
    this.server = server;
    this.#mail = mail;
    this.#sink = sink;
  }

  /** A node, not started yet. */
  make(t: TestContext, name: string, shards: Shard[], more: Settings = {}, dir?: string): RelayFixture {
    const relay = new RelayFixture(
      {
        node_id: name,
        storage: { provider: 'local', local: { path: this.#mail } },
        database: this.database(shards),
        scheduler: { poll_interval_ms: 100 },
        session_threads: 1,
        delivery_threads: 1,
        delivery: { smarthost: { host: '127.0.0.1', port: this.#sink } },
        ...more,
      },
      dir === undefined ? {} : { dir },
    );
    this.relays.push(relay);
    t.after(() => relay.destroy());
    return relay;
  }

  database(shards: Shard[]): Settings {
    return { driver: 'mysql_distributed', retry_delay_ms: 100, max_retry_delay_ms: 300, shards };
  }

  /** `db migrate --user ADMIN` with the config of this node. */
  async migrate({ configPath }: RelayFixture, shard: Shard): Promise<string> {
    const { user, password } = this.server.admin(shard);
    const args = [MAIN, 'db', 'migrate', '--user', user, '-c', configPath];
    const { code, stdout, stderr } = await run(process.execPath, args, {
      env: { PROTORELAY_DB_PASSWORD: password },
    });
    assert.equal(code, 0, stderr);
    return stdout;
  }
}

const restart = async (relay: RelayFixture, database: Settings): Promise<void> => {
  relay.configure({ database });
  assert.equal((await relay.stop()).code, 0);
  await relay.start();
};

/** Whether this node took mail into the shard with this number. */
const tookInto = ({ events }: RelayFixture, shard: number): boolean =>
  events.events.some(({ type, queue_id: id }) => type === 'accepted' && shardOfQueueId(String(id)) === shard);

test('on servers', { skip, timeout: 120_000, concurrency: true }, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());

  const more = t.test(
    'a shard more, in the order of the page, while mail comes in: every message has one fate',
    async (t) => {
      const sink = await startSink(t);
      const nodes = new Nodes(server, sharedFolder(t), sink.port);
      const s0: Shard = { name: 's0', weight: 1, ...(await server.createDatabase()) };
      const a = nodes.make(t, 'a', [s0]);
      const b = nodes.make(t, 'b', [s0]);
      await nodes.migrate(a, s0);
      await Promise.all([a.start(), b.start()]);
      // A client tries the node that serves.
      const serving = (): number[] => {
        const ports = [a, b].flatMap((relay) => (relay.running ? [relay.port] : []));
        return ports.length > 0 ? ports : [1];
      };
      const load = new SteadyLoad(serving, 4, 'one.test', 2);
      t.after(() => load.stop());
      await load.more(20);
      // 1
      const s1: Shard = { name: 's1', weight: 0, ...(await server.createDatabase()) };
      a.configure({ database: nodes.database([s0, s1]) });
      assert.match(await nodes.migrate(a, s1), /s0: up to date\ns1: migrated to version \d+\n/);
      // 2
      for (const node of [a, b]) {
        await restart(node, nodes.database([s0, s1]));
        await load.more(20);
      }
      assert.ok(!tookInto(a, 1) && !tookInto(b, 1), 'weight 0');
      // 3
      const all = nodes.database([s0, { ...s1, weight: 1 }]);
      await Promise.all([restart(a, all), restart(b, all)]);
      await until(() => tookInto(a, 1) && tookInto(b, 1), 'new mail spreads');
      await load.stop();
      await oneFateEach([a, b], load.acknowledged, 30_000);
      assert.deepEqual(
        [...deliveries(sink)].filter(([, count]) => count !== 1),
        [],
      );
      const broken = load.refused.filter((reply) => reply !== '' && !/421 |ECONN/.test(reply));
      assert.deepEqual(broken, [], 'clients met nothing but nodes that stop');
    },
  );

  const gone = t.test(
    'a node goes for good, and with it one whose disk alone is left: what their journals hold is delivered',
    async (t) => {
      const proxy = await CommitProxy.start(server.port);
      t.after(() => proxy.close());
      const sink = await startSink(t);
      const nodes = new Nodes(server, sharedFolder(t), sink.port);
      const access = await server.createDatabase();
      const s0: Shard = { name: 's0', weight: 1, ...access, port: proxy.port };
      const journal = { inbound_ack_mode: 'after_journal', shutdown_grace_ms: 1000 };
      const a = nodes.make(t, 'a', [s0], journal);
      const b = nodes.make(t, 'b', [s0], journal);
      await nodes.migrate(a, { ...s0, port: server.port });
      await Promise.all([a.start(), b.start()]);
      proxy.goAway();
      const recipients: string[] = [];
      for (const [name, relay] of Object.entries({ a, b })) {
        const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
        for (let i = 0; i < 5; i++) {
          const to = `${name}${i}@one.test`;
          await talk.accepted({ to });
          recipients.push(to);
        }
        talk.destroy();
      }
      // b cannot run any more: its disk goes to another machine.
      await b.kill();
      b.events.close();
      const disk = join(sharedFolder(t), 'disk');
      renameSync(b.dir, disk);
      const moved = nodes.make(t, 'b', [s0], { ...journal, inbound_ack_mode: 'after_persist' }, disk);
      // 1
      await a.stop();
      proxy.comeBack();
      const stopped = await a.queue('stats');
      assert.equal(stopped.code, 75);
      assert.match(stopped.stderr, /holds about 5 messages that are not in the queue/);
      a.configure({ inbound_ack_mode: 'after_persist' });
      await Promise.all([a.start(), moved.start()]);
      // 2 and 3
      for (const node of [a, moved]) {
        await eventually(async () => {
          const { code, stdout } = await node.queue('stats');
          assert.equal(code, 0);
          assert.match(stdout, /^Journal +0 messages/m);
        });
        assert.equal((await node.stop()).code, 0);
        assert.equal((await node.queue('stats')).code, 0);
      }
      await until(() => deliveries(sink).size >= recipients.length, 'all are delivered');
      await oneFateEach([a, moved], recipients, 10_000);
    },
  );
  const folders = t.test(
    'hdfs_web: one base_path, a folder for each shard, and any node reads what another wrote',
    async (t) => {
      const hdfs = await new WebHdfsServer().start();
      t.after(() => hdfs.stop());
      const sink = await startSink(t);
      const nodes = new Nodes(server, '', sink.port);
      const shards: Shard[] = [];
      for (const name of ['s0', 's1']) shards.push({ name, weight: 1, ...(await server.createDatabase()) });
      const hdfs_web = { endpoints: hdfs.endpoints, base_path: '/relay', user: 'hdfs', replication: 1 };
      const storage = { provider: 'hdfs_web', hdfs_web };
      const a = nodes.make(t, 'a', shards, { storage, delivery: { enabled: false } });
      await nodes.migrate(a, shards[0] as Shard);
      await a.start();
      const talk = await Talk.hello({ host: '127.0.0.1', port: a.port });
      const recipients: string[] = [];
      while (!tookInto(a, 0) || !tookInto(a, 1)) {
        const to = `u${recipients.length}@one.test`;
        await talk.accepted({ to });
        recipients.push(to);
        a.events.read();
      }
      talk.destroy();
      const owners = new Set(hdfs.paths.map((path) => path.split('/')[2]));
      assert.equal(owners.size, 2, hdfs.paths.join());
      const b = nodes.make(t, 'b', shards, { storage });
      await b.start();
      await oneFateEach([b], recipients, 20_000);
      assert.equal(deliveries(sink).size, recipients.length);
      assert.deepEqual(hdfs.violations, []);
    },
  );

  await Promise.all([more, gone, folders]);
});
