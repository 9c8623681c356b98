/** Disks that are full, folders that cannot be written, a damaged database, a clock that goes back. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fate } from '../support/fates.ts';
import { skipUnlessRoot } from '../support/programs.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const local = (relay: RelayFixture) => ({ port: relay.port, host: '127.0.0.1' });

/** A tmpfs of its own; null when mounting is forbidden here. */
function mountTmpfs(t: TestContext, options: string): string | null {
  const dir = mkdtempSync(join(tmpdir(), 'protorelay-tmpfs-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir], { stdio: 'pipe' });
  } catch {
    rmSync(dir, { recursive: true });
    return null;
  }
  t.after(() => {
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true });
  });
  return dir;
}

test('a read-only data folder stops the start, naming the folder', {
  timeout: 60_000,
  skip: skipUnlessRoot(),
}, async (t) => {
  const dir = mountTmpfs(t, 'size=1m');
  if (dir === null) return t.skip('mount is not permitted');
  const relay = new RelayFixture();
  t.after(() => relay.destroy());
  const data = join(dir, 'data');
  mkdirSync(data);
  execFileSync('mount', ['-o', 'remount,ro', dir]);
  relay.configure({ data_dir: data });
  relay.launch();
  const { code } = await relay.exited();
  assert.equal(code, 73, relay.output());
  assert.ok(relay.stderr.includes(data), relay.stderr);
});

test('a folder in place of the data folder that we may not write: as a plain user', {
  timeout: 60_000,
}, async (t) => {
  if (process.getuid?.() === 0) return t.skip('root may write everywhere');
  const relay = new RelayFixture({ data_dir: 'locked' });
  t.after(() => relay.destroy());
  chmodSync(join(relay.dir, 'locked'), 0o500);
  relay.launch();
  assert.equal((await relay.exited()).code, 73, relay.output());
});

test('a data folder that cannot be made stops the start, and soon', { timeout: 60_000 }, async (t) => {
  for (const [settings, name] of [
    [{ data_dir: '/proc/nowhere/data' }, '/proc/nowhere/data'],
    [{ log: { file: '/proc/nowhere/relay.log' } }, '/proc/nowhere'],
  ] as const) {
    const relay = new RelayFixture();
    t.after(() => relay.destroy());
    relay.configure(settings);
    relay.launch();
    assert.equal((await relay.exited(10_000)).code, 73, relay.output());
    assert.ok(relay.stderr.includes(name), relay.stderr);
  }
});

test('what lies in the way of the start is said in one line, without a stack', {
  timeout: 60_000,
}, async (t) => {
  const relay = new RelayFixture();
  t.after(() => relay.destroy());
  mkdirSync(join(relay.dataDir, 'control.sock', 'x'), { recursive: true });
  writeFileSync(join(relay.dataDir, 'spill'), '');
  for (const [inTheWay, processes] of [
    ['spill', 1],
    ['spill', 2],
    ['control.sock', 1],
  ] as const) {
    relay.configure({ accept_processes: processes, session_threads: 1, delivery_threads: 1 });
    relay.launch();
    assert.equal((await relay.exited()).code, 73, relay.output());
    assert.match(
      relay.stderr,
      new RegExp(`^protorelay: cannot start: .*/${inTheWay}.*; check the path.*\n$`),
    );
    relay.stderr = '';
    assert.doesNotMatch(JSON.stringify(relay.log.splice(0)), /"stack"/);
    if (processes === 2) rmSync(join(relay.dataDir, inTheWay));
  }
});

test('content that cannot be stored is refused for now, and the log says which folder and why', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({ storage: { provider: 'local' } });
  t.after(() => relay.destroy());
  const folder = join(relay.dataDir, 'mail');
  writeFileSync(folder, 'in its place');
  const failed = relay.logLine('commit.failed');
  const talk = await Talk.hello(local(relay));
  const reply = await talk.send({ to: 'a@b.test' }).catch((error: Error) => error.message);
  assert.match(reply, /451 4\.3\.0/);
  const { error, messages } = await failed;
  assert.ok(JSON.stringify(error).includes(folder), JSON.stringify(error));
  assert.equal(messages, 1);
});

test('a damaged database stops the start, naming the file', { timeout: 60_000 }, async (t) => {
  const relay = new RelayFixture();
  t.after(() => relay.destroy());
  const file = join(relay.dataDir, 'queue.db');
  writeFileSync(file, Buffer.alloc(65_536, 'not a database '));
  relay.launch();
  const { code } = await relay.exited();
  assert.equal(code, 65, relay.output());
  assert.ok(relay.stderr.includes(file), relay.stderr);
});

test('a second relay on the same data folder is refused', { timeout: 60_000 }, async (t) => {
  const relay = await RelayFixture.start();
  t.after(() => relay.destroy());
  const second = new RelayFixture({ data_dir: relay.dataDir });
  t.after(() => second.destroy());
  second.launch();
  assert.equal((await second.exited()).code, 75, second.output());
  const talk = await Talk.hello(local(relay));
  await talk.accepted({ to: 'a@b.test', from: '' }).catch(() => {});
  await talk.quit();
});

