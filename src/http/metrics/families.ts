/** Every series that /metrics has: its type, its labels, and what it means. docs/metrics.md says the same. */

export interface Family {
  type: 'counter' | 'gauge';
  labels: readonly string[];
  help: string;
}

const gauge = <const L extends readonly string[]>(labels: L, help: string) =>
  ({ type: 'gauge', labels, help }) as const;
const counter = <const L extends readonly string[]>(labels: L, help: string) =>
  ({ type: 'counter', labels, help }) as const;

// biome-ignore format: one series a line reads as the table it is.
export const FAMILIES = {
  protorelay_up: gauge([], '1 when the relay answered; 0: there is nothing but what the HTTP plane knows by itself.'),
  protorelay_build_info: gauge(['version', 'node_version'], 'Always 1; of the relay, and of the Node.js that runs it.'),
  protorelay_process_up: gauge(['process'], '1 when the relay process answers; 0 when it starts, is silent or is gone.'),
  protorelay_process_restarts_total: counter(['process'], 'How often the supervisor started the relay process again.'),
  protorelay_listeners: gauge([], 'Addresses that the relay listens on.'),
  protorelay_smtp_sessions: gauge([], 'Inbound connections that are open.'),
  protorelay_smtp_accepted_messages_total: counter(['process'], 'Messages accepted since the relay process started.'),
  protorelay_smtp_accepted_recipients_total: counter(['process'], 'Recipients of accepted messages since the relay process started.'),
  protorelay_delivery_recipients_total: counter(['process', 'outcome'], 'Recipients by what their attempts came to: delivered, deferred (as often as they were) or bounced.'),
  protorelay_faults_total: counter(['process', 'ended'], 'What errors of the relay itself ended: sessions, deliveries and others (work beside the mail).'),
  protorelay_delivery_connections: gauge([], 'Outbound connections that are open.'),
  protorelay_delivery_held: gauge(['reason'], '1 while all mail stays in the queue for this reason.'),
  protorelay_queue_entries: gauge(['state'], 'Entries of the queue (one for a message and a destination).'),
  protorelay_queue_messages: gauge(['state'], 'Messages with an entry in the state.'),
  protorelay_queue_recipients: gauge(['state'], 'Recipients in the state; those that were delivered are not counted.'),
  protorelay_queue_oldest_seconds: gauge([], 'Age of the oldest message that waits; 0 when none does.'),
  protorelay_queue_counted_seconds: gauge([], 'Age of the counts of the queue; it grows while the database is away.'),
  protorelay_queue_file_bytes: gauge([], 'Size of the file of the queue; absent when it is on servers.'),
  protorelay_queue_file_free_bytes: gauge([], 'Of these bytes, those that are free to be used again.'),
  protorelay_queue_file_limit_bytes: gauge([], 'Where the file of the queue keeps new mail out (database.max_mb); absent without a limit.'),
  protorelay_journal_bytes: gauge([], 'Size of the journal; absent without one.'),
  protorelay_journal_limit_bytes: gauge([], 'Where the journal keeps new mail out.'),
  protorelay_journal_messages: gauge([], 'Messages of the journal that are not in the queue yet.'),
  protorelay_journal_oldest_seconds: gauge([], 'Age of the oldest of them; 0 when there is none.'),
  protorelay_suspended: gauge(['target', 'reason'], 'Destinations that failing connections suspend, rules of `protorelay suspend` in force, sources whose address this machine lacks.'),
  protorelay_pressure: gauge(['gauge'], '1 while new mail is refused since this runs short. The first that does is told.'),
  protorelay_overloaded: gauge([], '1 while new connections are refused too.'),
  protorelay_storage_free_bytes: gauge([], 'Free bytes of the disk with least, less what is still to be written.'),
  protorelay_storage_faults: gauge([], 'Places of the storage of contents that cannot be used.'),
  protorelay_shard_up: gauge(['shard'], '1 while the shard of the queue can be used; 0 while it is away.'),
  protorelay_redis_up: gauge([], '1 while Redis can be used; absent without it.'),
  protorelay_certificate_expiry_seconds: gauge(['certificate'], 'Time until the certificate in the file of this key of the config ends; negative after it.'),
  process_cpu_seconds_total: counter(['process'], 'Processor time, of user and system.'),
  process_resident_memory_bytes: gauge(['process'], 'Memory in use.'),
  process_open_fds: gauge(['process'], 'Open file descriptors.'),
  process_max_fds: gauge(['process'], 'Most file descriptors that it may have open.'),
  process_start_time_seconds: gauge(['process'], 'When it started, in seconds since 1970.'),
  nodejs_eventloop_lag_seconds: gauge(['process'], 'How long the event loop of the main thread took for one turn, just now; of relay processes and of http.'),
} as const satisfies Record<string, Family>;

export type FamilyName = keyof typeof FAMILIES;
export type LabelsOf<N extends FamilyName> = Readonly<Record<(typeof FAMILIES)[N]['labels'][number], string>>;
