/** What crosses between the main thread and a delivery thread: batches, one postMessage per loop turn and direction. */
import type { FieldsOf, LogLine } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { PoolMove } from '../egress/pool-moves.ts';
import type { RulesText } from '../feedback/rules-text.ts';
import type { Job } from '../mail/job.ts';
import type { ReturnPathKeys } from '../mail/return-path.ts';
import type { TakenBack } from '../mail/suspension.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import type { Wire } from '../mail/wire.ts';
import type { ConnectionDemand, ConnectionGrant } from '../scheduler/connections.ts';
import type { LimitNews, SlotOf } from '../shaping/limit-key.ts';
import type { Gate } from '../shaping/message-gates.ts';
import type { ShapingData } from '../shaping/shaping-data.ts';
import type { SigningTable } from '../signing/table.ts';

export interface DeliveryThreadStart {
  config: Config;
  arena: SharedArrayBuffer;
  /** Slot of the client's TLS context. */
  tls: { client: number };
  gauges: SharedArrayBuffer;
  shaping: ShapingData;
  /** The limits of sites (shaping/limit-table.ts). */
  limits: SharedArrayBuffer;
  /** See ToDelivery. */
  returnPaths?: ReturnPathKeys | null;
  /** Rules for replies. */
  replies: readonly RulesText[];
  /** Part of the queue ids of DSNs made by this thread, which tells them from others. */
  origin: number;
  notBeforeMs: number;
  /** Folder of the host's MTA-STS policies. */
  stsDir: string;
  /** Which of how many threads it is. */
  thread: number;
  threads: number;
  /** Name of this thread, unique on the host. */
  name: string;
  /** Where the thread notes attempts that it has begun; null: nowhere. */
  begun: { path: string; slots: number; from: number; count: number } | null;
  /** Addresses and ports on which the host listens, for loop detection. */
  ownListeners: { address: string; port: number }[];
}

/** A job for the thread that has the connections of this key. */
export interface PassedOn {
  job: Job;
  key: string;
}

export type FromDelivery =
  | { type: 'ready'; reactorId: number }
  | { type: 'passed-on'; jobs: PassedOn[] }
  /** AttemptResults, as written by mail/job-wire. */
  | { type: 'results'; wire: Wire; count: number }
  /** Destinations that were suspended or resumed; the scheduler stops or starts handing over their work. */
  | { type: 'destination'; destination: string; suspendedUntilMs: number; reason: string }
  /** Changes in the connections wanted and open at destinations, where all nodes share a limit. */
  | { type: 'connections'; demands: ConnectionDemand[] }
  /** Limit keys it needs slots for, and sites that domains belong to. */
  | { type: 'limit-keys'; news: LimitNews }
  /** Results of TLS sessions, for the reports. */
  | { type: 'tls-sessions'; sessions: TlsSession[] }
  /** Lines for the log. */
  | { type: 'log'; lines: LogLine[] }
  /** Answer to 'take-back': jobs that no connection had begun. */
  | { type: 'taken-back'; ask: number; jobs: Job[] }
  /** Answer to 'unknown-replies'. */
  | { type: 'unknown-replies'; ask: number; replies: UnknownReply[] }
  /** A program error that ended a dialog. */
  | { type: 'fault'; fault: FieldsOf<'delivery.fault'> }
  /** Answer to 'drain': jobs that were never begun, to be released. */
  | { type: 'drained'; unfinished: Job[] };

export type ToDelivery =
  /** Jobs, as written by mail/job-wire. */
  | { type: 'jobs'; wire: Wire; count: number }
  /** A reload. `replies` is null where the rules before stay. */
  | { type: 'config'; config: Config; shaping: ShapingData; replies: readonly RulesText[] | null }
  | { type: 'limit-slots'; slots: SlotOf[] }
  /** All limits of mail by more than source and site. */
  | { type: 'gates'; gates: readonly Gate[] }
  /** All that rules have moved to other pools. */
  | { type: 'moves'; moves: readonly PoolMove[] }
  /** Which replies did no rule know? */
  | { type: 'unknown-replies'; ask: number }
  | { type: 'connections'; grants: ConnectionGrant[] }
  /** Reverse-paths get tokens from now on; null: they stay as they are. */
  | { type: 'return-paths'; keys: ReturnPathKeys | null }
  /** Sources whose address is not on this host. */
  | { type: 'sources'; missing: string[] }
  /** Which keys sign from now on; null: nothing is signed. */
  | { type: 'signing'; table: SigningTable | null }
  /** Destinations that an operator wants tried now, suspended or not. */
  | { type: 'resume'; destinations: string[] }
  /** An operator holds, suspends or removes these: jobs that no connection has begun are given back. */
  | { type: 'take-back'; ask: number; meant: TakenBack }
  /** Finish jobs on the wire within graceMs, then answer 'drained'. */
  | { type: 'drain'; graceMs: number }
  | { type: 'reopen-log' };
