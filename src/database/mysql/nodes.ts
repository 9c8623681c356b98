/** What nodes leave for each other and for their own later lives: commits, numbers, the route table, users' shards. */
import { randomBytes } from 'node:crypto';
import type { Connection } from 'mariadb';
import type { CommitResult, NodeSlot } from '../database.ts';
import { bulk } from './insert.ts';
import { selectIn } from './sql.ts';

/** Records of commits are kept for this long: nobody needs those of lives that are long over. */
const KEEP_COMMITS_MS = 86_400_000;
const FORGET_ROWS = 1000;

/**
 * Checks that we can work: that we may read and change the tables, on a server that takes writes. It changes nothing
 * and meets no lock: the row it inserts is its own, and is rolled back. @throws the server's error.
 */
export async function probe(connection: Connection, owner: string): Promise<void> {
  const lane = `${owner}:probe-${randomBytes(8).toString('hex')}`;
  await connection.query(
    "INSERT INTO relay_commits (lane, token, result, committed_at) VALUES (?, '', '', 0)",
    [lane],
  );
  for (const [table, key] of PROBED) {
    await connection.query(`UPDATE ${table} SET ${key} = ${key} WHERE ${key} = ''`);
    await connection.query(`DELETE FROM ${table} WHERE ${key} = ''`);
  }
  await connection.query('ROLLBACK');
}

const PROBED = [
  ['mails', 'id'],
  ['mail_recipients', 'mail_id'],
  ['mail_outbox', 'mail_id'],
];

/** What became of a commit of this life; null when it did not happen. Waits for one that is under way. */
export async function fateOf(
  connection: Connection,
  owner: string,
  token: string,
): Promise<CommitResult | null> {
  const rows = await connection.execute<{ token: string; result: string }[]>(
    'SELECT token, result FROM relay_commits WHERE lane >= ? AND lane < ? FOR UPDATE',
    [`${owner}:`, `${owner};`],
  );
  const found = rows.find((row) => row.token === token);
  return found === undefined ? null : (JSON.parse(found.result) as CommitResult | null);
}

/** Takes a slot that is free, ours, or left by a process not seen for long. */
export async function enroll(connection: Connection, slot: NodeSlot): Promise<boolean> {
  const { slot: number, node, nowMs, staleBeforeMs } = slot;
  await connection.execute(
    `INSERT INTO relay_nodes (slot, node, seen_at) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE
       node = IF(node = VALUES(node) OR seen_at < ?, VALUES(node), node),
       seen_at = IF(node = VALUES(node), VALUES(seen_at), seen_at)`,
    [number, node, nowMs, staleBeforeMs],
  );
  await forgetCommits(connection, nowMs - KEEP_COMMITS_MS);
  const rows = await connection.execute<{ node: string }[]>('SELECT node FROM relay_nodes WHERE slot = ?', [
    number,
  ]);
  return rows[0]?.node === node;
}

/** Deletes records of old commits. Skips those of commits under way. */
async function forgetCommits(connection: Connection, beforeMs: number): Promise<void> {
  const old = await connection.execute<{ lane: string }[]>(
    `SELECT lane FROM relay_commits WHERE committed_at < ? LIMIT ${FORGET_ROWS} FOR UPDATE SKIP LOCKED`,
    [beforeMs],
  );
  await bulk(
    connection,
    'DELETE FROM relay_commits WHERE lane = ?',
    old.map(({ lane }) => [lane]),
  );
}

export async function newestQueueId(connection: Connection): Promise<string | null> {
  const [row] = await connection.query<{ id: string | null }[]>('SELECT MAX(id) AS id FROM mails');
  return row?.id ?? null;
}

export async function storedRoutes(connection: Connection): Promise<string | null> {
  const [row] = await connection.query<{ value: string }[]>(
    "SELECT value FROM relay_state WHERE name = 'routes'",
  );
  return row?.value ?? null;
}

export async function storeRoutes(connection: Connection, routes: string): Promise<void> {
  await connection.query(
    "INSERT INTO relay_state (name, value) VALUES ('routes', ?) ON DUPLICATE KEY UPDATE value = VALUES(value)",
    [routes],
  );
}

/** @returns the number of the shard that this database is; it becomes `shard` when it had no number before. */
export async function claimShard(connection: Connection, shard: number): Promise<number> {
  await connection.query("INSERT IGNORE INTO relay_state (name, value) VALUES ('shard', ?)", [`${shard}`]);
  const [row] = await connection.query<{ value: string }[]>(
    "SELECT value FROM relay_state WHERE name = 'shard'",
  );
  return Number(row?.value);
}

/** The name of this queue among all that share a root or a base path: made once, kept with the queue. */
export async function storageOwner(connection: Connection): Promise<string> {
  await connection.query("INSERT IGNORE INTO relay_state (name, value) VALUES ('storage_owner', ?)", [
    randomBytes(6).toString('hex'),
  ]);
  const [row] = await connection.query<{ value: string }[]>(
    "SELECT value FROM relay_state WHERE name = 'storage_owner'",
  );
  return row?.value as string;
}

export async function shardsOfUsers(connection: Connection, users: string[]): Promise<(string | null)[]> {
  const rows = await selectIn<{ user: string; shard: string }>(
    connection,
    'SELECT user_name AS user, shard FROM user_shards WHERE user_name IN %',
    users,
  );
  const found = new Map(rows.map(({ user, shard }) => [user, shard]));
  return users.map((user) => found.get(user) ?? null);
}
