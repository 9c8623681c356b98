/** What the main thread asks of the threads that compute hashes. */
import type { ServerConfig } from '../config/schema.ts';
import type { ScramKeys } from '../protocol/sasl/scram.ts';
import type { GivenRules } from './rules.ts';

/** Where a table of users is: in a file of SQLite, or on a server. */
export type UserPlace = { path: string } | { server: ServerConfig };

export type AuthTask =
  | { kind: 'verify'; hash: string; password: string }
  | { kind: 'derive'; password: string; salt: Uint8Array; iterations: number }
  /** Reads the user's row, and compares the password where one is given. */
  | { kind: 'row'; place: UserPlace; query: string | undefined; username: string; password: string | null }
  /** The secret that all nodes share, made of this one (hex) where there is none yet. */
  | { kind: 'shared-secret'; server: ServerConfig; ours: string }
  | {
      kind: 'pam';
      service: string;
      configDir: string | undefined;
      username: string;
      password: string;
      client: string;
    };

export interface AuthTaskResults {
  verify: boolean;
  derive: ScramKeys;
  /** null: no such user, or another password. */
  row: { hash: string; rules: GivenRules } | null;
  /** Hex. */
  'shared-secret': string;
  pam: boolean;
}
