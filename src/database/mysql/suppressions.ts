/** The suppression list on a server: what is asked of it (mail/suppression.ts), and entries that a settlement writes. */
import type { Connection } from 'mariadb';
import {
  counted,
  holdsLonger,
  isCount,
  type Suppression,
  type SuppressionAnswer,
  type SuppressionAnswers,
  type SuppressionAsk,
  type SuppressionKey,
  type SuppressionOrder,
  suppressionHash,
} from '../../mail/suppression.ts';
import type { SuppressionNotes } from '../database.ts';
import { bulk } from './insert.ts';
import { selectIn } from './sql.ts';

const COLUMNS = `tenant, target, scope, reason, source, detail, created_at AS createdAtMs, expires_at AS expiresAtMs`;

const INSERT = `INSERT INTO suppressions
    (hash, tenant, target, scope, reason, source, detail, created_at, expires_at, version)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON DUPLICATE KEY UPDATE reason = VALUES(reason), source = VALUES(source), detail = VALUES(detail),
    created_at = VALUES(created_at), expires_at = VALUES(expires_at)`;

const COUNT_ON = `INSERT INTO relay_state (name, value) VALUES ('suppression_version', '1')
  ON DUPLICATE KEY UPDATE value = CAST(value AS UNSIGNED) + 1`;

/** Tells this table from any other: whoever remembers rows of another one begins anew. */
const NAME_TABLE = `INSERT IGNORE INTO relay_state (name, value)
  VALUES ('suppression_epoch', FLOOR(1 + RAND() * 4503599627370495))`;

/** Whether the question changes rows, and so needs a transaction. */
export const changesSuppressions = ({ op }: SuppressionAsk): boolean =>
  op === 'put' || op === 'learn' || op === 'remove';

export async function answerSuppression(
  connection: Connection,
  ask: SuppressionAsk,
  notes: SuppressionNotes | null,
): Promise<SuppressionAnswer> {
  switch (ask.op) {
    case 'mark':
      return markOf(connection);
    case 'count':
      return countOf(connection);
    case 'hashes':
      return hashesOf(connection, ask);
    case 'find':
      return findSuppressions(connection, ask.pairs);
    case 'put':
      return putSuppressions(connection, ask.entries, ask.replace, notes);
    case 'learn':
      await orderSuppressions(connection, [ask.order], notes);
      return null;
    case 'remove':
      return remove(connection, ask.keys);
    case 'list':
      return listOf(connection, ask);
    case 'purge': {
      const sql = 'DELETE FROM suppressions WHERE expires_at <= ? LIMIT ?';
      return (await connection.query<{ affectedRows: number }>(sql, [ask.nowMs, ask.limit])).affectedRows;
    }
    default:
      return ask satisfies never;
  }
}

/**
 * Writes entries. From here to the end of the transaction no other one writes any: the counter's row is locked, so that versions
 * become visible in their order.
 */
async function putSuppressions(
  connection: Connection,
  entries: readonly Suppression[],
  replace: boolean,
  notes: SuppressionNotes | null,
): Promise<SuppressionAnswers['put']> {
  const version = await nextVersion(connection);
  // What the filter does not know is new, or was written on another node a moment ago: then it is replaced, if it is to be.
  const isKnown = ({ tenant, target }: Suppression): boolean =>
    notes?.mayHold(suppressionHash(tenant, target)) ?? true;
  const known = replace ? entries.filter(isKnown) : entries;
  const there = new Map((await findSuppressions(connection, known)).map((one) => [keyOf(one), one]));
  return write(connection, entries, { replace, notes, version, there });
}

/** Writes what bounces call for, as part of the transaction that settles them. */
export async function orderSuppressions(
  connection: Connection,
  orders: readonly SuppressionOrder[],
  notes: SuppressionNotes | null,
): Promise<void> {
  const version = await nextVersion(connection);
  const there = new Map((await findSuppressions(connection, orders)).map((one) => [keyOf(one), one]));
  for (const order of orders) {
    const same = [...there.values()].filter(
      (one) => one.tenant === order.tenant && one.target === order.target,
    );
    for (const entry of counted(order, same))
      await write(connection, [entry], { replace: isCount(entry), notes, version, there });
  }
}

async function nextVersion(connection: Connection): Promise<number> {
  await connection.query(COUNT_ON);
  await connection.query(NAME_TABLE);
  return (await markOf(connection)).version;
}

interface Writing {
  replace: boolean;
  notes: SuppressionNotes | null;
  version: number;
  /** What the table has, by key. */
  there: Map<string, Suppression>;
}

