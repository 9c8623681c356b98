/** MariaDB servers for a benchmark: one a shard, each with a migrated database, durable at every commit. */
import { migrate } from '../../src/database/mysql/schema.ts';
import { MariaDb, serverConfig } from '../../test/services/mariadb.ts';
import type { Settings } from '../../test/support/relay-fixture.ts';
import { treeCpuSeconds } from './proc.ts';

export interface Shards {
  /** What the relay needs to use them. */
  settings: Settings;
  cpuSeconds(): number;
  /** Statements done since the start, by all. */
  statements(): Promise<number>;
  close(): Promise<void>;
}

/** @param count 1: driver mysql; more: mysql_distributed. */
export async function startShards(count: number, distributed = count > 1): Promise<Shards> {
  const servers: MariaDb[] = [];
  const shards: Record<string, unknown>[] = [];
  for (let i = 0; i < count; i++) {
    const server = await MariaDb.start({
      args: ['--innodb-buffer-pool-size=256M', '--innodb-log-file-size=256M'],
    });
    servers.push(server);
    const access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), Date.now());
    shards.push({ name: `s${i}`, ...access });
  }
  const { name: _, ...only } = shards[0] as Record<string, unknown>;
  return {
    settings: {
      node_id: 'bench',
      database: distributed ? { driver: 'mysql_distributed', shards } : { driver: 'mysql', ...only },
    },
    cpuSeconds: () => servers.reduce((sum, { pid }) => sum + treeCpuSeconds(pid), 0),
    async statements() {
      let sum = 0;
      for (const server of servers) sum += await questions(server);
      return sum;
    },
    async close() {
      for (const server of servers) await server.close();
    },
  };
}

/** What clients sent, BEGIN and COMMIT among it; a bulk statement is one. */
async function questions(server: MariaDb): Promise<number> {
  const rows = await server.query<{ Value: string }[]>("SHOW GLOBAL STATUS LIKE 'Questions'");
  return Number(rows[0]?.Value);
}
