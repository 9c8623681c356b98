/** What a client session asks of its destination, and tells it; and the few functions it needs of a reactor. */
import type { Config } from '../../config/schema.ts';
import type { Job } from '../../mail/job.ts';
import type { PeerReply } from '../../mail/outcome.ts';
import type { ReturnPaths } from '../../mail/return-path.ts';
import type { TlsSession } from '../../mail/tls-session.ts';
import type { Verdict } from '../../mail/verdict.ts';
import type { Arena, Reactor } from '../../native.ts';
import type { Attempt } from '../attempt.ts';
import type { RememberedHosts } from '../remembered-hosts.ts';
import type { TlsPolicy } from '../security/tls-policy.ts';
import type { ClientSession } from './session.ts';
import type { Fault } from './state.ts';

export type ClientPort = Pick<
  Reactor,
  'sendLatin1' | 'sendUtf8' | 'sendContent' | 'expectLines' | 'deadline' | 'close' | 'secure'
>;

export interface OwnerTls {
  readonly policy: TlsPolicy;
  /** Hosts with which TLS failed lately: opportunistic mail goes there without it for a while. */
  readonly broken: RememberedHosts;
  /** Slot of the client's TLS context. */
  readonly slot: number;
  /** Counts a session for the domain's TLS report. */
  record(session: TlsSession): void;
}

export interface SessionOwner {
  readonly arena: Arena;
  /** The rules as of the last reload. */
  readonly rules: Config['delivery'];
  readonly ehloName: string;
  readonly tls: OwnerTls;
  /** Hosts that lost commands sent ahead of a reply: there each command waits for its reply. */
  readonly careful: RememberedHosts;
  /** Reverse-paths with tokens; null: those of the messages. */
  readonly returnPaths: Pick<ReturnPaths, 'addressFor'> | null;
  /** What a 4xx or 5xx of a host means. */
  classify(reply: PeerReply): Verdict;
  /** Time of this loop turn. */
  now(): number;
  /** Number of this loop turn. What was written in the same turn the peer cannot have read yet. */
  readonly turn: number;
  /** Runs work that comes from outside a loop turn, and then sends what it wrote. */
  outside(work: () => void): void;
  /** Runs work of this session. A program error in it ends the session and nothing else. @param at the place, for the log. */
  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void;
  /** Whether content of the job may go out: not under a lapsed lease, because another node may be sending it. */
  leaseHolds(job: Job): boolean;
  /** Most recipients of one transaction; a peer may set it lower. */
  recipientLimit: number;
  /** Most messages of one connection. */
  readonly messageLimit: number;
  /** How long a connection without work is kept. */
  readonly idleMs: number;

  /** The next attempt for a session that is free; null when nothing waits. */
  next(session: ClientSession): Attempt | null;
  /** An attempt whose commands may go out behind the content of another one; null when others can begin it sooner. */
  lookAhead(): Attempt | null;
  /** Nothing more of the attempt can be sent here: it has its outcomes, or another host may take it. */
  finished(attempt: Attempt, session: ClientSession): void;
  /** The attempt was not sent, or not wholly, through no fault of its own: another connection is to go on with it. */
  returned(attempt: Attempt): void;

  /** Whether the destination has another host that may take what this one does not. */
  hasOthers(session: ClientSession): boolean;
  /** The host wants less mail, or fewer connections. */
  slowDown(session: ClientSession, verdict: Verdict): void;
  /** Connections of other domains are of no use to this one for a while. */
  keepApart(): void;
  /** The host took a message. */
  works(session: ClientSession): void;

  /** Greeting and EHLO are done: the session is ready, and is to be given work. */
  established(session: ClientSession): void;
  /** No session came about; the next address may be better. */
  notEstablished(session: ClientSession, fault: Fault): void;
  /** The session has nothing to do: it waits for work, or for the end of its idle time. */
  idle(session: ClientSession): void;
  /** The session takes no more work. @param fault why the connection broke; null when it did not. */
  ended(session: ClientSession, fault: Fault | null): void;
}
