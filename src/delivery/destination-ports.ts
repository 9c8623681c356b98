/** What a destination asks of its sender, and tells it. */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import type { PeerReply } from '../mail/outcome.ts';
import type { ReturnPaths } from '../mail/return-path.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { Arena } from '../native.ts';
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { MessageGates } from '../shaping/message-gates.ts';
import type { Site } from '../shaping/sites.ts';
import type { Attempt } from './attempt.ts';
import type { ClientSession } from './client/session.ts';
import type { Departures } from './departures.ts';
import type { RememberedHosts } from './remembered-hosts.ts';
import type { Host, Route } from './route.ts';

/** @template Destination the class of the destination that asks. */
export interface DestinationPorts<Destination> {
  /** Limits of mail by more than source and site. */
  readonly gates: Pick<MessageGates<Attempt>, 'take' | 'refusedBy'>;
  /** Where mail goes on that may not leave by its source now. */
  readonly departures: Pick<Departures, 'divert'>;
  readonly arena: Arena;
  /** Reverse-paths with tokens; null: those of the messages. */
  readonly returnPaths: Pick<ReturnPaths, 'addressFor'> | null;
  readonly config: Config;
  readonly draining: boolean;
  readonly broken: RememberedHosts;
  readonly careful: RememberedHosts;
  readonly turn: number;
  /** Slot of the client's TLS context. */
  readonly tlsSlot: number;
  /** Counts a session for the TLS report of its domain. */
  readonly tlsSession: (session: TlsSession) => void;
  now(): number;
  leaseHolds(job: Job): boolean;
  /** What a 4xx or 5xx of a host means. */
  readonly classify: (reply: PeerReply) => Verdict;
  route(destination: string): Promise<Route>;
  /** Runs code that comes from outside a loop turn of the reactor, then sends what it wrote. */
  outside(work: () => void): void;
  /** Runs work of a session. A program error in it ends that session. */
  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void;
  /** Counts and logs a program error that belongs to no session. @throws the error if it is a BrokenInvariant. */
  fault(destination: string, at: string, error: unknown): void;
  /** How many connections the destination may have of those that all nodes share; Infinity without such a limit. */
  grantedConnections(destination: Destination): number;
  /** Connections of the destination's other lanes. */
  openBeside(destination: Destination): number;
  /** Takes the limits of a site, for the lane's source; `release` gives them up. */
  enter(destination: Destination, site: Site, hosts: readonly Host[]): Promise<LaneLimits>;
  release(limits: LaneLimits): void;
  /** Calls `pump` at this time. */
  pumpAt(destination: Destination, atMs: number): void;
  /** Says that the destination wants more of these. */
  shortOfConnections(destination: Destination): void;
  /** Whether it may open a connection before others that wait for one; if not, `pump` is called when it is its turn. */
  mayDial(destination: Destination): boolean;
  /** A session without work that was another domain's of its site, and is the destination's now; null: none suits. */
  adopt(destination: Destination, hosts: readonly Host[]): ClientSession | null;
  /** Whether another destination of this thread waits for a connection of these limits. */
  isAwaited(limits: LaneLimits): boolean;
  /** A session on its way to the host; null when no connection may be opened now (`pump` is called later). */
  connect(destination: Destination, host: Host): ClientSession | null;
  /** `begun`: a session begins the attempt; `rests`: it waits again. */
  begun(attempt: Attempt): void;
  rests(attempt: Attempt): void;
  finished(attempt: Attempt): void;
  /** Gives an attempt back unfinished, while draining. */
  handBack(attempt: Attempt): void;
  /** It is ready for mail. */
  established(session: ClientSession): void;
  idle(session: ClientSession): void;
  busy(session: ClientSession): void;
  /** Attempts wait, and more connections may be opened: `pump` is to be called after delivery.backlog_wait_ms. */
  waits(destination: Destination): void;
  suspended(destination: Destination, untilMs: number, reason: string): void;
}
