/** The users that `protorelay user` lists and changes, wherever they are kept. */
export interface ListedUser {
  username: string;
  scheme: string;
  rules: Record<string, unknown>;
}

export interface UserStore {
  readonly path: string;
  list(): Promise<ListedUser[]>;
  /** False when there is such a user already. */
  add(username: string, hash: string, rules: Record<string, string>): Promise<boolean>;
  /** False when there is no such user. */
  setHash(username: string, hash: string): Promise<boolean>;
  remove(username: string): Promise<boolean>;
  close(): Promise<void>;
}
