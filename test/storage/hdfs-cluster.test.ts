/** hdfs_web against Hadoop's real HDFS: the conformance suite, fail-over, safe mode, permissions. */
import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { QueueFixture } from '../persistence/fixture.ts';
import { HdfsCluster, miniClusterClasspath } from '../services/hdfs-cluster.ts';
import { type Provider, storageConformance } from './conformance.ts';

const resolved = await miniClusterClasspath();
const skip = 'skip' in resolved ? resolved.skip : false;
const base = (dataDir: string): string => `/mail/${basename(dataDir)}`;
let cluster: HdfsCluster;

async function start(): Promise<void> {
  cluster = await HdfsCluster.start('classpath' in resolved ? resolved.classpath : '');
}
const stop = async (): Promise<void> => await cluster?.stop();

const provider: Provider = {
  name: 'hdfs_web',
  settings: (dataDir) => ({
    hdfs_web: {
      endpoints: cluster.endpoints,
      base_path: base(dataDir),
      user: 'hdfs',
      replication: 2,
      timeout_ms: 60_000,
    },
  }),
  objects: (dataDir) => cluster.command(`list ${base(dataDir)}`),
  lose: async (dataDir) => void (await cluster.command(`delete ${base(dataDir)}`)),
};

describe('real HDFS', { skip, timeout: 240_000 }, () => {
  before(start);
  after(stop);
  storageConformance(provider);

  function makeQueue(settings: object = {}): QueueFixture {
    const hdfs = provider.settings('/shared').hdfs_web;
    return new QueueFixture({ storage: { provider: 'hdfs_web', hdfs_web: { ...hdfs, ...settings } } });
  }

  it('stores files of ours alone: readable by us, with the replication asked for', async () => {
    const queue = makeQueue();
    await queue.add(['a@one.test']);
    const [path = ''] = await cluster.command('list /mail/shared');
    const [, replication, permission, owner] = await cluster.command(`status ${path}`);
    assert.deepEqual([replication, permission, owner], ['2', 'rw-------', 'hdfs']);
    await queue.close();
  });

  it('goes over to the namenode that became active, reading and writing', async () => {
    const queue = makeQueue();
    const before = await queue.add(['a@one.test']);
    await cluster.command('active 1');
    assert.match((await queue.cat(before)) ?? '', /content of/);
    const during = await queue.add(['b@one.test']);
    await cluster.command('active 0');
    assert.match((await queue.cat(during)) ?? '', /content of/);
    assert.deepEqual(
      queue.notes.map(({ event }) => event),
      ['storage.endpoint_changed', 'storage.endpoint_changed'],
    );
    await queue.close();
  });

  it('refuses for now while the cluster is in safe mode, and goes on after', async () => {
    const queue = makeQueue({ timeout_ms: 1000 });
    await cluster.command('safemode on');
    const message = queue.message(['a@one.test']);
    const commit = () => queue.database.commit(queue.batch({ messages: [queue.plan(message)] }));
    await assert.rejects(commit(), { code: 'storage_unavailable' });
    await cluster.command('safemode off');
    const until = Date.now() + 15_000;
    let code = '';
    while (code !== 'committed' && Date.now() < until)
      code = await commit().then(
        ({ messages }) => messages[0] as string,
        (error: { code: string }) => error.code,
      );
    assert.equal(code, 'committed');
    await queue.close();
  });

  it('says permanently that a user may not write there, with what HDFS says', async () => {
    const queue = makeQueue({ base_path: '/forbidden' });
    const message = queue.message(['a@one.test']);
    await assert.rejects(queue.database.commit(queue.batch({ messages: [queue.plan(message)] })), {
      code: 'storage_failed',
      message: /AccessControlException: Permission denied: user=hdfs/,
    });
    await queue.close();
  });
});
