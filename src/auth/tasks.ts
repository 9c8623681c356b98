/** The tasks of the threads of the auth pools, and their results. */
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
  /** Hashes of the first users of the table. */
  | { kind: 'hashes'; place: UserPlace }
  /** Gets the secret that all nodes share; where there is none yet, `ours` (hex) becomes it. */
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
  /** null: there is no such user, or its password is another. */
  row: { hash: string; rules: GivenRules } | null;
  hashes: string[];
  /** Hex. */
  'shared-secret': string;
  pam: boolean;
}
