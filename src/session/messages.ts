/** What crosses between the main thread and a session thread: batches, one postMessage per loop turn and direction. */
import type { AuthAnswer, AuthFailure, AuthProof, AuthRequest } from '../auth/auth.ts';
import type { Config } from '../config/schema.ts';
import type { ReturnPathKeys } from '../mail/return-path.ts';
import type { Wire } from '../mail/wire.ts';
import type { PolicyPlace } from '../policy/host-memory.ts';

export interface SessionThreadStart {
  config: Config;
  arena: SharedArrayBuffer;
  gauges: SharedArrayBuffer;
  /** Slot of the server's TLS context; -1: none. */
  tls: { server: number };
  /** What the policy shares over the host. */
  policy: PolicyPlace;
  /** See ToSession. */
  returnPaths?: ReturnPathKeys | null;
  /** Distinguishes the queue ids and session ids made by this thread. */
  origin: number;
  /** The file of feedback/suppression-filter.ts. */
  suppressionFilter?: string;
  /** See QueueIds. */
  notBeforeMs: number;
}

export type FromSession =
  | { type: 'ready'; reactorId: number }
  /**
   * Messages complete in this turn, in order. `tickets[i]` names the i-th one in its verdict; -1 when no verdict is
   * awaited (after_enqueue).
   */
  | { type: 'turn'; messages: Wire; tickets: number[]; closedPeers: string[] }
  /** Logins to check, those that failed (for the count), and those that a session itself found proven. */
  | ({ type: 'logins' } & LoginBatch)
  /** Users whose shard is asked for (router "table"). */
  | { type: 'users'; users: string[] }
  /** Is this target on the suppression list? */
  | { type: 'suppressed'; id: number; target: string }
  /** The first octets of what came to a return path (null: to the address for complaints). */
  | { type: 'report'; ticket: number; local: string | null; head: Uint8Array }
  | { type: 'drained' };

export interface LoginBatch {
  requests: AuthRequest[];
  failures: AuthFailure[];
  proofs: AuthProof[];
}

/** 0 = committed; else the reason the commit did not happen. */
export const VERDICT = { committed: 0, unavailable: 1, full: 2, failed: 3 } as const;

export type ToSession =
  /** Pairs ticket, verdict. */
  | { type: 'verdicts'; pairs: number[] }
  | { type: 'login'; answer: AuthAnswer }
  | { type: 'suppressed'; id: number; isSuppressed: boolean }
  /** Shards of the users, in order; null for a user not in user_shards, or for all when it could not be asked. */
  | { type: 'shards'; users: string[]; shards: (number | null)[] | null }
  /** Mail to this domain is read as reports; null: there is none. */
  | { type: 'return-paths'; keys: ReturnPathKeys | null }
  /** New values of what can change live. */
  | { type: 'config'; config: Config }
  /** Finish open transactions, answer 421 to the rest, then say 'drained'. */
  | { type: 'drain' }
  | { type: 'reopen-log' };
