/** What sessions ask the main thread about logins, and its answers. Plain data: it crosses threads. */
import type { ScramKeys } from '../protocol/sasl/scram.ts';

export interface UserQuotas {
  /** 0: no limit. */
  messagesPerHour: number;
  messagesPerDay: number;
  recipientsPerHour: number;
  recipientsPerDay: number;
}

export interface UserRules {
  senderPolicy: 'any' | 'login' | 'list';
  /** Addresses, or '@domain'. */
  senders: string[];
  quotas: UserQuotas;
}

export interface User {
  name: string;
  rules: UserRules;
}

/** Who logs in, and what the mechanism has sent of proof so far. */
export type Credentials =
  | { kind: 'password'; username: string; password: string }
  | { kind: 'cram-md5'; username: string; challenge: string; digest: Uint8Array }
  | { kind: 'scram'; username: string };

export interface AuthRequest {
  /** Names the request in its answer. */
  id: number;
  credentials: Credentials;
  /** Address of the client, for backends that want to know it. */
  client: string;
}

export type AuthAnswer = { id: number } & AuthResult;

export type AuthResult =
  | { result: 'accepted'; user: User }
  | { result: 'rejected' }
  /** No backend could say. */
  | { result: 'unavailable' }
  /** With these the session checks the client's proof itself. `user` is null where they are keys of nobody. */
  | { result: 'keys'; keys: ScramKeys; user: User | null };

/** A login by keys that a session found proven: the authenticator remembers who logged in from where. */
export interface AuthProof {
  client: string;
  username: string;
}

/** A login that failed, for the log and for those who count failures. Nothing that the client sent is in it. */
export interface AuthFailure {
  client: string;
  session: string;
  mechanism: string;
}
