/** Opens the queue on one server: connects, checks that its tables are ours and that it is the shard we take it for. */
import { RelayError } from '../../base/errors.ts';
import type { Arena } from '../../native.ts';
import type { Storage } from '../../storage/storage.ts';
import type { ShardServer } from '../shard-servers.ts';
import { serverName } from './connection.ts';
import { Endpoints } from './endpoints.ts';
import { mysqlError } from './errors.ts';
import { MysqlDatabase, type MysqlOptions } from './mysql-database.ts';
import { claimShard, storageOwner } from './nodes.ts';
import { ConnectionPool } from './pool.ts';
import { checkSchema } from './schema.ts';
import { Transactions } from './transaction.ts';

/**
 * @param maxConnections the limit of this pool; a process may have several pools.
 * @param openStorage opens the storage for contents, given the name of this queue in storage shared with others.
 * @throws RelayError when the server cannot be reached, or its tables are not those this relay knows.
 */
export async function openMysql(
  shard: ShardServer,
  maxConnections: number,
  openStorage: (owner: string) => Storage,
  arena: Arena,
  options: Omit<MysqlOptions, 'server' | 'database' | 'queue'>,
): Promise<MysqlDatabase> {
  const { server } = shard;
  const name = serverName(server);
  const pool = new ConnectionPool({
    server,
    endpoints: new Endpoints(server),
    maxConnections,
    initialConnections: Math.min(server.initial_pool_size, maxConnections),
  });
  const transactions = new Transactions({ pool, timeoutMs: server.query_timeout_ms });
  let owner: string;
  try {
    await pool.warm();
    await transactions.read((connection) => checkSchema(connection, name));
    const found = await transactions.read((connection) => claimShard(connection, shard.id));
    if (found !== shard.id)
      throw new RelayError(
        'schema_unknown',
        `${name} holds the mail of shard ${found}, the config has it as shard ${shard.id} ("${shard.name}"): keep the shards in their order, or give each its "id"`,
      );
    owner = await transactions.read(storageOwner);
  } catch (error) {
    await transactions.close();
    throw mysqlError(error, name);
  }
  return new MysqlDatabase(transactions, openStorage(owner), arena, {
    ...options,
    server: name,
    database: server.database,
    queue: owner,
  });
}