async function write(
  connection: Connection,
  entries: readonly Suppression[],
  { replace, notes, version, there }: Writing,
): Promise<SuppressionAnswers['put']> {
  const written = new Map<string, Suppression>();
  const sum = { added: 0, changed: 0 };
  for (const entry of entries) {
    const key = keyOf(entry);
    const before = there.get(key);
    if (before !== undefined && !replace && !holdsLonger(entry, before)) continue;
    sum[before === undefined ? 'added' : 'changed']++;
    there.set(key, entry);
    written.set(key, entry);
  }
  const rows = [...written.values()].map((one) => {
    const hash = suppressionHash(one.tenant, one.target);
    notes?.add(hash);
    const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = one;
    return [hash, tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs, version];
  });
  await bulk(connection, INSERT, rows);
  return sum;
}

const keyOf = ({ tenant, target, scope }: SuppressionKey): string => JSON.stringify([tenant, target, scope]);

async function findSuppressions(
  connection: Connection,
  pairs: readonly { tenant: string; target: string }[],
): Promise<Suppression[]> {
  const named = new Set(pairs.map(({ tenant, target }) => JSON.stringify([tenant, target])));
  const hashes = new Set(pairs.map(({ tenant, target }) => suppressionHash(tenant, target)));
  const rows = await selectIn<Suppression>(
    connection,
    `SELECT ${COLUMNS} FROM suppressions WHERE hash IN %`,
    [...hashes],
  );
  return rows.filter(({ tenant, target }) => named.has(JSON.stringify([tenant, target])));
}

async function remove(connection: Connection, keys: readonly SuppressionKey[]): Promise<number> {
  let removed = 0;
  for (const { tenant, target, scope } of keys) {
    const { affectedRows } = await connection.query<{ affectedRows: number }>(
      'DELETE FROM suppressions WHERE hash = ? AND tenant = ? AND target = ? AND scope = ?',
      [suppressionHash(tenant, target), tenant, target, scope],
    );
    removed += affectedRows;
  }
  return removed;
}

async function markOf(connection: Connection): Promise<SuppressionAnswers['mark']> {
  const rows = await connection.query<{ name: string; value: string }[]>(
    "SELECT name, value FROM relay_state WHERE name IN ('suppression_version', 'suppression_epoch')",
  );
  const numberOf = (name: string): number => Number(rows.find((row) => row.name === name)?.value ?? 0);
  return { epoch: numberOf('suppression_epoch'), version: numberOf('suppression_version') };
}

/** As the server last estimated it: counting millions of rows takes it seconds. */
async function countOf(connection: Connection): Promise<number> {
  const [row] = await connection.query<{ rows: number | null }[]>(
    `SELECT TABLE_ROWS AS \`rows\` FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'suppressions'`,
  );
  return Number(row?.rows ?? 0);
}

/** By version a page ends with all rows of its last version, so that none of them is left out. */
async function hashesOf(
  connection: Connection,
  { by, after, limit }: SuppressionAsk & { op: 'hashes' },
): Promise<SuppressionAnswers['hashes']> {
  const rows = await connection.query<{ hash: number; at: number }[]>(
    `SELECT hash, ${by} AS at FROM suppressions WHERE ${by} > ? ORDER BY ${by} LIMIT ?`,
    [after, limit],
  );
  const last = rows.at(-1);
  if (last === undefined || rows.length < limit) return { hashes: rows.map(({ hash }) => hash), last: null };
  const rest = await connection.query<{ hash: number }[]>(`SELECT hash FROM suppressions WHERE ${by} = ?`, [
    last.at,
  ]);
  return { hashes: [...rows, ...rest].map(({ hash }) => hash), last: last.at };
}

async function listOf(
  connection: Connection,
  { after, limit, tenant, reason }: SuppressionAsk & { op: 'list' },
): Promise<SuppressionAnswers['list']> {
  const from = after === '' ? [-1, '', '', ''] : (JSON.parse(after) as [number, string, string, string]);
  const rows = await connection.query<(Suppression & { hash: number })[]>(
    `SELECT hash, ${COLUMNS} FROM suppressions
     WHERE (hash > ? OR (hash = ? AND (tenant, target, scope) > (?, ?, ?))) AND scope NOT LIKE 'count:%' AND (? IS NULL OR tenant = ?)
       AND (? IS NULL OR reason = ?)
     ORDER BY hash, tenant, target, scope LIMIT ?`,
    [from[0], ...from, tenant, tenant, reason, reason, limit],
  );
  const last = rows.at(-1);
  const next =
    last === undefined || rows.length < limit
      ? null
      : JSON.stringify([last.hash, last.tenant, last.target, last.scope]);
  return { entries: rows.map(({ hash, ...entry }) => entry), next };
}
