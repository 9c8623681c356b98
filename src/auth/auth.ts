/** What sessions ask of those who know the users, and the answers. Plain data: it crosses threads. */
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

/** Who logs in, as far as the mechanism tells before the end. */
export type Credentials =
  | { kind: 'password'; username: string; password: string }
  | { kind: 'cram-md5'; username: string; challenge: string; digest: Uint8Array }
  | { kind: 'scram'; username: string };

export interface AuthRequest {
  /** Names the request in its answer. */
  id: number;
  credentials: Credentials;
  /** Address of the client, for backends that want to know. */
  client: string;
}

export type AuthAnswer = { id: number } & AuthResult;

export type AuthResult =
  | { result: 'accepted'; user: User }
  | { result: 'rejected' }
  /** No backend could say. */
  | { result: 'unavailable' }
  /** The session itself proves the client by these. `user` is null for keys of a user that does not exist. */
  | { result: 'keys'; keys: ScramKeys; user: User | null };

/** A login by keys that the session took as proven, for whoever remembers who logged in from where. */
export interface AuthProof {
  client: string;
  username: string;
}

/** A login that failed, for whoever counts them (ban list) and for the log. Nothing the client sent is in it. */
export interface AuthFailure {
  client: string;
  session: string;
  mechanism: string;
}
