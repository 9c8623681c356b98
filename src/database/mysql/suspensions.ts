/** The rules of operators on a server: nodes tell each other there (src/suspensions). */
import type { Connection } from 'mariadb';
import type { SuspensionRule } from '../../mail/suspension.ts';
import type { RulesAnswer } from '../database.ts';
import { bulk } from './insert.ts';

/** Rules that are over are kept for as long as replicas remember them. */
const KEEP_MS = 30 * 86_400_000;

interface Row {
  id: string;
  rule: string;
  createdAtMs: number;
  untilMs: number | null;
  endedAtMs: number | null;
}

/** Takes what is news, and answers with all rules. @param digest of the last answer. */
export async function exchangeRules(
  connection: Connection,
  news: readonly SuspensionRule[],
  digest: string,
): Promise<RulesAnswer> {
  if (news.length > 0) await takeRules(connection, news);
  const now = await digestOf(connection);
  if (now === digest) return null;
  const rows = await connection.query<Row[]>(
    `SELECT id, rule, created_at AS createdAtMs, until_at AS untilMs, ended_at AS endedAtMs
     FROM relay_suspensions`,
  );
  return { digest: now, rules: rows.map(({ rule, ...row }) => ({ ...JSON.parse(rule), ...row })) };
}

async function takeRules(connection: Connection, news: readonly SuspensionRule[]): Promise<void> {
  await bulk(
    connection,
    `INSERT INTO relay_suspensions (id, rule, created_at, until_at, ended_at) VALUES (?, ?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE ended_at = COALESCE(ended_at, VALUES(ended_at))`,
    news.map(({ id, createdAtMs, untilMs, endedAtMs, ...rule }) => [
      id,
      JSON.stringify(rule),
      createdAtMs,
      untilMs,
      endedAtMs,
    ]),
  );
  await connection.query(
    'DELETE FROM relay_suspensions WHERE COALESCE(ended_at, until_at) < UNIX_TIMESTAMP() * 1000 - ?',
    [KEEP_MS],
  );
}

/** Text that differs when there are other rules, or other ends. (CRC32 would not do: equal changes of two rules cancel out.) */
async function digestOf(connection: Connection): Promise<string> {
  const [row] = await connection.query<{ digest: string }[]>(
    `SELECT CONCAT(COUNT(*), ' ', COUNT(ended_at), ' ',
       BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT(id, ':', ended_at IS NOT NULL)), 15), 16, 10) AS UNSIGNED))) AS digest
     FROM relay_suspensions`,
  );
  return row?.digest ?? '';
}