for (const provider of ['database', 'local'] as const) {
  test(`disk full with ${provider} storage: refused for now, nothing acknowledged is lost, goes on after`, {
    timeout: 60_000,
    skip: skipUnlessRoot(),
  }, async (t) => {
    const dir = mountTmpfs(t, 'size=24m');
    if (dir === null) return t.skip('mount is not permitted');
    const relay = await RelayFixture.start({
      data_dir: join(dir, 'data'),
      storage: { provider },
      delivery: { enabled: false },
      // The real end of the disk, not our own watermark, is what this test is about.
      persist_min_free_disk_mb: 0,
      content_memory_mb: 16,
    });
    t.after(() => relay.destroy());
    const ballast = join(dir, 'ballast');
    writeFileSync(ballast, Buffer.alloc(8 << 20));
    const talk = await Talk.hello(local(relay));
    const content = `Subject: fill\r\n\r\n${`${'z'.repeat(76)}\r\n`.repeat(2500)}`;
    const accepted: string[] = [];
    let refusal = '';
    for (let i = 0; i < 400 && refusal === ''; i++) {
      const reply = await talk
        .send({ to: `f${i}@full.test`, content })
        .catch((error: Error) => error.message);
      const id = /^250 .*\b([0-9a-hjkmnp-tv-z]{16})\b/.exec(reply)?.[1];
      if (id === undefined) refusal = reply;
      else accepted.push(id);
    }
    assert.match(refusal, /45[12] 4\.3\.\d/, `after ${accepted.length} messages`);
    assert.ok(accepted.length > 10, `${accepted.length} messages fitted`);
    assert.match(await talk.say('NOOP'), /^250/, 'the connection stays usable');

    const listed = await relay.queueEntries('--limit', '1000');
    const kept = new Set(listed.map(({ queue_id }) => queue_id));
    assert.deepEqual(
      accepted.filter((id) => !kept.has(id)),
      [],
    );

    // Somebody makes room: the relay must find its way out by itself.
    rmSync(ballast);
    await talk.say('RSET');
    let reply = '';
    for (const until = Date.now() + 20_000; !reply.startsWith('250') && Date.now() < until; ) {
      if (reply !== '') await relay.logLine('pressure.ended', undefined, 5000).catch(() => {});
      reply = await talk.send({ to: 'again@full.test' }).catch((error: Error) => error.message);
      await talk.say('RSET');
    }
    assert.match(reply, /^250/);
    const removed = await relay.queue('delete', '--all');
    assert.equal(removed.code, 0, removed.stderr);
  });
}

test('the clock steps back an hour: mail flows, queue ids stay unique and ordered', {
  timeout: 60_000,
}, async (t) => {
  const library = faketimeLibrary();
  if (library === null) return t.skip('not installed: libfaketime');
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const dir = mkdtempSync(join(tmpdir(), 'protorelay-clock-'));
  const clock = join(dir, 'clock');
  writeFileSync(clock, '+0');
  const relay = await RelayFixture.start(
    {
      delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, suspend_after_failures: 1000 },
      retry: { initial_delay_ms: 300, max_delay_ms: 300 },
    },
    {
      env: {
        LD_PRELOAD: library,
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    },
  );
  t.after(async () => {
    await relay.destroy();
    rmSync(dir, { recursive: true });
  });
  const ids: string[] = [];
  const submit = async (to: string): Promise<void> => {
    const talk = await Talk.hello(local(relay));
    ids.push(await talk.accepted({ to }));
    await talk.quit();
  };
  await submit('before@clock.test');
  await fate(relay.events, 'before@clock.test', 'delivered');
  writeFileSync(clock, '-3600');
  for (let i = 0; i < 20; i++) await submit(`back${i}@clock.test`);
  for (let i = 0; i < 20; i++) await fate(relay.events, `back${i}@clock.test`, 'delivered');
  await submit('once-451-at-rcpt@clock.test');
  await fate(relay.events, 'once-451-at-rcpt@clock.test', 'delivered');
  // Also when the clock went back while the relay was down.
  await relay.stop();
  writeFileSync(clock, '-7200');
  await relay.start();
  await submit('restarted@clock.test');
  await fate(relay.events, 'restarted@clock.test', 'delivered');
  assert.equal(new Set(ids).size, ids.length);
});

function faketimeLibrary(): string | null {
  for (const arch of ['x86_64-linux-gnu', 'aarch64-linux-gnu']) {
    const folder = `/usr/lib/${arch}/faketime`;
    try {
      if (readdirSync(folder).includes('libfaketimeMT.so.1')) return join(folder, 'libfaketimeMT.so.1');
    } catch {
      // Not this architecture.
    }
  }
  return null;
}
