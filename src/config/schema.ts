/**
 * The only list of options. From this one schema come validation, the TypeScript type, `config/relay.schema.json`
 * for editors and `docs/configuration.md`. Every key has an effect and a test.
 */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { domainKey } from '../base/domain.ts';
import { adaptive } from './adaptive-schema.ts';
import { addedHeaders, attributes, tenants } from './attributes-schema.ts';
import { auth, LISTENER_AUTH } from './auth-schema.ts';
import { dane, tlsRpt } from './dane-schema.ts';
import { deliveryRule, MAX_RULES } from './delivery-rules-schema.ts';
import { egress } from './egress-schema.ts';
import { http } from './http-schema.ts';
import { metrics } from './metrics-schema.ts';
import { hostName, nextHop, tlsMode } from './next-hop-schema.ts';
import { policySchema } from './policy-schema.ts';
import { returnPath } from './return-path-schema.ts';
import { shaping } from './shaping-schema.ts';
import { dkim } from './signing-schema.ts';
import { suppression } from './suppression-schema.ts';
import { warmUp } from './warmup-schema.ts';

const ms = (min: number, max: number) => z.int().min(min).max(max);
const day = 86_400_000;
/** A reload applies a change of the key; without it, a change takes a restart. */
const live = { live: true } as const;
const count = (min: number, max: number) => z.int().min(min).max(max);
/** Domains are compared in one form; rules.ts reports what is no domain. `.example.com` stands for its subdomains. */
const aLabels = (domain: string) => domain.startsWith('.') ? `.${domainKey(domain.slice(1))}` : domainKey(domain);
/** A file or folder; never '', which would mean the folder it is relative to. */
const path = () => z.string().min(1);

const listener = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9._:[\]/-]{1,64}$/, 'a name of letters, digits and `. _ : [ ] / -`').optional().describe('Name of the listener in events and `queue` commands. Absent: `host:port`, `path` or `fd_name`.'),
  host: z.string().min(1).optional().describe('Address to listen on, IPv4 or IPv6, or a name of this machine. Exactly one of `host` with `port`, `path`, or `fd_name`.'),
  port: count(0, 65535).optional().describe('TCP port; 0 takes a free one (logged).'),
  path: path().optional().describe('Unix socket path instead of host and port.'),
  fd_name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'a name of letters, digits, dot, dash').optional().describe('Take the sockets that systemd passes under this name (FileDescriptorName= of the socket unit) instead of opening any.'),
  backlog: count(1, 65535).default(1024).describe('Length of the kernel queue of connections not yet accepted.'),
  tls: z.enum(['off', 'optional', 'required', 'implicit']).default('off').describe('off: none. optional: STARTTLS is offered. required: mail only after STARTTLS (530 5.7.0 before). implicit: TLS from the first byte (port 465). All but off need `tls.cert_file`.'),
  client_certificate: z.enum(['off', 'optional', 'required']).default('off').describe('Ask clients for a certificate. required: one that `tls.client_ca_file` or `tls.client_fingerprints` vouches for, else 554 5.7.1.'),
  ...LISTENER_AUTH,
});

const tlsVersion = z.enum(['TLSv1.2', 'TLSv1.3']);
const CIPHERS = 'Ciphers of TLS 1.2 in OpenSSL’s notation, in order of preference; absent: OpenSSL’s default.';
const CIPHERSUITES = 'The same for TLS 1.3, joined by colons.';

const certificate = z.strictObject({
  cert_file: path().describe('PEM: the certificate, then its chain.').meta(live),
  key_file: path().optional().describe('PEM: its key, without a password. Absent: it is in cert_file.').meta(live),
});

const tls = z.strictObject({
  cert_file: path().optional().describe('PEM: the certificate of our listeners, then its chain. Read again on reload and when the file changes; connections stay.').meta(live),
  key_file: path().optional().describe('PEM: its key, without a password. Absent: it is in cert_file.').meta(live),
  certificates: z.array(certificate).default([]).describe('More certificates: for other names (chosen by SNI), or of another type of key (RSA beside ECDSA) for the same ones. Clients that name none of them get the first.').meta(live),
  min_version: tlsVersion.default('TLSv1.2').describe('Oldest version that is spoken.').meta(live),
  ciphers: z.string().min(1).optional().describe(CIPHERS).meta(live),
  ciphersuites: z.string().min(1).optional().describe(CIPHERSUITES).meta(live),
  client_ca_file: path().optional().describe('PEM: issuers of client certificates that are trusted.').meta(live),
  client_crl_file: path().optional().describe('PEM: revocation lists of these issuers.').meta(live),
  client_fingerprints: z.array(z.string().regex(/^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}$/, 'a SHA-256 fingerprint of 64 hex digits').transform((text) => text.replaceAll(':', '').toLowerCase())).default([]).describe('SHA-256 of client certificates that are trusted whoever issued them.').meta(live),
  handshake_timeout_ms: ms(100, 600_000).default(30_000).describe('Time for a handshake; then the connection is closed.').meta(live),
  handshake_silence_ms: ms(100, 600_000).default(10_000).describe('Longest silence of a client within its handshake; then the connection is closed.').meta(live),
  max_handshakes: count(1, 100_000).default(200).describe('Handshakes under way in one session thread. Beyond, one whose client has been silent for a second is given up; where none is, STARTTLS gets 454 4.7.0 and implicit TLS waits. Whatever their number, connections that are established have their share of every turn.'),
  session_lifetime_ms: ms(0, 7 * day).default(7_200_000).describe('How long a client may resume a session (tickets, good in all processes of this host until it restarts); 0: never.').meta(live),
  resumption_key_exchange: z.enum(['full', 'light', 'none']).default('full').describe('What TLS 1.3 makes a resumed session’s keys of, besides the ticket. full: the key exchange of a first handshake (hybrid with ML-KEM where both sides know it). light: X25519 alone: three quarters of the CPU of a first handshake. none: nothing, with clients that offer that (our own deliveries do with `delivery.tls.resumption_key_exchange`): half of the CPU, but whoever gets hold of the ticket key, which lies in memory only, can read these sessions.').meta(live),
  watch_interval_ms: ms(0, day).default(30_000).describe('How often certificate files are looked at for a change; 0: only on reload.').meta(live),
});

