/** Entry of a thread of the auth pools (piscina): whatever takes time, as hashes, rows of users and PAM. */
import { setPriority } from 'node:os';
import { DatabaseSync } from 'node:sqlite';
import type { Connection } from 'mariadb';
import type { ServerConfig } from '../config/schema.ts';
import { connect, connectionOptions } from '../database/mysql/connection.ts';
import { Endpoints } from '../database/mysql/endpoints.ts';
import { pamAuthenticate } from '../native.ts';
import { scramKeys } from '../protocol/sasl/scram.ts';
import { verifyHash } from './hashes.ts';
import type { AuthTask, AuthTaskResults } from './tasks.ts';
import type { Account } from './user-file.ts';
import { agreeOnSecret, USERS_SESSION, UserServer } from './user-server.ts';
import { SAMPLE_QUERY, UserTable } from './user-table.ts';

/** Sessions, persistence and delivery go first: guessing passwords must not slow down mail. */
const NICE = 10;

if (process.platform === 'linux') {
  try {
    setPriority(0, NICE); // on Linux a priority is a thread's own
  } catch {
    // Not allowed here; the queue of the pool still bounds what can be asked.
  }
}

interface Users {
  find(username: string): Promise<Account | null>;
  /** Hash of the last user found: unknown users are compared with it, so that they take as long as known ones. */
  sample: string | undefined;
}

const tables = new Map<string, Users>();

function usersOf({ place, query }: RowTask): Users {
  const key = JSON.stringify([place, query]);
  let found = tables.get(key);
  if (found === undefined) {
    found = 'path' in place ? usersOfFile(place.path, query) : usersOfServer(place.server, query);
    tables.set(key, found);
  }
  return found;
}

const toUsers = (server: ServerConfig): Promise<Connection> =>
  connect({ ...connectionOptions(server), initSql: USERS_SESSION });

function usersOfServer(server: ServerConfig, query: string | undefined): Users {
  const endpoints = new Endpoints(server, { connect: toUsers, onlyReads: true });
  const users = new UserServer(() => endpoints.open(), query);
  return { find: (username) => users.find(username), sample: undefined };
}

/** After a fault the file is opened anew: it may have been replaced, or its columns changed. */
function usersOfFile(path: string, query: string | undefined): Users {
  let table: UserTable | null = null;
  const find = async (username: string): Promise<Account | null> => {
    try {
      table ??= new UserTable(path, query);
      return table.find(username);
    } catch (error) {
      table?.close();
      table = null;
      throw error;
    }
  };
  return { find, sample: undefined };
}

type RowTask = Extract<AuthTask, { kind: 'row' }>;

/** Asked now and then, so over a connection of its own. */
async function hashes({ place }: Extract<AuthTask, { kind: 'hashes' }>): Promise<string[]> {
  const texts = (rows: { hash?: unknown }[]): string[] => rows.map(({ hash }) => String(hash));
  if ('path' in place) {
    const database = new DatabaseSync(place.path, { readOnly: true, timeout: 1000 });
    try {
      return texts(database.prepare(SAMPLE_QUERY).all());
    } finally {
      database.close();
    }
  }
  const connection = await new Endpoints(place.server, { connect: toUsers, onlyReads: true }).open();
  try {
    return texts(await connection.query<{ hash: unknown }[]>(SAMPLE_QUERY));
  } finally {
    connection.destroy();
  }
}

async function row(task: RowTask): Promise<Account | null> {
  const { username, password } = task;
  const users = usersOf(task);
  const account = await users.find(username);
  if (password === null) return account;
  if (account !== null) users.sample = account.hash;
  const hash = account?.hash ?? users.sample;
  const matches = hash !== undefined && verifyHash(hash, password);
  return matches ? account : null;
}

/** Asked once in the life of a process, so over a connection of its own. */
async function sharedSecret({ server, ours }: Extract<AuthTask, { kind: 'shared-secret' }>): Promise<string> {
  // Of the server's endpoints, the one that can be written to.
  const connection = await new Endpoints(server, { connect: toUsers }).open();
  try {
    return await agreeOnSecret(connection, ours);
  } finally {
    connection.destroy();
  }
}

export default async function run(task: AuthTask): Promise<AuthTaskResults[AuthTask['kind']]> {
  switch (task.kind) {
    case 'verify':
      return verifyHash(task.hash, task.password);
    case 'derive':
      return scramKeys(task.password, task.salt, task.iterations);
    case 'row':
      return row(task);
    case 'hashes':
      return hashes(task);
    case 'shared-secret':
      return sharedSecret(task);
    case 'pam':
      return pamAuthenticate(task);
  }
}
