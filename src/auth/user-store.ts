/** Where `protorelay user` keeps users: the file or the table of a backend, behind one interface. */
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import { schemeOf } from './hashes.ts';
import { changeUser, parseUserFile, readUserFile } from './user-file.ts';
import { listRows, openUserTable } from './user-table.ts';

export interface ListedUser {
  username: string;
  scheme: string;
  rules: Record<string, unknown>;
}

export interface UserStore {
  readonly path: string;
  list(): ListedUser[];
  /** False when there is such a user already. */
  add(username: string, hash: string, rules: Record<string, string>): boolean;
  /** False when there is no such user. */
  setHash(username: string, hash: string): boolean;
  remove(username: string): boolean;
  close(): void;
}

/**
 * The store of the first backend that has one, or of the one with this path.
 * @throws RelayError config-invalid when there is none.
 */
export function openUserStore({ auth }: Config, path: string | undefined): UserStore {
  const stores = auth.backends.filter(
    (backend) => (backend.type === 'file' || backend.type === 'database') && backend.path !== undefined,
  );
  const chosen = stores.find((backend) => path === undefined || backend.path === path);
  if (chosen?.path === undefined) {
    const which = path === undefined ? 'no backend' : `no backend with the path ${path}`;
    throw new RelayError(
      'config-invalid',
      `auth.backends has ${which} of type "file" or "database" with a path; add { "type": "file", "path": "users.txt" }`,
    );
  }
  return chosen.type === 'file' ? new FileStore(chosen.path) : new TableStore(chosen.path);
}

class FileStore implements UserStore {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  list(): ListedUser[] {
    const { users } = parseUserFile(readUserFile(this.path));
    return [...users]
      .map(([username, { hash, rules }]) => ({ username, scheme: schemeOf(hash) ?? '', rules }))
      .sort((a, b) => (a.username < b.username ? -1 : 1));
  }

  add(username: string, hash: string, rules: Record<string, string>): boolean {
    const words = Object.entries(rules).map(([name, value]) => ` ${name}=${value}`);
    return this.#change(username, (rest) => (rest === null ? hash + words.join('') : undefined));
  }

  setHash(username: string, hash: string): boolean {
    return this.#change(username, (rest) =>
      rest === null ? undefined : [hash, ...rest.split(/\s+/).slice(1)].join(' '),
    );
  }

  remove(username: string): boolean {
    return this.#change(username, (rest) => (rest === null ? undefined : null));
  }

  /** @param change undefined: leave it all as it is. */
  #change(username: string, change: (rest: string | null) => string | null | undefined): boolean {
    let changed = true;
    changeUser(this.path, username, (rest) => {
      const next = change(rest);
      changed = next !== undefined;
      return next === undefined ? rest : next;
    });
    return changed;
  }

  close(): void {}
}

class TableStore implements UserStore {
  readonly path: string;
  readonly #database: ReturnType<typeof openUserTable>;

  constructor(path: string) {
    this.path = path;
    this.#database = openUserTable(path);
  }

  list(): ListedUser[] {
    return listRows(this.#database).map(({ username, hash, ...columns }) => ({
      username,
      scheme: schemeOf(hash) ?? '',
      rules: Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== null)),
    }));
  }

  add(username: string, hash: string, rules: Record<string, string>): boolean {
    const names = ['username', 'hash', ...Object.keys(rules)];
    const sql = `INSERT INTO users (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')}) ON CONFLICT DO NOTHING`;
    return this.#run(sql, username, hash, ...Object.values(rules));
  }

  setHash(username: string, hash: string): boolean {
    return this.#run('UPDATE users SET hash = ? WHERE username = ?', hash, username);
  }

  remove(username: string): boolean {
    return this.#run('DELETE FROM users WHERE username = ?', username);
  }

  #run(sql: string, ...values: string[]): boolean {
    return this.#database.prepare(sql).run(...values).changes === 1;
  }

  close(): void {
    this.#database.close();
  }
}
