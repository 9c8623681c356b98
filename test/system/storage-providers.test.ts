/** The whole relay over the replicated providers: what clients are told while they fail, and what becomes of mail. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fault, WebHdfsServer } from '../services/webhdfs-server.ts';
import { filesBelow, rootsIn } from '../storage/providers.ts';
import { fate } from '../support/fates.ts';
import { bounded, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const hdfsConfig = resolve(import.meta.dirname, '../../config/hdfs.json');
const content = (text: string): string =>
  `Subject: ${text}\r\n\r\n${'line of content\r\n'.repeat(50)}${text}\r\n`;
const large = `Subject: large\r\n\r\n${`${'x'.repeat(76)}\r\n`.repeat(8000)}`;

interface World {
  relay: RelayFixture;
  sink: ScriptedSink;
  talk: Talk;
}

async function start(t: TestContext, settings: Settings): Promise<World> {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
    retry: { initial_delay_ms: 50, max_delay_ms: 100 },
    ...settings,
  });
  t.after(() => relay.destroy());
  return { relay, sink, talk: await Talk.hello({ port: relay.port, host: '127.0.0.1' }) };
}

/** Replies to messages sent until one begins with `code`. */
async function until(talk: Talk, code: string, to: string): Promise<string> {
  let reply = '';
  for (const end = Date.now() + 20_000; !reply.startsWith(code) && Date.now() < end; ) {
    reply = await talk
      .send({ to, content: content(to) })
      .catch((error: Error) => error.message.replace(/^.*?: /, ''));
    if (!reply.startsWith('250')) await talk.say('RSET');
  }
  return reply;
}