const smtp = z.strictObject({
  max_connections: count(1, 1_000_000).default(20_000).describe('Open inbound connections of this host; one more gets 421 4.3.2.'),
  max_connections_per_ip: count(1, 1_000_000).default(10_000).describe('Open inbound connections from one address, over all processes of this host; one more gets 421 4.7.0.').meta(live),
  max_command_line_bytes: count(512, 16_384).default(2048).describe('Longest command line with its CRLF; a longer one gets 500 5.5.2.'),
  max_text_line_bytes: count(1000, 1_048_576).default(32_768).describe('Longest line of content; longer gets 554 5.6.0.').meta(live),
  envelope_memory_mb: count(1, 65_536).default(128).describe('Memory for recipients of a relay process from RCPT to the commit, and for commands that wait; beyond: 452 4.5.3.').meta(live),
  max_recipients: count(1, 1_000_000).default(10_000).describe('Recipients in one transaction; one more gets 452 4.5.3.').meta(live),
  max_transactions: count(1, 1_000_000_000).default(100_000).describe('Transactions on one connection; then 421 4.7.0.').meta(live),
  max_errors: count(1, 100_000).default(20).describe('Replies of 5xx class to commands in one session before 421 4.7.0 ends it; those to what was sent on behind a refused MAIL, chunk or list of recipients not counted.').meta(live),
  max_idle_commands: count(1, 1_000_000).default(1000).describe('Commands in one session, since the last that brought mail forward, before 421 4.7.0 ends it. Forward: a new recipient, octets of a BDAT chunk, the end of a message; also an offer refused for want of room. Not: NOOP, RSET, HELP, VRFY, HELO again, MAIL alone, a recipient given twice or one too many; among recipients max_recipients more are borne.').meta(live),
  max_hops: count(1, 1000).default(50).describe('Received: header fields before the message is taken for a loop (554 5.4.6).').meta(live),
  command_timeout_ms: ms(100, day).default(300_000).describe('Time for the next command (RFC 5321 §4.5.3.2.7), and between MAIL, each new recipient and the content, whatever else is said; then 421 4.4.2.').meta(live),
  data_timeout_ms: ms(100, day).default(180_000).describe('Time without a byte of content (RFC 5321 §4.5.3.2.5); then 421 4.4.2.').meta(live),
  min_data_rate_bytes_per_s: count(0, 1_000_000_000).default(64).describe('Slowest mean rate of content; slower ends with 421 4.4.2. 0: off.').meta(live),
  min_data_rate_grace_ms: ms(0, day).default(30_000).describe('How long content may be slower than that.').meta(live),
  bare_newlines: z.enum(['refuse', 'normalize']).default('refuse').describe('Bare CR or LF in content: refuse with 550 5.6.11, or turn each into CRLF. Neither ever ends the content.').meta(live),
  nul_bytes: z.enum(['refuse', 'accept']).default('refuse').describe('NUL in content: refuse with 550 5.6.0, or relay it as it is.').meta(live),
  strict_addresses: z.boolean().default(false).describe('Addresses and the name in HELO or EHLO to the letter of RFC 5321 (501 for others). Off: those that exist beside it are taken and relayed as written: `a..b@`, `user.@`, `.user@`, local parts of more than 64 octets, underscores in domains, a dot at the end of a domain (not sent on), `[::1]` without `IPv6:`; in HELO any name that can stand in a header.').meta(live),
  untrusted_routing: z.enum(['refuse', 'accept']).default('refuse').describe('Recipients in relay_domains whose local part names a route (`user%other@`, `other!user@`, `"user@other"@`; also by `％`, `！`, `＠` and their kin), from clients that may not relay: refuse with 550 5.7.1, as the host behind could send them on; and one that begins with `-`, with 501 5.1.3. accept: take both.').meta(live),
  vrfy: z.boolean().default(false).describe('Answer VRFY by address check; off: 252 2.5.0 always.').meta(live),
  overload_hold_ms: ms(0, 3_600_000).default(5000).describe('How long admission must be under pressure before new connections get 421 4.3.2.').meta(live),
});

