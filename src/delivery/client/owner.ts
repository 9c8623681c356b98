/** What a client session asks of, and tells, the destination it works for; and the little it needs of a reactor. */
import type { Config } from '../../config/schema.ts';
import type { Job } from '../../mail/job.ts';
import type { TlsSession } from '../../mail/tls-session.ts';
import type { Arena, Reactor } from '../../native.ts';
import type { Attempt } from '../attempt.ts';
import type { RememberedHosts } from '../remembered-hosts.ts';
import type { TlsPolicy } from '../tls-policy.ts';
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
  /** Of the client's TLS context. */
  readonly slot: number;
  /** For the domain's TLS report. */
  record(session: TlsSession): void;
}

export interface SessionOwner {
  readonly arena: Arena;
  /** Live. */
  readonly rules: Config['delivery'];
  readonly ehloName: string;
  readonly tls: OwnerTls;
  /** Hosts that lost what was sent ahead of a reply: each command waits for its reply there. */
  readonly careful: RememberedHosts;
  /** Time of this loop turn. */
  now(): number;
  /** Which loop turn this is: what was written in it the peer cannot have read. */
  readonly turn: number;
  /** Runs work that comes from outside a loop turn, then sends what it wrote. */
  outside(work: () => void): void;
  /** Runs work of this session; an error of ours in it ends the session and nothing else. @param at for the log. */
  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void;
  /** Whether content of the job may go out: not under a lease that lapsed, another node may be sending it. */
  leaseHolds(job: Job): boolean;
  /** Most recipients this peer takes in one transaction, as far as we know. */
  recipientLimit: number;

  /** The next attempt for a session that is free; null when nothing waits. */
  next(session: ClientSession): Attempt | null;
  /** An attempt whose commands may go out behind the content of another one; null when others can begin it sooner. */
  lookAhead(): Attempt | null;
  /** Nothing more of the attempt can be had here: it has its outcomes, or another host may do better. */
  finished(attempt: Attempt, session: ClientSession): void;
  /** Not (wholly) sent, through no fault of its own: to be continued on another connection. */
  returned(attempt: Attempt): void;

  /** Another host of the destination may take what this one does not. */
  hasOthers(session: ClientSession): boolean;
  /** The host took a message. */
  works(session: ClientSession): void;

  /** Greeting and EHLO are done: the session is ready for work and is to be set to it. */
  established(session: ClientSession): void;
  /** No session came about; the next address may do better. */
  notEstablished(session: ClientSession, fault: Fault): void;
  /** Nothing to do: it waits for work or for the end of its idle time. */
  idle(session: ClientSession): void;
  /** It takes no more work. A fault says that the connection broke. */
  ended(session: ClientSession, fault: Fault | null): void;
}
