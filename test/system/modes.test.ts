/** What lies under a data folder is nobody's but the relay's: whatever the umask, whatever mode the folder has. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { lockDataDir } from '../../src/base/data-dir.ts';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

const OPEN_TO_ALL = {
  readyMs: 60_000,
  wrapper: ['sh', '-c', 'umask 0; exec "$@"', 'sh'],
};

/** Paths below that others may do anything with. */
function open(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      // A file may be gone since the folder was read.
      .filter((name) => ((lstatSync(join(folder, name), { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0)
      .sort()
  );
}

const everything: Settings = {
  accept_processes: 2,
  spill_threshold_bytes: 65_536,
  relay_networks: ['127.0.0.0/8'],
  listeners: [{ host: '127.0.0.1', port: 0, auth: 'optional' }],
  auth: {
    backends: [{ type: 'memory', users: [{ username: 'u', password: 'p', messages_per_day: 9 }] }],
    allow_without_tls: true,
  },
  policy: { greylist: { mode: 'tag' }, bans: { mode: 'reject' } },
  delivery: {
    smarthost: { host: '127.0.0.1', port: 1 },
    tls_rpt: { enabled: true },
    mta_sts: { enabled: true },
  },
  log: { level: 'info', format: 'json', file: null, transcripts: { inbound: true } },
};

async function used(t: TestContext, settings: Settings): Promise<RelayFixture> {
  const relay = new RelayFixture({ ...everything, ...settings }, OPEN_TO_ALL);
  t.after(() => relay.destroy());
  mkdirSync(relay.dataDir, { recursive: true });
  chmodSync(relay.dataDir, 0o755);
  await relay.start();
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  assert.match(await talk.say(`AUTH PLAIN ${Buffer.from('\0u\0p').toString('base64')}`), /^235/);
  for (const octets of [10, 300_000])
    await talk.send({
      from: 'a@a.test',
      to: 'b@b.test',
      content: `Subject: x\r\n\r\n${'line\r\n'.repeat(octets / 6)}`,
    });
  talk.socket.destroy();
  return relay;
}

for (const [provider, accept_processes] of [
  ['local', 2],
  ['distributed', 1],
] as const)
  test(`storage ${provider}: every file is 0600 and every folder 0700, running and stopped`, async (t) => {
    const roots = ['a', 'b'].map((name) => `roots/${name}`);
    const storage = { provider, ...(provider === 'distributed' ? { distributed: { roots } } : {}) };
    const relay = await used(t, { storage, accept_processes });
    assert.ok(readdirSync(relay.dataDir).length > 6);
    assert.deepEqual(open(relay.dataDir), []);
    await relay.stop();
    assert.deepEqual(open(relay.dataDir), []);
  });

test('what an earlier version left open is closed at the start, and said', async (t) => {
  const relay = await used(t, { accept_processes: 1 });
  await relay.stop();
  for (const name of ['queue.db', 'relay.lock', 'queue.lock']) chmodSync(join(relay.dataDir, name), 0o644);
  for (const name of ['events', 'policy']) chmodSync(join(relay.dataDir, name), 0o755);
  writeFileSync(join(relay.dataDir, 'mine.txt'), 'of the operator', { mode: 0o644 });
  await relay.start();
  const said = relay.log.findLast(({ event }) => event === 'data_dir.narrowed');
  assert.ok((said?.paths as string[] | undefined)?.includes(join(relay.dataDir, 'queue.db')));
  assert.deepEqual(open(relay.dataDir), ['mine.txt']);
});

test('what is not the relay’s keeps its mode, whatever the config calls it', async (t) => {
  const relay = new RelayFixture({ delivery: { enabled: false } });
  t.after(() => relay.destroy());
  // A folder that something else lives in, with names that a relay has too.
  const home = join(relay.dataDir, '..', 'home');
  for (const name of ['content', 'events', 'policy']) mkdirSync(join(home, name), { recursive: true });
  writeFileSync(join(home, 'notes.txt'), 'of the operator');
  writeFileSync(join(home, 'queue.db'), 'of another program, which has that name too');
  const theirs = ['.', 'content', 'events', 'policy', 'notes.txt', 'queue.db'];
  for (const name of theirs) chmodSync(join(home, name), 0o755);
  await relay.start();
  await relay.stop();
  for (const name of ['events', 'content']) {
    rmSync(join(relay.dataDir, name), { recursive: true, force: true });
    symlinkSync(join(home, name), join(relay.dataDir, name));
  }
  for (const path of [home, join(home, 'notes.txt'), join(home, 'queue.db')]) {
    relay.configure({ database: { path } });
    await assert.rejects(relay.start());
  }
  relay.configure({ database: { path: 'queue.db' }, data_dir: home });
  await assert.rejects(relay.start());
  for (const name of theirs) assert.equal(lstatSync(join(home, name)).mode & 0o777, 0o755, name);
});

test('a lock on a file that others could open does not stop the start; one of a relay does', async (t) => {
  const relay = new RelayFixture();
  t.after(() => relay.destroy());
  mkdirSync(relay.dataDir, { recursive: true });
  const file = join(relay.dataDir, 'relay.lock');
  writeFileSync(file, '', { mode: 0o644 });
  chmodSync(file, 0o644);
  // Somebody else holds it, from another program.
  const script = `const d = new (require('node:sqlite').DatabaseSync)(${JSON.stringify(file)}); d.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE'); console.log('held'); setInterval(() => {}, 1e6)`;
  const holder = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  const lock = lockDataDir(relay.dataDir);
  assert.throws(() => lockDataDir(relay.dataDir), { code: 'already_running' });
  chmodSync(file, 0o644);
  assert.throws(() => lockDataDir(relay.dataDir), { code: 'already_running' });
  assert.equal(lstatSync(file).mode & 0o777, 0o600);
  lock.release();
});
