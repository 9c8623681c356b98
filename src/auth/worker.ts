/** Entry of a thread of the auth pools (piscina): hashes, rows of users and PAM, whatever takes its time. */
import { setPriority } from 'node:os';
import { pamAuthenticate } from '../native.ts';
import { scramKeys } from '../protocol/sasl/scram.ts';
import { verifyHash } from './hashes.ts';
import type { AuthTask, AuthTaskResults } from './tasks.ts';
import { UserTable } from './user-table.ts';

/** Sessions, persistence and delivery go first: guessing passwords must not slow down mail. */
const NICE = 10;

if (process.platform === 'linux') {
  try {
    setPriority(0, NICE); // on Linux a priority is a thread's own
  } catch {
    // Not allowed here; the queue of the pool still bounds what can be asked.
  }
}

const tables = new Map<string, UserTable>();
/** By table, the hash of the last user found: unknown users cost as much time as known ones. */
const samples = new Map<string, string>();

function table(path: string, query: string | undefined): UserTable {
  const key = `${path}\0${query ?? ''}`;
  let found = tables.get(key);
  if (found === undefined) {
    found = new UserTable(path, query);
    tables.set(key, found);
  }
  return found;
}

function row({
  path,
  query,
  username,
  password,
}: Extract<AuthTask, { kind: 'row' }>): AuthTaskResults['row'] {
  const account = find(path, query, username);
  if (password === null) return account;
  if (account !== null) samples.set(path, account.hash);
  const hash = account?.hash ?? samples.get(path);
  const matches = hash !== undefined && verifyHash(hash, password);
  return matches ? account : null;
}

function find(path: string, query: string | undefined, username: string): AuthTaskResults['row'] {
  try {
    return table(path, query).find(username);
  } catch (error) {
    // The file may have been put aside or changed its columns: the next try opens it anew.
    const key = `${path}\0${query ?? ''}`;
    tables.get(key)?.close();
    tables.delete(key);
    throw error;
  }
}

export default function run(task: AuthTask): AuthTaskResults[AuthTask['kind']] {
  switch (task.kind) {
    case 'verify':
      return verifyHash(task.hash, task.password);
    case 'derive':
      return scramKeys(task.password, task.salt, task.iterations);
    case 'row':
      return row(task);
    case 'pam':
      return pamAuthenticate(task);
  }
}
