/** A place that users come from; the authenticator asks several in order. One that throws or is late gave no answer. */
import type { ScramKeys } from '../protocol/sasl/scram.ts';
import type { GivenRules } from './rules.ts';

export interface Login {
  username: string;
  password: string;
  /** Address of the client. */
  client: string;
}

/** What SCRAM (keys) and CRAM-MD5 (password) need; a backend gives what it has. */
export interface Secrets {
  keys: ScramKeys | null;
  password: string | null;
  rules: GivenRules;
}

/** Which of the mechanisms that do not send the password the stored secrets can serve. */
export interface Serves {
  scram: boolean;
  cram: boolean;
}

export interface Backend {
  /** For the log: 'file users.txt'. */
  readonly name: string;
  readonly timeoutMs: number;
  /** It answers at once and waits for nobody, so it needs no timeout. */
  readonly immediate?: boolean;
  /** Looks for changes; awaited before a remembered login counts. True when something changed. */
  refresh?(): Promise<boolean>;
  /** The rules of the user; null when user or password is wrong. Takes equally long whichever it is. */
  login(login: Login, signal: AbortSignal): Promise<GivenRules | null>;
  /** null when there is no such user. Absent where passwords can only be tried. */
  secrets?(username: string, signal: AbortSignal): Promise<Secrets | null>;
  /** Looks at what is stored; null where that cannot be told, or nothing is. Absent: as whether there are `secrets`. */
  serves?(signal: AbortSignal): Promise<Serves | null>;
}
