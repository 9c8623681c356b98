/** What a destination asks of, and tells, the sender it belongs to. */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Arena } from '../native.ts';
import type { Attempt } from './attempt.ts';
import type { ClientSession } from './client/session.ts';
import type { RememberedHosts } from './remembered-hosts.ts';
import type { Host, Route } from './route.ts';

/** @template Destination the one that asks. */
export interface DestinationPorts<Destination> {
  readonly arena: Arena;
  readonly config: Config;
  readonly draining: boolean;
  readonly broken: RememberedHosts;
  readonly careful: RememberedHosts;
  readonly turn: number;
  /** Of the client's TLS context. */
  readonly tlsSlot: number;
  /** For the TLS report of a domain. */
  readonly tlsSession: (session: TlsSession) => void;
  now(): number;
  leaseHolds(job: Job): boolean;
  route(destination: string): Promise<Route>;
  /** Runs code that comes from outside a loop turn of the reactor, then sends what it wrote. */
  outside(work: () => void): void;
  /** Runs work of a session; an error of ours in it ends that session. */
  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void;
  /** An error of ours that is no session's: counts and logs it. @throws BrokenInvariant when it is one. */
  fault(destination: string, at: string, error: unknown): void;
  /** Connections it may have, of those all nodes share; Infinity without such a limit. */
  grantedConnections(key: string): number;
  /** It wants more of them. */
  shortOfConnections(destination: Destination): void;
  /** Whether it may open a connection before others that wait for one; if not, `pump` is called when it is its turn. */
  mayDial(destination: Destination): boolean;
  /** A session on its way to the host; null when no connection may be opened now (`pump` is called later). */
  connect(destination: Destination, host: Host): ClientSession | null;
  /** A session begins with it; it waits again. */
  begun(attempt: Attempt): void;
  rests(attempt: Attempt): void;
  finished(attempt: Attempt): void;
  /** While draining: an attempt that goes back unfinished. */
  handBack(attempt: Attempt): void;
  idle(session: ClientSession): void;
  busy(session: ClientSession): void;
  /** Attempts wait and more connections may be opened: calls `pump` after delivery.backlog_wait_ms. */
  waits(destination: Destination): void;
  suspended(destination: string, untilMs: number, reason: string): void;
}
