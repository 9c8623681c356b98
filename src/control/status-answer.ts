/** `status` in the words of docs/words.md, as --json prints it. */
import {
  byState,
  type FileAnswer,
  fileAnswer,
  type JournalAnswer,
  journalAnswer,
  type ProcessAnswer,
  processAnswer,
  type SchedulerAnswer,
  schedulerAnswer,
} from './stats-answer.ts';
import { type HostStatus, type Impairment, impairments } from './status.ts';
import { type EntryState, textOrNull, timeOf, timeOrNull } from './words.ts';

export interface StatusAnswer {
  running: true;
  /** Nothing is in `impaired`. */
  healthy: boolean;
  impaired: { cause: Impairment['cause']; detail: string | null }[];
  version: string;
  pid: number;
  started_at: string;
  listeners: string[];
  connections: { inbound: number; outbound: number };
  /** What came and went in the last `elapsed_ms`: a minute, less after the start. */
  rates: {
    elapsed_ms: number;
    accepted_messages: number;
    accepted_recipients: number;
    delivered_recipients: number;
    deferred_recipients: number;
    bounced_recipients: number;
  };
  /** null: not counted yet. */
  queue: {
    counted_at: string;
    oldest_at: string | null;
    entries: Record<EntryState, number>;
    messages: Record<EntryState, number>;
    recipients: Record<Exclude<EntryState, 'delivered'>, number> & { delivered: null };
  } | null;
  scheduler: SchedulerAnswer;
  /** What refuses mail; null: nothing. */
  pressure: string | null;
  overloaded: boolean;
  free_disk_bytes: number | null;
  /** The files of the queue, of all processes together; null: it is on servers. `max_mb` is database.max_mb, of one process; null: no limit. */
  file: (FileAnswer & { max_mb: number | null }) | null;
  shards: { name: string; up: boolean; error: string | null }[];
  journal: JournalAnswer | null;
  storage_faults: string[];
  /** The last one; null: there was none. */
  reload: { reloaded_at: string; needs_restart: string[]; problems: string[] } | null;
  /** Of a relay of several; else empty. */
  processes: ProcessAnswer[];
}

export const statusAnswer = (status: HostStatus): StatusAnswer => {
  const found = impairments(status);
  const { rates, counts, journal, reload } = status;
  return {
    running: true,
    healthy: found.length === 0,
    impaired: found.map(({ cause, detail }) => ({ cause, detail: textOrNull(detail) })),
    version: status.version,
    pid: status.pid,
    started_at: timeOf(status.startedAtMs),
    listeners: status.listeners,
    connections: { inbound: status.connectionsIn, outbound: status.connectionsOut },
    rates: {
      elapsed_ms: rates.ms,
      accepted_messages: rates.acceptedMessages,
      accepted_recipients: rates.accepted,
      delivered_recipients: rates.delivered,
      deferred_recipients: rates.deferred,
      bounced_recipients: rates.bounced,
    },
    queue:
      counts === null
        ? null
        : {
            counted_at: timeOf(counts.countedAtMs),
            oldest_at: timeOrNull(counts.oldestMs),
            entries: byState(counts.rows),
            messages: byState(counts.messages),
            recipients: { ...byState(counts.recipients), delivered: null },
          },
    scheduler: schedulerAnswer(status.scheduler),
    pressure: status.pressure,
    overloaded: status.overloaded,
    free_disk_bytes: status.freeDiskBytes,
    file: status.file === null ? null : { ...fileAnswer(status.file), max_mb: status.file.maxMb || null },
    shards: status.shards.map(({ name, up, error }) => ({ name, up, error: up ? null : error })),
    journal: journal === null ? null : journalAnswer(journal),
    storage_faults: status.storageFaults,
    reload:
      reload === null
        ? null
        : {
            reloaded_at: timeOf(reload.atMs),
            needs_restart: reload.needsRestart,
            problems: reload.problems,
          },
    processes: status.processes.map(processAnswer),
  };
};