// They mostly wait, each for a relay of its own.
describe('mail over replicated storage', { concurrency: 3 }, () => {
  test('config/hdfs.json: mail goes through HDFS, byte for byte, and leaves nothing there', {
    timeout: 60_000,
  }, async (t) => {
    const server = await new WebHdfsServer().start();
    t.after(() => server.stop());
    const { relay, sink, talk } = await start(t, {
      include: [hdfsConfig],
      storage: { hdfs_web: { endpoints: server.endpoints } },
    });
    // Deferred once, so that their content comes back from HDFS.
    await talk.accepted({ to: 'once-451-at-dot@a.test', content: content('small') });
    await talk.accepted({ to: 'once-451-at-dot@b.test', content: large });
    await fate(relay.events, 'once-451-at-dot@a.test', 'delivered');
    await fate(relay.events, 'once-451-at-dot@b.test', 'delivered');
    const bodies = sink.messages.map((message) => message.content.toString('latin1'));
    assert.ok(bodies.some((body) => body.endsWith(content('small'))));
    assert.ok(bodies.some((body) => body.endsWith(large)));
    assert.ok(server.requests('OPEN', 'datanode').length >= 1);
    await eventually(() => assert.deepEqual(server.paths, []));
    assert.deepEqual(server.violations, []);
  });

  for (const [what, fault] of [
    ['hangs', 'hang'],
    ['answers 503', { status: 503 }],
    ['refuses connections', 'reset'],
  ] as [string, Fault][])
    test(`HDFS ${what}: 451 4.3.0 in time, the connection stays usable, accepted mail is delivered after`, {
      timeout: 60_000,
    }, async (t) => {
      const server = await new WebHdfsServer().start();
      t.after(() => server.stop());
      const { relay, sink, talk } = await start(t, {
        include: [hdfsConfig],
        storage: { hdfs_web: { endpoints: server.endpoints, timeout_ms: 1000 } },
        inbound_persist_wait_timeout_ms: 30_000,
      });
      await talk.accepted({ to: 'once-451-at-dot@before.test', content: content('before') });
      server.fault = () => fault;
      const begun = performance.now();
      const reply = await talk.send({ to: 'during@a.test', content: content('during') });
      assert.match(reply, /^451 4\.3\.0/);
      assert.ok(performance.now() - begun < 15_000, 'in time');
      assert.match(await talk.say('NOOP'), /^250/);
      server.fault = () => undefined;
      assert.match(await until(talk, '250', 'after@a.test'), /^250/);
      await fate(relay.events, 'after@a.test', 'delivered');
      // Its content could not be read meanwhile, and the row was put off by a minute: it goes once HDFS is back.
      await fate(relay.events, 'once-451-at-dot@before.test', 'delivered');
      assert.ok(!sink.messages.some((message) => message.recipients[0]?.address === 'during@a.test'));
      assert.deepEqual(server.violations, []);
    });

  const distributed = (roots: string[], more: object = {}): Settings => ({
    storage: {
      provider: 'distributed',
      distributed: { roots, replica_count: 2, write_quorum: 2, timeout_ms: 1000, ...more },
    },
  });

  function makeRoots(t: TestContext): string[] {
    const dir = mkdtempSync(join(tmpdir(), 'roots-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    return rootsIn(dir);
  }

  test('distributed: a root goes and comes back under load; below the quorum 451; nothing acknowledged is lost', {
    timeout: 60_000,
  }, async (t) => {
    const roots = makeRoots(t);
    const { relay, talk } = await start(t, { ...distributed(roots), delivery: { enabled: false } });
    const ids: string[] = [];
    const accept = async (to: string): Promise<void> =>
      void ids.push(await talk.accepted({ to, content: content(to) }));
    for (let i = 0; i < 5; i++) await accept(`whole${i}@a.test`);
    const aside = relay.logLine('storage.root_aside');
    renameSync(roots[0] as string, `${roots[0]}.away`);
    for (let i = 0; i < 12; i++) await accept(`without${i}@a.test`);
    assert.equal((await aside).root, roots[0]);
    renameSync(roots[1] as string, `${roots[1]}.away`);
    assert.match(await until(talk, '451', 'below@a.test'), /^451 4\.3\.0/);
    const returned = relay.logLine('storage.root_returned');
    for (const root of roots.slice(0, 2)) renameSync(`${root}.away`, root);
    await returned;
    assert.match(await until(talk, '250', 'again@a.test'), /^250/);
    // One disk of three is lost for good: every message is still there, and soon twice.
    await relay.kill();
    rmSync(roots[2] as string, { recursive: true });
    await relay.start();
    for (const [i, id] of ids.entries()) {
      const { stdout, code, stderr } = await relay.queue('cat', id);
      assert.equal(code, 0, stderr);
      assert.ok(stdout.replaceAll('\r', '').includes('line of content'), `message ${i}`);
    }
  });

  /** Content goes away while a message waits, and comes back; then it goes at once, not when its minute is over. */
  async function goesOn(world: World, away: () => void, back: () => void, more: boolean): Promise<void> {
    const { relay, talk } = world;
    const id = await talk.accepted({ to: 'once-451-at-dot@back.test', content: content('back') });
    away();
    await eventually(async () => {
      const [entry] = (await relay.queueEntries()).filter(({ queue_id }) => queue_id === id);
      assert.equal(entry?.reason, 'content_unavailable');
    }, 20_000);
    back();
    let gone = false;
    const delivered = fate(relay.events, 'once-451-at-dot@back.test', 'delivered').then(() => {
      gone = true;
    });
    // Files are looked at when there is something to do, and not at every message.
    for (; more && !gone; await sleep(200)) await until(talk, '250', 'more@back.test');
    await bounded(delivered, 20_000, () => relay.stderr);
  }

  test('mail whose content was away goes on when its disks return: distributed', {
    timeout: 60_000,
  }, async (t) => {
    const roots = makeRoots(t);
    const world = await start(t, { ...distributed(roots), retry: { initial_delay_ms: 1500 } });
    const away = (): void => {
      for (const root of roots) renameSync(root, `${root}.away`);
    };
    const back = (): void => {
      for (const root of roots) renameSync(`${root}.away`, root);
    };
    await goesOn(world, away, back, false);
  });

  test('mail whose content was away goes on when its disks return: local', { timeout: 60_000 }, async (t) => {
    const [path] = makeRoots(t) as [string];
    const world = await start(t, {
      storage: { provider: 'local', local: { path } },
      retry: { initial_delay_ms: 1500 },
    });
    const away = (): void => renameSync(path, `${path}.away`);
    const back = (): void => renameSync(`${path}.away`, path);
    await goesOn(world, away, back, true);
  });

  test('distributed: kill -9 at any time leaves every acknowledged message whole in two roots', {
    timeout: 60_000,
  }, async (t) => {
    const roots = makeRoots(t);
    const { relay } = await start(t, { ...distributed(roots), delivery: { enabled: false } });
    const acknowledged: string[] = [];
    for (let life = 0; life < 3; life++) {
      const talks = await Promise.all(
        Array.from({ length: 8 }, () => Talk.hello({ port: relay.port, host: '127.0.0.1' })),
      );
      let more = true;
      const sending = talks.map(async (talk, i) => {
        for (let n = 0; more; n++) {
          const to = `kill${life}-${i}-${n}@a.test`;
          acknowledged.push(await talk.accepted({ to, content: content(to) }));
        }
      });
      const all = Promise.allSettled(sending);
      await eventually(() => assert.ok(acknowledged.length >= (life + 1) * 60), 15_000);
      await relay.kill();
      more = false;
      await all;
      await relay.start();
    }
    const listed = await relay.queueEntries('--limit', '10000');
    const kept = new Set(listed.map(({ queue_id }) => queue_id));
    assert.deepEqual(
      acknowledged.filter((id) => !kept.has(id)),
      [],
    );
    // Orphans of the kills are swept at start; what is left is in two roots each.
    const copies = new Map<string, number>();
    for (const root of roots)
      for (const file of filesBelow(root)) copies.set(file, (copies.get(file) ?? 0) + 1);
    assert.ok(copies.size > 0);
    assert.deepEqual([...new Set(copies.values())], [2]);
    for (const id of acknowledged.slice(0, 10)) assert.equal((await relay.queue('cat', id)).code, 0);
    const { code } = await relay.queue('delete', '--all');
    assert.equal(code, 0);
    await eventually(() => assert.deepEqual(roots.flatMap(filesBelow), []));
  });
});
