/** The servers of a configuration, as shards with their numbers. */
import type { Config, ServerConfig } from '../config/schema.ts';

export interface ShardServer {
  /** Part of the queue ids of its messages; never changes. */
  id: number;
  name: string;
  /** Share of new mail. */
  weight: number;
  server: ServerConfig;
}

/** [] with sqlite. */
export function shardServers(database: Config['database']): ShardServer[] {
  switch (database.driver) {
    case 'sqlite':
      return [];
    case 'mysql':
      return [{ id: 0, name: 'mysql', weight: 1, server: database }];
    case 'mysql_distributed':
      return database.shards.map((shard, i) => ({
        id: shard.id ?? i,
        name: shard.name,
        weight: shard.weight,
        server: shard,
      }));
  }
}