/** The driver when none is named. */
const sqlite = z.literal('sqlite').optional().default('sqlite');
const sqliteDatabase = z.strictObject({
  driver: sqlite.describe('Queue database: sqlite (embedded), mysql (MariaDB or MySQL), mysql_distributed (several of them).'),
  path: path().default('queue.db').describe('sqlite: file, relative to data_dir; `:memory:` keeps nothing over a restart.'),
  max_mb: count(0, 1_073_741_824).default(0).describe('sqlite: size of the file of a relay process that is in use at most; then new mail gets 452 4.3.1, while mail goes out. About a quarter of a second of mail may come on top, and the write-ahead log. 0: no limit but the disk’s (persist_min_free_disk_mb).').meta(live),
  max_messages: count(1, 10_000_000).default(100_000).describe('sqlite with `:memory:`: messages held at most; then 452 4.3.1.'),
});

const server = {
  host: hostName.default('127.0.0.1').describe('mysql: name or address of the server.'),
  port: count(1, 65535).default(3306).describe('mysql: its TCP port.'),
  socket: z.string().min(1).nullable().default(null).describe('mysql: Unix socket of the server, instead of host and port.'),
  endpoints: z.array(z.string().regex(/^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$/, '`host`, `host:port` or `[IPv6]:port`')).max(8).default([]).describe('mysql: servers that may take its place, `host` or `host:port`, as replicas of it: tried in turn when the one in use cannot be reached or is read-only.'),
  user: z.string().min(1).max(80).default('relay').describe('mysql: user; needs SELECT, INSERT, UPDATE and DELETE on the database.'),
  password: z.string().max(256).default('').describe('mysql: its password; `${NAME}` takes it from the environment.'),
  database: z.string().regex(/^[A-Za-z0-9_$-]{1,64}$/, 'a database name').default('relay').describe('mysql: name of the database.'),
  tls: z.enum(['off', 'encrypt', 'verify']).default('off').describe('mysql: TLS to the server: off; encrypt without looking at its certificate; verify the certificate too.'),
  tls_ca_file: z.string().min(1).nullable().default(null).describe('mysql: certificates (PEM) that may have signed the server’s, relative to data_dir; null: those of Node.'),
  initial_pool_size: count(0, 1000).default(2).describe('mysql: connections opened at start and kept.'),
  max_pool_size: count(1, 1000).default(10).describe('mysql: connections at most, of one relay process.'),
  connection_timeout_ms: ms(10, 600_000).default(5000).describe('mysql: time to connect, or for a connection to come free. A shard silent for so long gets no new mail.'),
  query_timeout_ms: ms(100, 600_000).default(15_000).describe('mysql: time for one transaction; then its connection is given up. Less than lease_ms; where it is not set a shorter lease shortens it. A third of it without a statement, and the server rolls the transaction back.'),
  idle_timeout_ms: ms(100, day).default(60_000).describe('mysql: how long an unused connection beyond initial_pool_size is kept.'),
};
const mysqlServer = z.strictObject(server);
const mysqlDatabase = z.strictObject({ driver: z.literal('mysql'), ...server });

const shardName = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'letters, digits, dot, hyphen and underscore');
const shard = z.strictObject({
  name: shardName.describe('Name of the shard, for routers and people.'),
  id: count(0, 31).optional().describe('Number of the shard, part of the queue ids of its messages: it must never change. Default: its place in the list, from 0.'),
  weight: count(0, 1000).default(1).describe('Share of new mail it gets from the hash router; 0: none (it is being emptied).'),
  ...server,
});
const distributedDatabase = z.strictObject({
  driver: z.literal('mysql_distributed'),
  router: z.strictObject({
    type: z.enum(['hash', 'table', 'static']).default('hash').describe('Which shard takes a new message: hash spreads by queue id; table looks the sender up in user_shards; static goes by the first recipient domain listed. What a router does not know, hash decides.'),
    table_shard: shardName.optional().describe('table: name of the shard that holds user_shards; default: the first.'),
    cache_ttl_ms: ms(100, day).default(60_000).describe('table: how long an answer of user_shards is kept.'),
    cache_max_entries: count(1, 1_000_000).default(100_000).describe('table: answers kept by each session thread.'),
    domains: z.record(z.string().transform(aLabels), shardName).default({}).describe('static: domain → name of a shard.'),
  }).prefault({}),
  shards: z.array(shard).min(1).max(32).describe('The shards. Add new ones at the end; nothing is moved.'),
  retry_delay_ms: ms(100, 600_000).default(1000).describe('How long a shard that failed gets no new mail before it is tried again; doubled while it fails.'),
  max_retry_delay_ms: ms(100, day).default(30_000).describe('Longest such time.'),
});
const database = z.discriminatedUnion('driver', [sqliteDatabase, mysqlDatabase, distributedDatabase]);

