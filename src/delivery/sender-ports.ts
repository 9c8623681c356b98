/** What the sender of a delivery thread asks of its thread, and tells it. */
import type { Config } from '../config/schema.ts';
import type { Egress } from '../egress/egress.ts';
import type { BegunSlots } from '../mail/begun-slots.ts';
import type { Job } from '../mail/job.ts';
import type { PeerReply } from '../mail/outcome.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { Verdict } from '../mail/verdict.ts';
import type { Arena, Reactor } from '../native.ts';
import type { DsnWriter } from '../report/dsn.ts';
import type { isTooOld, nextAttempt } from '../scheduler/retry.ts';
import type { MessageGates } from '../shaping/message-gates.ts';
import type { ThreadLimits } from '../shaping/thread-limits.ts';
import type { Attempt } from './attempt.ts';
import type { DialogReader } from './client/transcript.ts';
import type { FromDelivery } from './messages.ts';
import type { Router } from './route.ts';

/** What becomes of a message before it is attempted: it goes out, with these header fields before it, or not. */
export type SigningVerdict = { kind: 'go'; fields: string } | { kind: 'defer' | 'bounce'; detail: string };

/** Signs messages before they are attempted. */
export interface SigningPort {
  /** @returns at once what becomes of the message; null: `Sender.signed` is told later, after `flush`. */
  take(attempt: Attempt): SigningVerdict | null;
  /** Begins what was taken. */
  flush(): void;
  /** Takes out messages that wait for their signature. */
  takeBack(isMeant: (job: Job) => boolean): Attempt[];
}

/** A program error. */
export interface DialogFault {
  /** Of the dialog that it ended, if it was one. */
  connection?: number;
  /** Of the message under way in it. */
  queueId?: string | undefined;
  destination: string;
  at: string;
  error: unknown;
}

export interface SenderPorts {
  config: Config;
  arena: Arena;
  /** Slot of the client's TLS context. */
  tlsSlot: number;
  /** Is told the results of TLS sessions; absent: nobody counts them. */
  tlsSession?: (session: TlsSession) => void;
  /** Makes the reactor with the given callback, for at most `maxConnections`. */
  createReactor(onTurn: (count: number) => void, maxConnections: number): Reactor;
  createRouter(config: Config): Router;
  createEgress(config: Config): Egress;
  dsn: DsnWriter;
  /** Where attempts are noted while they are under way; absent: nowhere. */
  begun?: BegunSlots;
  retry: { nextAttempt: typeof nextAttempt; isTooOld: typeof isTooOld };
  post(message: FromDelivery): void;
  /** See OwedJobs. */
  thread?: number;
  threads?: number;
  /** Steady time (base/steady.ts). */
  now(): number;
  /** The time of day; default: `now`. */
  wall?(): number;
  leaseHolds(job: Job): boolean;
  /** What a 4xx or 5xx of a host means; absent: what its first digit says. */
  classify?: (reply: PeerReply) => Verdict;
  random(): number;
  /** Absent: nothing is signed. */
  signing?: SigningPort;
  /** Is told program errors that ended a dialog; absent: nobody counts them. */
  fault?: (fault: DialogFault) => void;
  /** Domains whose signatures a message carries; absent: nobody knows. */
  signers?: (attempt: Attempt) => readonly string[];
  /** Limits of mail by more than source and site; absent: there are none. */
  gates?: Pick<MessageGates<Attempt>, 'take' | 'refusedBy'>;
  /** Limits of sites; absent: routes name no sites. */
  limits?: Pick<ThreadLimits, 'belongs' | 'enter' | 'release'>;
  /** Who reads the dialog of this connection; absent, or null: nobody. */
  transcript?: (connection: number, destination: string) => DialogReader | null;
  /** Calls `fire` once, ms later. */
  setTimer(ms: number, fire: () => void): void;
}
