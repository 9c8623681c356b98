/** What the supervisor and a relay process say to each other, over the channel of node:cluster. */
import type { Config } from '../config/schema.ts';
import type { Operated, RelayStatus, SchedulerStats, Standing } from '../control/target.ts';
import type { MailDetail, Missing, OperateAction, QueueFilter, Selection } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { SourceReport } from '../egress/source-report.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { GivenSocket, ListeningAddress } from '../listener/sockets.ts';
import type { AskedEntry, Explained } from '../mail/blocker.ts';
import type { Counted, CountKey } from '../mail/queue-counts.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import type { SiteReport } from '../mail/site-report.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';

/** The first message: all that a relay process needs to start. */
export interface ProcessStart {
  /** The config of the host; the process derives its own from it (process-config.ts). */
  config: Config;
  configPath: string;
  process: number;
  processes: number;
  accepts: boolean;
  eventsDir: string;
  /** Sockets of all processes, by their descriptors in the relay process; -1 when it does not accept. */
  sockets: GivenSocket[];
  /** Descriptor of the memory that the connection policy of all processes shares. */
  memory: number;
  /** The key of TLS session tickets. */
  tlsSecret: Uint8Array;
}

/** Questions, each with its answer. */
export interface Questions {
  list: { ask: QueueFilter; answer: string[] };
  count: { ask: { selection: Selection; by: CountKey | null }; answer: Counted };
  show: { ask: string; answer: MailDetail | null };
  content: { ask: { queueId: string; offset: number; maxBytes: number }; answer: Uint8Array | null };
  stats: { ask: null; answer: QueueStats };
  /** The state of the shards, where the queue lies on servers. */
  shards: { ask: null; answer: ShardReport[] };
  scheduler: { ask: null; answer: SchedulerStats };
  sites: { ask: null; answer: SiteReport[] };
  sources: { ask: null; answer: SourceReport[] };
  journal: { ask: null; answer: JournalStats | null };
  /** ask: whether to count the queue. */
  status: { ask: boolean; answer: RelayStatus };
  operate: { ask: { action: OperateAction; selection: Selection; after: string }; answer: Operated };
  /** What keeps mail for these destinations from going. */
  standing: { ask: string[]; answer: Standing };
  /** What limits these entries, and keeps them. */
  explain: { ask: AskedEntry[]; answer: Explained[] };
  /** Refusals that no rule knew. */
  unknownReplies: { ask: null; answer: UnknownReply[] };
  /** An operator began or ended these rules. The answer names shards that could not be told. */
  suspensions: { ask: SuspensionRule[]; answer: string[] };
  /** The parts of the queue that the process cannot see. */
  missing: { ask: null; answer: Missing[] };
  reload: { ask: Config; answer: { applied: string[]; needsRestart: string[]; problems?: string[] } };
}

export type Question = { [K in keyof Questions]: { question: K; ask: Questions[K]['ask'] } }[keyof Questions];

export type ToProcess =
  | { type: 'start'; start: ProcessStart }
  | ({ type: 'ask'; id: number } & Question)
  | { type: 'ping' }
  /** Accept also on the sockets of these processes, and of no others. */
  | { type: 'stand-in'; processes: number[] }
  | { type: 'reopen-log' }
  /** What another process learned of limits. */
  | { type: 'learned'; lines: readonly string[] }
  /** Finish what is open, then end. */
  | { type: 'drain' }
  /** End now. */
  | { type: 'stop' };

export type FromProcess =
  | { type: 'booted' }
  | { type: 'ready'; addresses: ListeningAddress[] }
  /** The process cannot start, and ends. */
  | { type: 'failed'; code: string; message: string }
  | { type: 'pong'; connections: number; rssBytes: number }
  | { type: 'answer'; id: number; value: unknown }
  | { type: 'refusal'; id: number; code: string; message: string }
  /** What the process learned of limits, for the others. */
  | { type: 'learned'; lines: readonly string[] }
  /** The process drains, because somebody sent it SIGTERM. */
  | { type: 'draining' };
