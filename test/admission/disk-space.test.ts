import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { type DiskConfig, DiskSpace, freeDisk } from '../../src/admission/disk-space.ts';
import { configSchema } from '../../src/config/schema.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const log = { debug() {}, info() {}, warn() {}, error() {} };

async function free(storage: object, disks: Record<string, number>, more: object = {}): Promise<number> {
  const config: DiskConfig = configSchema.parse({ data_dir: '/data', storage, ...more });
  const space = new DiskSpace(log, async (path) => disks[path] as number);
  space.freeBytes(config);
  await turn();
  return space.freeBytes(config);
}

it('the folder of local storage counts beside data_dir, in use only', async () => {
  const disks = { '/data': 500, '/mail': 100 };
  assert.equal(await free({ provider: 'local', local: { path: '/mail' } }, disks), 100);
  assert.equal(await free({ provider: 'database', local: { path: '/mail' } }, disks), 500);
});

it('with after_journal the folder of the journal counts instead of the storage', async () => {
  const disks = { '/data': 500, '/mail': 0, '/quick': 100 };
  const journal = { inbound_ack_mode: 'after_journal', journal: { path: '/quick' } };
  assert.equal(await free({ provider: 'local', local: { path: '/mail' } }, disks, journal), 100);
});

it('of the roots of distributed storage, as many as write_quorum must have room', async () => {
  const disks = { '/data': 500, '/a': 10, '/b': 200, '/c': 300 };
  const distributed = { roots: ['/a', '/b', '/c'], replica_count: 3 };
  for (const [write_quorum, expected] of [
    [1, 300],
    [2, 200],
    [3, 10],
  ])
    assert.equal(
      await free({ provider: 'distributed', distributed: { ...distributed, write_quorum } }, disks),
      expected,
    );
});

it('a disk that does not answer keeps its last figure', async () => {
  const config: DiskConfig = configSchema.parse({ data_dir: '/data' });
  let answers = 1;
  const space = new DiskSpace(log, () => (answers-- > 0 ? Promise.resolve(7) : new Promise(() => {})));
  space.freeBytes(config);
  await turn();
  for (let i = 0; i < 3; i++) {
    assert.equal(space.freeBytes(config), 7);
    await turn();
  }
});

it('a folder that is still to be made has the room of the disk it will be on', async () => {
  const made = await freeDisk(tmpdir());
  const missing = await freeDisk(join(tmpdir(), 'not', 'made', 'yet'));
  assert.ok(Math.abs(made - missing) < 1024 ** 3, `${made} ${missing}`);
});

it('a file system that counts no blocks is not a full one', {
  skip: process.platform !== 'linux',
}, async () => {
  await assert.rejects(freeDisk('/proc/nowhere'), /does not say how much space it has/);
});
