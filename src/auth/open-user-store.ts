/** Opens what `protorelay user` changes: the file or the table of a backend, in SQLite or on a server. */

import { readIfThere } from '../base/changed-file.ts';
import { RelayError } from '../base/errors.ts';
import type { Config, ServerConfig } from '../config/schema.ts';
import { schemeOf } from './hashes.ts';
import { changeUser, parseUserFile } from './user-file.ts';
import { usersServer } from './user-server.ts';
import { ServerStore, type UserServerAccess } from './user-server-store.ts';
import type { ListedUser, UserStore } from './user-store.ts';
import { listRows, openUserTable } from './user-table.ts';

/** Which backend is meant, where there are several. */
export interface ChosenStore {
  path?: string | undefined;
  /** The table in the database of the queue. */
  ofQueue?: boolean | undefined;
}

/**
 * The store of the chosen backend, or of the first that has one.
 * @param access gives access to the server of the queue.
 * @throws RelayError config_invalid when there is none.
 */
export function openUserStore(
  { auth, database }: Config,
  { path, ofQueue = false }: ChosenStore,
  access: (server: ServerConfig) => UserServerAccess,
): UserStore {
  const stores = auth.backends.filter(({ type }) => type === 'file' || type === 'database');
  const chosen = ofQueue
    ? stores.find((backend) => backend.path === undefined)
    : stores.find((backend) => path === undefined || backend.path === path);
  if (chosen === undefined) {
    const which = ofQueue
      ? 'no backend of type "database" without a path'
      : `${path === undefined ? 'no backend' : `no backend with the path ${path}`} of type "file" or "database"`;
    throw new RelayError(
      'config_invalid',
      `auth.backends has ${which}; add for example { "type": "file", "path": "users.txt" }`,
    );
  }
  if (chosen.path !== undefined)
    return chosen.type === 'file' ? new FileStore(chosen.path) : new TableStore(chosen.path);
  return new ServerStore(access(usersServer(database) as ServerConfig));
}

class FileStore implements UserStore {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async list(): Promise<ListedUser[]> {
    const { users } = parseUserFile(readIfThere(this.path));
    return [...users]
      .map(([username, { hash, rules }]) => ({ username, scheme: schemeOf(hash) ?? '', rules }))
      .sort((a, b) => (a.username < b.username ? -1 : 1));
  }

  async add(username: string, hash: string, rules: Record<string, string>): Promise<boolean> {
    const words = Object.entries(rules).map(([name, value]) => ` ${name}=${value}`);
    return this.#change(username, (rest) => (rest === null ? hash + words.join('') : undefined));
  }

  async setHash(username: string, hash: string): Promise<boolean> {
    return this.#change(username, (rest) =>
      rest === null ? undefined : [hash, ...rest.split(/\s+/).slice(1)].join(' '),
    );
  }

  async remove(username: string): Promise<boolean> {
    return this.#change(username, (rest) => (rest === null ? undefined : null));
  }

  /** @param change returns what shall stand after the name, null to delete the line, undefined to change nothing. */
  #change(username: string, change: (rest: string | null) => string | null | undefined): boolean {
    let changed = true;
    changeUser(this.path, username, (rest) => {
      const next = change(rest);
      changed = next !== undefined;
      return next === undefined ? rest : next;
    });
    return changed;
  }

  async close(): Promise<void> {}
}

class TableStore implements UserStore {
  readonly path: string;
  readonly #database: ReturnType<typeof openUserTable>;

  constructor(path: string) {
    this.path = path;
    this.#database = openUserTable(path);
  }

  async list(): Promise<ListedUser[]> {
    return listRows(this.#database).map(({ username, hash, ...columns }) => ({
      username,
      scheme: schemeOf(hash) ?? '',
      rules: Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== null)),
    }));
  }

  async add(username: string, hash: string, rules: Record<string, string>): Promise<boolean> {
    const names = ['username', 'hash', ...Object.keys(rules)];
    const sql = `INSERT INTO users (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')}) ON CONFLICT DO NOTHING`;
    return this.#run(sql, username, hash, ...Object.values(rules));
  }

  async setHash(username: string, hash: string): Promise<boolean> {
    return this.#run('UPDATE users SET hash = ? WHERE username = ?', hash, username);
  }

  async remove(username: string): Promise<boolean> {
    return this.#run('DELETE FROM users WHERE username = ?', username);
  }

  #run(sql: string, ...values: string[]): boolean {
    return this.#database.prepare(sql).run(...values).changes === 1;
  }

  async close(): Promise<void> {
    this.#database.close();
  }
}
