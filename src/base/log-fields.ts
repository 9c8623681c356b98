/**
 * The fields that lines of the log may have, each with one meaning wherever it stands. `docs/log.md` lists them; names
 * follow `docs/words.md`.
 */

/** What a field's value is, as JSON has it. */
export interface FieldValues {
  text: string;
  /** RFC 3339, UTC. */
  time: string;
  number: number;
  /** true or false */
  flag: boolean;
  list: readonly unknown[];
  /** An object. */
  map: object;
  /** An Error, or the text of one. */
  error: unknown;
}

type Row = readonly [is: keyof FieldValues, means: string];

export const LOG_FIELDS = {
  action: ['text', 'what the operator asked for'],
  addresses: ['list', 'where the relay listens: `host` and `port`, or `path`'],
  advice: ['text', 'what follows, or what to do'],
  answer: ['text', 'what a list answered'],
  applied: ['list', 'keys of the config that changed and are in effect'],
  at: ['text', 'what the program was doing'],
  available_memory_mb: ['number', 'memory the kernel can still give'],
  backend: ['text', 'a backend of `auth.backends`'],
  bytes: ['number', 'how much it is'],
  certificates: ['list', 'for each: `names`, `key` (type), `expires_at`, `fingerprint` (SHA-256)'],
  client_address: ['text', 'address of the client'],
  code: ['text', 'code of the error'],
  commit: ['text', 'commit the program was built from'],
  commit_age_ms: ['number', 'how long the oldest commit waits'],
  config: ['text', 'file of the config'],
  connections: ['number', 'connections that are open'],
  content_mb: ['number', 'size of the memory for contents'],
  day: ['text', 'the day of a report, in UTC'],
  destination: ['text', 'what mail is scheduled by'],
  detail: ['text', 'more about it'],
  domain: ['text', 'a domain'],
  down_ms: ['number', 'how long it was away'],
  endpoint: ['text', 'an endpoint of `storage.hdfs_web.endpoints`'],
  ends_at: ['time', 'when it ends'],
  entries: ['number', 'entries of the queue: one message at one destination each'],
  errno: ['number', 'number of the system’s error, negative'],
  error: ['error', 'an object: `message`, and `code`, `type` and `stack` where there are such'],
  exit_code: ['number', 'how the process ended; null after a signal'],
  expires_at: ['time', 'when the certificate ends'],
  fence: ['number', 'which lease of the entry it was'],
  free_content_mb: ['number', 'what is free of the memory for contents'],
  free_disk_mb: ['number', 'free space where it is least'],
  grace_ms: ['number', '`shutdown_grace_ms`'],
  hostname: ['text', 'the relay’s name'],
  idle: ['flag', 'whether it was not in use'],
  kind: ['text', 'what a client failed at'],
  kinds: ['map', 'how many lines of each kind'],
  leftovers: ['list', 'processes that only send what is left in their queues'],
  line: ['text', 'a line of the dialog, cut where it is long; `…` stands for what may be a secret'],
  lines: ['number', 'how many lines'],
  max_domains: ['number', '`delivery.mta_sts.max_domains`'],
  max_mb: ['number', 'the limit'],
  max_offset_ms: ['number', '`clock_max_offset_ms`'],
  mechanism: ['text', 'mechanism of AUTH'],
  messages: ['number', 'messages'],
  method: ['text', 'what was asked over the control socket'],
  mode: ['text', 'what the rule does: `log`, `tag`, `reject` …'],
  names: ['list', 'names in the certificate'],
  needs_restart: ['list', 'keys of the config that changed and take a restart'],
  network: ['text', 'a network, as CIDR'],
  newest_queue_id: ['text', 'the newest id in the queue'],
  nodes: ['number', 'nodes that share Redis'],
  not_kept: ['number', 'results that are in no file'],
  object: ['text', 'name of a content in the storage'],
  of: ['text', 'the event that lines are left out of'],
  offset_bytes: ['number', 'where in the file'],
  offset_ms: ['number', 'by how much the server’s clock is ahead'],
  path: ['text', 'the file, or the folder'],
  paths: ['list', 'files and folders'],
  pid: ['number', 'number of a process, as the system has it'],
  pressure: ['text', 'what is short: `disk`, `memory`, `contentMemory`, `database` …'],
  problem: ['text', 'what is wrong'],
  problems: ['list', 'what is wrong, one text each'],
  process: ['number', 'which relay process'],
  processes: ['number', 'relay processes'],
  queue_id: ['text', 'id of the message'],
  reason: ['text', 'why'],
  records: ['number', 'records of the journal that cannot be read'],
  rekeyed: ['number', 'entries that got another key'],
  released: ['number', 'entries that were under way and are due again'],
  replicas: ['number', 'replicas that were read'],
  reply: ['text', 'the whole reply'],
  restart_in_ms: ['number', 'when it is started again'],
  result: ['text', 'type of the failure (RFC 8460)'],
  results: ['number', 'results of attempts'],
  retry_at: ['time', 'when it is tried again; absent when it is not'],
  retry_ms: ['number', 'when it is tried again'],
  root: ['text', 'a root of `storage.distributed.roots`'],
  roots: ['list', 'roots of `storage.distributed.roots`'],
  rule: ['text', 'a rule of `policy`'],
  rule_ids: ['list', 'ids of suspensions (`protorelay suspensions`)'],
  segment: ['text', 'a file of the journal'],
  sender: ['text', 'the reverse-path'],
  session_id: ['text', 'id of the session, or of the connection to a peer'],
  sessions: ['number', 'TLS sessions'],
  shard: ['text', 'a database server of the queue'],
  signal: ['text', 'a signal of the system'],
  silent_ms: ['number', 'how long it has not answered'],
  skipped: ['number', 'lines that were passed over'],
  source_root: ['text', 'the root it was read from'],
  stack: ['text', 'where in the program'],
  stale: ['number', 'results that a newer attempt made void'],
  target: ['map', 'what mail it was for, or how many messages'],
  times: ['number', 'how often the network has been banned'],
  to: ['text', 'where a report goes'],
  told: ['map', 'attributes and values'],
  unheard: ['list', 'shards and relay processes that could not be told; they follow once they answer'],
  unwritten: ['number', 'results that are not in the database as yet'],
  user: ['text', 'who authenticated'],
  users: ['number', 'users'],
  version: ['text', 'version of the program'],
  waited_ms: ['number', 'how long it waited'],
  waiting: ['number', 'messages that wait'],
  warning: ['text', 'what to look at'],
  written: ['number', 'results that are in the database now'],
  wrong: ['number', 'replicas that were damaged or missing'],
  zone: ['text', 'a zone of `policy.dnsbl.zones`'],
} as const satisfies Record<string, Row>;

export type LogField = keyof typeof LOG_FIELDS;