const storage = z.strictObject({
  provider: z.enum(['database', 'local', 'distributed', 'hdfs_web']).default('database').describe('Where new content lies: in the queue database, in local files, in replicas over several folders, in HDFS. Older content stays where it is and is found as long as its section is configured.'),
  local: z.strictObject({ path: path().default('mail').describe('local: folder, relative to data_dir.') }).prefault({}),
  distributed: z.strictObject({
    roots: z.array(path()).default([]).describe('distributed: folders, best each on a disk of its own, relative to data_dir. A root that fails is put aside and returns by itself.'),
    replica_count: count(1, 16).default(2).describe('Roots that get a copy of each bundle; at most as many as there are roots.'),
    write_quorum: count(1, 16).default(2).describe('Copies that must be on stable storage before mail is acknowledged; at most replica_count. With fewer roots that work: 451 4.3.0.'),
    timeout_ms: ms(100, 600_000).default(4000).describe('Longest time of a write or read (large contents: one second more per 10 MB). A root that takes more than half of it is put aside.'),
    scrub_interval_ms: ms(1000, 365 * day).default(day).describe('How often all copies are proven by their checksums and brought back to replica_count; also done when a root returns.'),
    scrub_mb_per_s: count(1, 100_000).default(16).describe('How fast that may read.'),
  }).prefault({}),
  hdfs_web: z.strictObject({
    endpoints: z.array(z.string().min(1)).default([]).describe('hdfs_web: `http://host:port` (or https) of the namenodes; one that is standby or does not answer is passed over.'),
    base_path: z.string().regex(/^(\/[^/?#\0]+)+$/, 'an absolute path').default('/protorelay').describe('Folder in HDFS; each relay keeps to a folder of its own below it.'),
    user: z.string().min(1).default('hdfs').describe('Sent as user.name.'),
    delegation_token: z.string().min(1).optional().describe('Sent instead of the user, where the cluster is secured.'),
    replication: count(1, 512).default(3).describe('Copies HDFS keeps of each file.'),
    timeout_ms: ms(100, 600_000).default(5000).describe('Longest time of one operation with its repetitions (large contents: one second more per 10 MB); then 451 4.3.0.'),
    max_write_buffer_bytes: count(65_536, 1_073_741_824).default(67_108_864).describe('Most content written as one file; a commit with more becomes several. Large messages stream from their file and are never in memory as a whole.'),
  }).prefault({}),
});

const deliveryTls = z.strictObject({
  mode: tlsMode.default('opportunistic').describe('none: never TLS. opportunistic: STARTTLS where it is offered, whatever the certificate is worth. required: no mail without TLS. verify: nor with a certificate that is not trusted or not of the host.').meta(live),
  destinations: z.record(z.string().transform(aLabels), z.strictObject({
    mode: tlsMode.describe('As delivery.tls.mode, for this destination.').meta(live),
  })).default({}).describe('Domain → its own rules; they win over those of a next hop.').meta(live),
  plain_retry: z.boolean().default(true).describe('opportunistic: when a handshake fails, connect again at once and send without TLS.').meta(live),
  broken_host_ttl_ms: ms(0, 30 * day).default(3_600_000).describe('opportunistic: how long a host whose handshake failed gets its mail without TLS from the start; 0: it is not remembered.').meta(live),
  ca_file: path().optional().describe('PEM: issuers that are trusted; absent: those of the system, or those that come with Node.').meta(live),
  crl_file: path().optional().describe('PEM: revocation lists; certificates on them are not trusted.').meta(live),
  cert_file: path().optional().describe('PEM: certificate we show to hosts that ask for one, then its chain.').meta(live),
  key_file: path().optional().describe('PEM: its key, without a password. Absent: it is in cert_file.').meta(live),
  min_version: tlsVersion.default('TLSv1.2').describe('Oldest version that is spoken.').meta(live),
  ciphers: z.string().min(1).optional().describe(CIPHERS).meta(live),
  ciphersuites: z.string().min(1).optional().describe(CIPHERSUITES).meta(live),
  handshake_timeout_ms: ms(100, 600_000).default(30_000).describe('Time for a handshake.').meta(live),
  resume_sessions: z.boolean().default(true).describe('Resume sessions with hosts that let us.').meta(live),
  resumption_key_exchange: z.enum(['full', 'none']).default('full').describe('full: a resumed session of TLS 1.3 has a key exchange of its own. none: hosts that prefer none may leave it out; they save most of the CPU of it, and whoever gets hold of their ticket key can read these sessions.').meta(live),
});

const redis = z.strictObject({
  url: z.string().regex(/^rediss?:\/\/\S+$/, 'a URL such as redis://127.0.0.1:6379, or rediss:// for TLS').default('redis://127.0.0.1:6379').describe('The Redis server; rediss:// is TLS with its certificate verified. A user name and a number of the database may stand in it.'),
  topology: z.enum(['single', 'sentinel', 'cluster']).default('single').describe('single: the server of url. sentinel: the master that the sentinels in nodes name. cluster: a Redis Cluster, found by the nodes. With the last two url says scheme, user, password and database only.'),
  nodes: z.array(z.string().regex(/^(?:\[[^\]\s]+\]|[^:\s/,]+):\d{1,5}$/, 'host:port')).max(64).default([]).describe('sentinel: the sentinels. cluster: some of its nodes, from which the others are learned.'),
  master_name: z.string().min(1).max(128).default('mymaster').describe('sentinel: what the sentinels call the master.'),
  sentinel_password: z.string().min(1).max(256).nullable().default(null).describe('sentinel: password of the sentinels.'),
  prefix: z.string().regex(/^[A-Za-z0-9_.{}-]{1,64}$/, 'letters, digits and _ . { } -').default('protorelay').describe('Begins the names of all keys. Nodes that share a queue, or a policy, share it; nobody else may. In a cluster braces are put around it, unless it has some: all keys must lie in one slot.'),
  password: z.string().min(1).max(256).nullable().default(null).describe('Password of Redis; `${NAME}` takes it from the environment. null: what the URL says.'),
  tls_ca_file: z.string().min(1).nullable().default(null).describe('Certificates (PEM) that may have signed that of Redis, relative to data_dir; null: those of Node.'),
  timeout_ms: ms(10, 60_000).default(2000).describe('Time for one command; then Redis is given up until it answers again, and the queue is polled.'),
  reconcile_interval_ms: ms(100, 3_600_000).default(15_000).describe('bullmq: how often the queue is asked for due work nevertheless: entries whose node died, and what Redis forgot.'),
  min_processes: count(1, 10_000).default(1).describe('bullmq: relay processes of all nodes together, at least. Limits of destinations are divided by it where Redis never told how many there are.'),
});

const delivery = z.strictObject({
  enabled: z.boolean().default(true).describe('false: everything is accepted and held in the queue.'),
  mx_port: count(1, 65535).default(25).describe('Port of MX hosts.').meta(live),
  smarthost: nextHop.optional().describe('Next hop for all mail without a route. Absent: mail goes by MX.'),
  tls: deliveryTls.prefault({}),
  mta_sts: z.strictObject({
    enabled: z.boolean().default(false).describe('Ask for the MTA-STS policies (RFC 8461) of domains that go by MX and keep to those that enforce: only exchangers they name, only with verified TLS. A domain in tls.destinations keeps the mode it has there.'),
    fetch_timeout_ms: ms(100, 600_000).default(30_000).describe('Time to fetch a policy.').meta(live),
    max_domains: count(1, 1_000_000).default(10_000).describe('Domains whose policies are kept: in `data_dir/mta-sts` of a host, and in the memory of each delivery thread.'),
    refresh_interval_ms: ms(1000, 365 * day).default(day).describe('How old a policy gets before it is fetched again; at half of its own time when that is sooner. One that cannot be fetched stays until its time is over.').meta(live),
  }).prefault({}),
  dane: dane.prefault({}),
  tls_rpt: tlsRpt.prefault({}),
  routes: z.record(z.string().transform(aLabels), nextHop).default({}).describe('Domain → next hop. What is said of a hop changes live; one more domain, or one less, takes a restart.'),
  ehlo_name: hostName.optional().describe('Name in EHLO; default: hostname.').meta(live),
  source_address: z.string().optional().describe('Local address of outgoing connections.').meta(live),
  ip_family: z.enum(['any', 'ipv4', 'ipv6']).default('any').describe('Address family of outgoing connections; any: both, IPv6 first (RFC 6724 order).').meta(live),
  refuse_loopback_mx: z.boolean().default(true).describe('An MX that points to loopback or to one of our own listeners is a mail loop (5.4.6). Off for tests only.').meta(live),
  max_connections: count(1, 100_000).default(1000).describe('Outgoing connections of one delivery thread.'),
  max_connections_per_destination: count(1, 10_000).default(20).describe('Outgoing connections to one destination; each relay process has its share, at least 1.').meta(live),
  max_cluster_connections_per_destination: count(0, 1_000_000).default(0).describe('With the scheduler bullmq: connections to one destination from all nodes together, though every relay process may have one. 0: no such limit.'),
  max_messages_per_destination_per_s: z.number().min(0).max(1_000_000).default(0).describe('Messages sent to one destination in a second, attempts that fail included. 0: no limit. With the scheduler bullmq all nodes share it; with embedded each relay process has it for itself.').meta(live),
  backlog_per_connection: count(1, 100_000).default(4).describe('Messages waiting for a destination per connection to it: with 10 waiting and 4 here there are to be three. Their number at most doubles at a time.'),
  backlog_wait_ms: ms(10, 3_600_000).default(1000).describe('Where messages wait longer than this for a connection, one more is opened, however few they are; then another after the same time, as long as they do.').meta(live),
  max_messages_per_connection: count(1, 1_000_000).default(1000).describe('Messages sent over one connection.').meta(live),
  max_recipients_per_transaction: count(1, 100_000).default(1000).describe('Recipients in one outgoing transaction.').meta(live),
  connect_timeout_ms: ms(100, day).default(30_000).describe('Time to connect.').meta(live),
  command_timeout_ms: ms(100, day).default(300_000).describe('Time for a reply to greeting, EHLO, MAIL, RCPT, RSET, QUIT, DATA.').meta(live),
  data_timeout_ms: ms(100, day).default(180_000).describe('Time without progress while content is sent.').meta(live),
  final_reply_timeout_ms: ms(100, day).default(600_000).describe('Time for the reply to the end of data (RFC 5321 §4.5.3.2.6).').meta(live),
  max_hosts_per_attempt: count(1, 100).default(3).describe('Hosts (addresses) that one attempt offers a message to: when one defers it (4xx, silence or a hang-up before the end of the content), the next one is asked. Hosts that cannot be connected to, or that it does not fit, are passed over and not counted.').meta(live),
  max_attempt_ms: ms(0, day).default(900_000).describe('An attempt that takes longer asks no further host.').meta(live),
  failed_host_ttl_ms: ms(0, 30 * day).default(3_600_000).describe('How long a host that failed is tried after the others of its destination; until it takes a message. 0: it is not remembered (one that cannot be connected to is, for suspend_ms).').meta(live),
  greeting_refusal: z.enum(['defer', 'bounce']).default('defer').describe('When every host of a destination refuses us with a 5xx in its greeting, or to EHLO and HELO. 521 from every host bounces either way: they take no mail at all (RFC 7504).').meta(live),
  no_pipelining_ttl_ms: ms(0, 30 * day).default(3_600_000).describe('How long a host that lost what was sent ahead of its replies gets each command after the reply to the last one; 0: it is not remembered.').meta(live),
  idle_connection_ms: ms(0, 3_600_000).default(5000).describe('How long a connection without work is kept for reuse.').meta(live),
  suspend_after_failures: count(1, 1000).default(3).describe('Connections that fail one after another before the destination is suspended.').meta(live),
  suspend_ms: ms(100, day).default(60_000).describe('How long; doubled while it goes on, up to retry.max_delay_ms.').meta(live),
  max_handoff_messages: count(1, 1_000_000).default(2000).describe('Messages with delivery threads of a relay process at once, as far as content_memory_mb has room for them; beyond that they wait in the database.'),
});

const schema = {
  $schema: z.string().optional().describe('For editors.').meta(live),
  include: z.array(z.string().min(1)).optional().describe('Files merged before this file’s own keys, relative to this file; objects merge key by key, lists are replaced.').meta(live),
  hostname: hostName.default('localhost').describe('Our name: in the banner, EHLO replies and Received.').meta({ ...live, default_text: 'the machine’s name' }),
  data_dir: path().default('../data').describe('Folder of queue, events, logs and control socket; relative to the config file.'),
  node_id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/).default('node').describe('Name of this node in leases. With the mysql drivers every node that shares the queue sets one of its own: a second relay with it does not start.'),
  listeners: z.array(listener).min(1).default([{ host: '127.0.0.1', port: 2525, backlog: 1024, tls: 'off', client_certificate: 'off', auth: 'off' }]).describe('Where we accept SMTP.'),
  relay_networks: z.array(z.string()).default(['127.0.0.0/8', '::1/128']).describe('Clients in these networks may send to any domain. Unix sockets always may.').meta(live),
  relay_domains: z.array(z.string().transform(aLabels)).default([]).describe('Any client may send to these domains; `.example.com` covers subdomains.').meta(live),
  allow_open_relay: z.boolean().default(false).describe('Start although `relay_networks` (or `policy.xclient_networks`, `policy.proxy_protocol.networks`) cover so much of the world that everybody could send anywhere through this relay. For one that strangers cannot reach, because something before it keeps them out.').meta(live),
  postmaster: z.string().max(254).optional().describe('Address that mail to postmaster and abuse of our own names (`<postmaster>`, hostname, delivery.ehlo_name, our address literals) goes to, from whoever it comes; it is delivered like mail to any other address. Absent: such mail is refused with 550 5.7.1, unless hostname is one of relay_domains.').meta(live),
  max_message_size: count(1024, 1_099_511_627_776).default(26_214_400).describe('Longest content in bytes (SIZE).').meta(live),
  inbound_ack_mode: z.enum(['after_persist', 'after_journal', 'after_enqueue']).default('after_persist').describe('When 250 is sent: after the message is on stable storage; after it is in the journal on this node’s own disk, from where it is drained to the shards (mysql drivers); or once it is in memory (a crash can lose it). To or from after_journal takes a restart.').meta(live),
  inbound_persist_wait_timeout_ms: ms(10, 600_000).default(5000).describe('after_persist, after_journal: longest wait for the commit; then 451 4.3.0 and the message is withdrawn.').meta(live),
  journal: z.strictObject({
    path: path().default('journal').describe('after_journal: folder of the journal, relative to data_dir; best on a disk that is quick to fsync.'),
    max_mb: count(64, 1_048_576).default(4096).describe('after_journal: size of the journal of a relay process; with 15/16 of it used, new mail gets 452 4.3.1 until shards and storage have taken over enough.'),
    segment_mb: count(1, 4096).default(64).describe('after_journal: size of one of its files; a file is deleted when all in it is drained.'),
    max_delay_ms: ms(0, day).default(30_000).describe('after_journal: while new mail keeps the relay busy, draining leaves the cores to it, until a message has waited so long or the journal is half full.'),
  }).prefault({}),
  persist_max_inflight_mails: count(1, 1_000_000).default(2048).describe('Messages between end of data and commit; beyond: 452 4.3.1. Each relay process has its share.').meta(live),
  persist_min_available_memory_mb: count(0, 1_048_576).default(256).describe('Memory the system must have available; below: 452 4.3.1.').meta(live),
  persist_min_db_available_connections: count(0, 10_000).default(1).describe('Database connections that must be free; below: 451 4.3.0. With sqlite the one writer counts as free while its last commit is younger than inbound_persist_wait_timeout_ms; with mysql: max_pool_size less those in use, of the shard that has most.').meta(live),
  persist_min_free_disk_mb: count(0, 1_073_741_824).default(256).describe('Free space that data_dir must have, and the folder of local storage, and write_quorum roots of distributed storage (with after_journal the folder of the journal instead); below: 452 4.3.1. What was taken in and is still to be written counts as used, and content that streams to a file stops above it.').meta(live),
  content_memory_mb: count(4, 65_536).default(128).describe('Memory for content in flight of a relay process, shared by its threads (each takes its length, rounded up to 1 KiB; touched only as used).'),
  spill_threshold_bytes: count(65_536, 1_073_741_824).default(262_144).describe('Longer content streams to a file.'),
  accept_processes: z.union([z.literal('auto'), count(1, 64)]).default('auto').describe('Relay processes of this host, each with threads and a queue of its own. 1: no supervisor. auto: one for each 4 cores, 1 below 8.'),
  supervisor: z.strictObject({
    restart_delay_ms: ms(10, 3_600_000).default(250).describe('Wait before a relay process that crashed is started again; doubled with each crash that follows.').meta(live),
    max_restart_delay_ms: ms(10, 3_600_000).default(30_000).describe('Longest such wait; a process that ran longer than this counts as well again.').meta(live),
    hang_timeout_ms: ms(1000, 3_600_000).default(30_000).describe('A relay process whose main thread answers nothing for so long is killed and started again.').meta(live),
  }).prefault({}),
  session_threads: z.union([z.literal('auto'), count(1, 64)]).default('auto').describe('Threads of a relay process that run SMTP sessions; auto: half the cores over all processes, at least 1.'),
  delivery_threads: z.union([z.literal('auto'), count(1, 63)]).default('auto').describe('Threads of a relay process that deliver; auto: half the cores over all processes, at least 1.'),
  persist_threads: z.union([z.literal('auto'), count(1, 64)]).default('auto').describe('Persistence pool of a relay process; auto: 1 with sqlite, which has one writer; with mysql 2, where there are two cores.'),
  shutdown_grace_ms: ms(0, 3_600_000).default(10_000).describe('How long SIGTERM waits for open transactions and deliveries.').meta(live),
  lease_ms: ms(1000, day).default(120_000).describe('How long this node owns entries it is sending; renewed while it does. Entries of a node that stopped or hangs go to others after that time.'),
  clock_warn_offset_ms: ms(10, day).default(2000).describe('With the mysql drivers the servers’ clocks rule leases and due times. A clock of this machine that differs by more is logged (clock.differs).'),
  clock_max_offset_ms: ms(100, 365 * day).default(60_000).describe('By more: this node claims no entries of that server until its clock is right (clock.refused).'),
  index_attachments: z.boolean().default(true).describe('Record name, type, size and offset of attachments: of those that begin in the first 32 MiB, up to 200 of a message.').meta(live),
  attributes: attributes.prefault({}),
  tenants,
  added_headers: addedHeaders,
  tls: tls.prefault({}),
  smtp: smtp.prefault({}),
  auth: auth.prefault({}),
  database: database.prefault({}),
  storage: storage.prefault({}),
  scheduler: z.strictObject({
    engine: z.enum(['embedded', 'bullmq']).default('embedded').describe('What knows when waiting mail is due: embedded, each relay process by itself; bullmq, all nodes that share a queue together, over Redis.'),
    poll_interval_ms: ms(10, 3_600_000).default(1000).describe('With the mysql drivers: how often the queue is asked for due work of other nodes; with bullmq only while Redis cannot be used.'),
    redis: redis.prefault({}),
  }).prefault({}),
  delivery: delivery.prefault({}),
  egress: egress.prefault({}),
  policy: policySchema.prefault({}),
  dkim: dkim.prefault({}),
  return_path: returnPath.prefault({}),
  http: http.prefault({}),
  metrics: metrics.prefault({}),
  shaping: shaping.prefault({}),
  adaptive: adaptive.prefault({}),
  rules: z.array(deliveryRule).max(MAX_RULES).default([]).describe('What to do when peers refuse too much (docs/rules.md).').meta(live),
  warmup: z.array(warmUp).max(1000).default([]).describe('Plans by which sources send more from day to day (docs/warmup.md).').meta(live),
  dns: z.strictObject({
    servers: z.array(z.string()).default([]).describe('`address` or `address:port`; empty: those of the system.').meta(live),
    timeout_ms: ms(100, 120_000).default(5000).describe('Time for one try.').meta(live),
    tries: count(1, 10).default(3).describe('How often a server that does not answer is asked. In each round all of them are.').meta(live),
    cache_max_entries: count(0, 1_000_000).default(50_000).describe('Answers kept; 0: none.').meta(live),
    cache_max_ttl_ms: ms(0, 30 * day).default(3_600_000).describe('Longest time an answer is kept, whatever its TTL.').meta(live),
    mx_ttl_ms: ms(0, 30 * day).default(300_000).describe('How long MX records are kept (the resolver does not tell their TTL); at most cache_max_ttl_ms.'),
    negative_ttl_ms: ms(0, day).default(60_000).describe('How long a missing name is remembered.').meta(live),
  }).prefault({}),
  retry: z.strictObject({
    enabled: z.boolean().default(true).describe('false: the first deferral bounces.').meta(live),
    max_attempts: count(1, 10_000).default(30).describe('Attempts before a recipient expires.').meta(live),
    initial_delay_ms: ms(10, 30 * day).default(60_000).describe('Delay after the first attempt.').meta(live),
    max_delay_ms: ms(10, 30 * day).default(14_400_000).describe('Longest delay.').meta(live),
    backoff_multiplier: z.number().min(1).max(100).default(2).describe('Each delay is the one before times this.').meta(live),
    jitter_ratio: z.number().min(0).max(0.9).default(0.1).describe('Random share by which a delay varies up or down.').meta(live),
    max_age_ms: ms(100, 365 * day).default(5 * day).describe('Age at which a recipient expires.').meta(live),
  }).prefault({}),
  dsn: z.strictObject({
    max_returned_bytes: count(0, 104_857_600).default(1_048_576).describe('RET=FULL returns the whole message up to this size, above it the header section only.').meta(live),
    delay_after_ms: ms(0, 365 * day).default(0).describe('A delay DSN goes out when a recipient has waited this long (NOTIFY=DELAY, or NOTIFY absent). 0: never. Not for mail of clients without relay rights.').meta(live),
    max_reports_per_stranger_per_h: count(0, 1_000_000).default(20).describe('Failure DSNs that one sender address gets in an hour (its domain: 25 times as many), from each delivery thread, for mail that clients without relay rights brought (to relay_domains); such a sender may be forged. Failures beyond are in the event log and in `protorelay queue` only. 0: such mail never makes a DSN.').meta(live),
  }).prefault({}),
  suppression: suppression.prefault({}),
  queue: z.strictObject({
    keep_delivered_ms: ms(0, 365 * day).default(0).describe('How long what was delivered is kept for inspection; 0: not at all.'),
    keep_failed_ms: ms(0, 365 * day).default(7 * day).describe('How long failed messages and their content are kept.'),
    kept_headers: z.array(z.string().regex(/^[!-9;-~]{1,100}$/, 'a name of a header field').transform((name) => name.toLowerCase())).max(16).default([]).describe('Header fields of which the first 1,000 octets are kept beside a message, to select mail by: the first field of each name in the first 64 KiB.').meta(live),
    keep_failed_messages: count(0, 10_000_000).default(100_000).describe('Failed messages kept at most; the oldest go first. 0: none (from or to 0 takes a restart). Each relay process (sqlite) or shard has its share.').meta(live),
    keep_failed_mb: count(0, 1_048_576).default(1024).describe('Content of failed messages kept at most; the oldest go first. 0: none (from or to 0 takes a restart). Each relay process (sqlite) or shard has its share.').meta(live),
    purge_interval_ms: ms(100, day).default(60_000).describe('How often what is past that time is purged.').meta(live),
  }).prefault({}),
  log: z.strictObject({
    level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info').describe('Least level that is written.').meta(live),
    format: z.enum(['json', 'text']).default('json').describe('One JSON object or one readable line each.'),
    file: path().nullable().default(null).describe('File, relative to data_dir; null: standard output. SIGUSR1 reopens it.'),
    mail: z.boolean().default(false).describe('Log every event of mail as `protorelay events --text` prints it (`mail.delivered` …, level info), at most 5,000 lines a second of each relay process.').meta(live),
    transcripts: z.strictObject({
      inbound: z.boolean().default(false).describe('Log the commands of clients and our replies (never content or credentials).').meta(live),
      outbound: z.array(z.string().min(1).max(320)).max(100).default([]).describe('Log the dialogs with the hosts of these destinations (never content or credentials): domains, `smarthost`, `via:HOST:PORT`; `*` stands for any text. At most 1,000 lines a second of each delivery thread.').meta(live),
    }).prefault({}),
  }).prefault({}),
  replies: z.strictObject({
    file: z.string().default('').describe('Rules of your own for what replies of hosts mean (docs/replies.md), tried before those of the installation, `config/replies.json`. Empty: none. Read again on reload.').meta(live),
    unknown_kept: count(0, 100_000).default(1000).describe('Refusals that no rule knows are counted by their text for `protorelay replies unknown`: so many texts in each delivery thread, the rarest go. 0: none.').meta(live),
  }).prefault({}),
  events: z.strictObject({
    enabled: z.boolean().default(true).describe('Write delivery events to <data_dir>/events/*.jsonl.'),
    max_file_mb: count(1, 1_048_576).default(256).describe('Size at which a new file begins.'),
    keep_days: count(1, 3650).default(14).describe('Days for which files are kept.'),
    max_total_mb: count(1, 104_857_600).default(10_240).describe('Size of all files together, those of all relay processes; the oldest beyond are removed. Files that are complete are compressed to about a tenth.'),
    max_buffer_mb: count(1, 1024).default(16).describe('Lines that may wait for the disk; beyond, lines are dropped and counted.'),
  }).prefault({}),
};

export const configSchema = z.strictObject(schema);
export type Config = z.output<typeof configSchema>;
/** How to reach one MariaDB or MySQL server. */
export type ServerConfig = z.output<typeof mysqlServer>;
