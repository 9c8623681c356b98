/** A place users come from; the authenticator asks several in order. What throws or takes too long could not say. */
import type { ScramKeys } from '../protocol/sasl/scram.ts';
import type { GivenRules } from './rules.ts';

export interface Login {
  username: string;
  password: string;
  /** Address of the client. */
  client: string;
}

/** What SCRAM and CRAM-MD5 need of a user; a backend gives what it has. */
export interface Secrets {
  keys: ScramKeys | null;
  password: string | null;
  rules: GivenRules;
}

export interface Backend {
  /** For the log: 'file users.txt'. */
  readonly name: string;
  readonly timeoutMs: number;
  /** It knows everything itself and waits for nobody: it needs no signal. */
  readonly immediate?: boolean;
  /** Settled before an answer is given that is based on what was known before. True when something changed. */
  refresh?(): Promise<boolean>;
  /** The rules of the user; null when user or password are not right. Takes as long for one as for the other. */
  login(login: Login, signal: AbortSignal): Promise<GivenRules | null>;
  /** null when there is no such user. Absent where passwords can only be tried. */
  secrets?(username: string, signal: AbortSignal): Promise<Secrets | null>;
}
