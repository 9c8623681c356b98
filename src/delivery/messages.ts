/** What crosses between the main thread and a delivery thread: batches, one postMessage per loop turn and direction. */
import type { Config } from '../config/schema.ts';
import type { OperateTarget } from '../database/database.ts';
import type { Job } from '../mail/job.ts';
import type { Wire } from '../mail/message-wire.ts';
import type { TlsSession } from '../mail/tls-session.ts';
import type { ConnectionDemand, ConnectionGrant } from '../scheduler/connections.ts';

export interface DeliveryThreadStart {
  config: Config;
  arena: SharedArrayBuffer;
  /** Slot of the client's TLS context. */
  tls: { client: number };
  gauges: SharedArrayBuffer;
  /** Distinguishes the queue ids of DSNs made by this thread. */
  origin: number;
  notBeforeMs: number;
  /** Policies of MTA-STS, of the whole host. */
  stsDir: string;
  /** Tells this thread from all others of the host. */
  name: string;
  /** Where it notes the attempts it has begun; null: nowhere. */
  begun: { path: string; slots: number; from: number; count: number } | null;
  /** Addresses and ports we listen on, for loop detection. */
  ownListeners: { address: string; port: number }[];
}

export type FromDelivery =
  | { type: 'ready' }
  /** AttemptResults, as written by mail/job-wire. */
  | { type: 'results'; wire: Wire; count: number }
  /** Destinations that were suspended or resumed; the scheduler stops or starts handing over their work. */
  | { type: 'destination'; destination: string; suspendedUntilMs: number; reason: string }
  /** Connections wanted and open at destinations, where all nodes share a limit; what changed. */
  | { type: 'connections'; demands: ConnectionDemand[] }
  /** What TLS sessions came to, for the reports. */
  | { type: 'tls-sessions'; sessions: TlsSession[] }
  /** For the log. */
  | { type: 'warning'; event: string; fields: Record<string, unknown> }
  /** To 'take-back': jobs that no connection had begun with. */
  | { type: 'taken-back'; ask: number; jobs: Job[] }
  /** An error of ours that ended a dialog. */
  | { type: 'fault'; destination: string; at: string; error: unknown }
  /** After 'drain': jobs never begun, to release. */
  | { type: 'drained'; unfinished: Job[] };

export type ToDelivery =
  /** Jobs, as written by mail/job-wire. */
  | { type: 'jobs'; wire: Wire; count: number }
  | { type: 'config'; config: Config }
  | { type: 'connections'; grants: ConnectionGrant[] }
  /** Destinations that an operator wants tried now, suspended or not. */
  | { type: 'resume'; destinations: string[] }
  /** An operator holds or removes these: what no connection has begun with goes back. */
  | { type: 'take-back'; ask: number; target: OperateTarget }
  /** Finish what is on the wire within graceMs, then say 'drained'. */
  | { type: 'drain'; graceMs: number }
  | { type: 'reopen-log' };
