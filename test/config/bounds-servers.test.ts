/**
 * The same as bounds.test.ts for the keys that have servers behind them: shards on MariaDB, Redis, the journal, HDFS.
 * BOUNDS=… as there.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { WebHdfsServer } from '../services/webhdfs-server.ts';
import type { Settings } from '../support/relay-fixture.ts';
import { type End, each, failures, KEYS, type Kind, type Plan, refusal } from './bounds-fixture.ts';

const HERE = KEYS.filter(({ name }) =>
  /^(database\.(?!max_messages)|journal\.|storage\.hdfs_web|scheduler\.|lease_ms|clock_)/.test(name),
);
/** So little time that a busy machine does not keep to it. */
const HASTY =
  /connection_timeout_ms|query_timeout_ms|redis\.timeout_ms|hdfs_web\.timeout_ms|clock_max_offset_ms/;

function kindOf(name: string, end: End): Kind {
  if (end === 'min') return HASTY.test(name) ? 'patience' : 'common';
  // A thousand connections at once are more than the server of a test has.
  return name.endsWith('initial_pool_size') ? 'long' : 'common';
}

/** What two keys that bound each other leave room for, so that both ends of both are started. */
const ROOM: Record<End, { pool: Settings; journal: Settings }> = {
  min: { pool: { initial_pool_size: 0 }, journal: { segment_mb: 1 } },
  max: { pool: { max_pool_size: 1000 }, journal: { max_mb: 1_048_576 } },
};

interface Servers {
  plans(end: End): Plan[];
  stop(): Promise<void>;
}

async function start(): Promise<Servers> {
  const server = await MariaDb.start({ args: ['--max-connections=2500'] });
  const redis = await RedisServer.start();
  const hdfs = await new WebHdfsServer().start();
  const shards: (DatabaseAccess & { name: string })[] = [];
  for (const name of ['one', 'two']) {
    const access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), Date.now());
    shards.push({ name, ...access });
  }
  const base = (end: End, database: Settings): Settings => ({
    hostname: 'relay.test',
    data_dir: 'data',
    node_id: 'bounds',
    accept_processes: 1,
    session_threads: 1,
    delivery_threads: 1,
    listeners: [{ host: '127.0.0.1', port: 0 }],
    inbound_ack_mode: 'after_journal',
    persist_min_available_memory_mb: 0,
    persist_min_free_disk_mb: 0,
    persist_min_db_available_connections: 0,
    // Longer than any query_timeout_ms.
    lease_ms: 3_600_000,
    database,
    journal: ROOM[end].journal,
    scheduler: { engine: 'bullmq', redis: { url: `redis://127.0.0.1:${redis.port}` } },
    storage: { provider: 'hdfs_web', hdfs_web: { endpoints: hdfs.endpoints } },
    delivery: { enabled: false, smarthost: { host: '127.0.0.1', port: 2 } },
    log: { level: 'info', format: 'json', file: null },
  });
  const stop = async (): Promise<void> => {
    await redis.close();
    await hdfs.stop();
    await server.close();
  };
  // A database knows which shard it is.
  const prepare = async (): Promise<void> => {
    for (const shard of shards) await server.empty(shard);
  };
  const plans = (end: End): Plan[] => {
    const roomy = shards.map((shard) => ({ ...shard, ...ROOM[end].pool }));
    const databases: Settings[] = [{ driver: 'mysql_distributed', shards: roomy }];
    const { name: _, ...alone } = roomy[0] as (typeof roomy)[0];
    // Its keys are those of a shard.
    if (each) databases.push({ driver: 'mysql', ...alone });
    return databases.map((database) => ({ base: base(end, database), keys: HERE, kindOf, prepare }));
  };
  return { plans, stop };
}

test('the relay lives with every number of its servers at both ends', {
  skip: skipWithoutMariaDb() || skipWithoutRedis(),
  timeout: each ? 3_600_000 : 240_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'bounds-servers-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { plans, stop } = await start();
  t.after(stop);
  for (const end of ['min', 'max'] as const)
    for (const plan of plans(end)) {
      assert.equal(refusal(plan.base), '');
      assert.deepEqual(await failures(folder, plan, end), []);
    }
});
