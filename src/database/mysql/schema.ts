/** The tables of a MariaDB or MySQL queue: `protorelay db migrate` makes them, every start checks them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Connection } from 'mariadb';
import { RelayError } from '../../base/errors.ts';
import type { ServerConfig } from '../../config/schema.ts';
import { migrations } from '../migrations.ts';
import { connect, connectionOptions, serverName } from './connection.ts';
import { Endpoints } from './endpoints.ts';
import { mysqlError } from './errors.ts';

export const MYSQL_SQL_DIR = join(import.meta.dirname, '../../../config/sql/mysql');
const NO_SUCH_TABLE = 1146;
/** Error number for a column that exists already: MySQL has no ADD COLUMN IF NOT EXISTS. */
const COLUMN_IS_THERE = 1060;
/** With this lock, two migrations at the same time run one after the other. */
const LOCK = 'protorelay-migrate';
const LOCK_SECONDS = 60;

/** Statements of a script, in order. Strings in a script must hold no semicolon. */
function statements(script: string): string[] {
  return script
    .replaceAll(/--[^\n]*/g, '')
    .split(';')
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');
}

/** Version of the schema; 0 before the first migration. */
async function storedVersion(connection: Connection): Promise<number> {
  try {
    const rows = await connection.query<{ version: number | null }[]>(
      'SELECT MAX(version) AS version FROM relay_schema',
    );
    return rows[0]?.version ?? 0;
  } catch (error) {
    if ((error as { errno?: number }).errno === NO_SUCH_TABLE) return 0;
    throw error;
  }
}

/** @throws RelayError 'schema_unknown' unless the schema is the one this relay knows. */
export async function checkSchema(
  connection: Connection,
  server: string,
  sqlDir = MYSQL_SQL_DIR,
): Promise<void> {
  const newest = Math.max(...migrations(sqlDir).keys());
  const version = await storedVersion(connection);
  if (version === newest) return;
  const text =
    version > newest
      ? `schema version ${version}, this relay knows up to ${newest}: run the newer relay`
      : version === 0
        ? 'no tables of a relay: run "protorelay db migrate" as a user who may create tables'
        : `the older schema version ${version}: run "protorelay db migrate" (to ${newest}) as a user who may change tables`;
  throw new RelayError('schema_unknown', `${server} has ${text}`);
}

/**
 * Brings the tables up to date. May be run again after an interruption, and while relays run.
 * @returns the versions applied, [] when there was nothing to do.
 * @throws RelayError
 */
export async function migrate(
  server: ServerConfig,
  nowMs: number,
  sqlDir = MYSQL_SQL_DIR,
): Promise<number[]> {
  const name = serverName(server);
  let connection: Connection | null = null;
  try {
    const open = (one: ServerConfig): Promise<Connection> => connect(connectionOptions(one));
    connection = await new Endpoints(server, { connect: open }).open();
    await connection.query('SET autocommit = 1');
    const [locked] = await connection.query<{ got: number }[]>('SELECT GET_LOCK(?, ?) AS got', [
      LOCK,
      LOCK_SECONDS,
    ]);
    if (locked?.got !== 1) throw new RelayError('database_busy', `${name}: another migration is under way`);
    return await applyAll(connection, name, nowMs, sqlDir);
  } catch (error) {
    throw mysqlError(error, name);
  } finally {
    await connection?.end().catch(() => {}); // the lock ends with the connection
  }
}

async function applyAll(
  connection: Connection,
  name: string,
  nowMs: number,
  sqlDir: string,
): Promise<number[]> {
  const scripts = migrations(sqlDir);
  const newest = Math.max(...scripts.keys());
  const from = await storedVersion(connection);
  if (from > newest)
    throw new RelayError(
      'schema_unknown',
      `${name} has schema version ${from}, this relay knows up to ${newest}`,
    );
  const applied: number[] = [];
  for (let version = from + 1; version <= newest; version++) {
    const script = scripts.get(version);
    if (script === undefined) throw new RelayError('schema_unknown', `no migration ${version} in ${sqlDir}`);
    for (const statement of statements(readFileSync(script, 'utf8'))) await apply(connection, statement);
    await connection.query('INSERT INTO relay_schema (version, applied_at) VALUES (?, ?)', [version, nowMs]);
    applied.push(version);
  }
  return applied;
}

/** Does a statement. A column that exists already, from an interrupted migration, is no error. */
async function apply(connection: Connection, statement: string): Promise<void> {
  try {
    await connection.query(statement);
  } catch (error) {
    if ((error as { errno?: number }).errno !== COLUMN_IS_THERE) throw error;
  }
}
