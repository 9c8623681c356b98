/** The section `policy`: who may connect, how often, and what is looked at before mail is taken. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const day = 86_400_000;
const live = { live: true } as const;
const count = (min: number, max: number) => z.int().min(min).max(max);
const ms = count;
const texts = (entries: string[]) => z.array(z.string().min(1)).default(entries);

const MODES = 'log: say so in the log only; tag: also add a line to tag_header of the messages; defer: refuse for now (4xx); reject: refuse (5xx).';
const EXEMPT = 'Clients this does not concern: addresses and networks, `relay_networks` (those of that key, and Unix sockets), `authenticated`, and domains of senders (`example.com`, `.example.com`; a sender can claim any).';
const KNOWN = ['relay_networks', 'authenticated'];

/** The keys that every part of the policy has: switch, mode and exemptions. */
const part = (mode: 'log' | 'tag' | 'defer' | 'reject', exempt: string[], enabled = false) => ({
  enabled: z.boolean().default(enabled).describe('Whether this is looked at.').meta(live),
  mode: z.enum(['log', 'tag', 'defer', 'reject']).default(mode).describe(MODES).meta(live),
  exempt: texts(exempt).describe(EXEMPT).meta(live),
});
/** The keys of a part that asks DNS. */
const lookup = (timeoutMs: number) => ({
  timeout_ms: ms(10, 60_000).default(timeoutMs).describe('Longest wait for the answers of DNS; nothing else waits meanwhile.').meta(live),
  on_failure: z.enum(['open', 'closed']).default('open').describe('When DNS fails or takes longer: open: as if nothing was found; closed: refuse for now (in the modes defer and reject).').meta(live),
});

const zone = z.strictObject({
  zone: z.string().regex(/^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/, 'a domain').describe('Domain of the list, as zen.spamhaus.org.'),
  lists: z.array(z.enum(['ipv4', 'ipv6', 'sender_domain'])).min(1).default(['ipv4', 'ipv6']).describe('What is looked up there: the client by its IPv4 or IPv6 address, the domain of the sender.'),
  score: z.number().min(-1_000_000).max(1_000_000).default(1).describe('What a hit adds to the score; less than 0 for a list of good ones.'),
  answers: texts(['127.0.0.2-127.0.255.254']).describe('Answers that count: addresses, networks, or ranges as 127.0.0.4-127.0.0.7, within 127.0.0.0/8; best those that the list documents. What lists say when they refuse to answer (127.0.0.1, 127.0.0.255, 127.0.1.255, 127.255.255.0/24) never counts unless it is named here, by itself or as an end of a range.'),
});

const rate = z.strictObject({
  count: z.enum(['connections', 'messages', 'recipients', 'commands']).describe('What is counted.'),
  per: z.enum(['ip', 'network', 'user', 'sender_domain', 'all']).default('ip').describe('Who has a bucket: each client (IPv6: /64), each /24 or /64, each authenticated user, each domain of senders; all share one.'),
  limit: count(1, 1_000_000_000).describe('Tokens that come back in interval_ms.'),
  interval_ms: ms(100, day).default(60_000).describe('See limit.'),
  burst: count(1, 1_000_000_000).optional().describe('Tokens that can be there at once; default: limit.'),
});

export const policySchema = z.strictObject({
  tag_header: z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'the name of a header field').default('X-ProtoRelay-Policy').describe('Header field that the mode tag adds above our Received.').meta(live),
  scope: z.enum(['auto', 'host', 'cluster']).default('auto').describe('Who shares buckets of rates, bans, greylist and quotas of users: host: the relay processes of this host; cluster: all nodes that use the same scheduler.redis; auto: cluster where scheduler.engine is bullmq.'),
  sync_interval_ms: ms(20, 1000).default(100).describe('scope cluster: how often a host tells the other nodes what it counted, and hears what they did; nothing waits for it.'),
  max_counters: count(1024, 16_777_216).default(65_536).describe('Buckets of rates and failures that this host remembers (16 bytes each); those that are fullest are forgotten first.'),
  connections: z.strictObject({
    ...part('defer', ['relay_networks'], true),
    max_total: count(0, 1_000_000).default(0).describe('Open connections of this host; 0: as many as smtp.max_connections. Exempt clients are counted and not refused.').meta(live),
    max_per_ip: count(0, 1_000_000).default(50).describe('Open connections of one client (IPv6: of its /64); 0: no limit.').meta(live),
    max_per_network: count(0, 1_000_000).default(200).describe('Open connections of one /24 (IPv4) or /64 (IPv6); 0: no limit.').meta(live),
  }).prefault({}).describe('Limits of open connections, over all processes of the host.'),
  shares: z.strictObject({
    enabled: z.boolean().default(true).describe('Whether what clients share (TLS handshakes, content memory, recipients in open envelopes, spill files, logins that wait) has a bound for each client besides its total.').meta(live),
    client_percent: count(1, 100).default(25).describe('So much of each a client (IPv6: its /64) can have at once.').meta(live),
    network_percent: count(1, 100).default(50).describe('So much a /24 (IPv4) or /64 (IPv6).').meta(live),
    trusted_percent: count(1, 100).default(90).describe('So much a client that is in relay_networks, on a Unix socket, or has authenticated; their network has no bound.').meta(live),
    strangers_percent: count(1, 100).default(75).describe('Once so much of it is in use, whoever has it, only such clients get more: strangers cannot use it up together.').meta(live),
  }).prefault({}).describe('How much one client can have of what all share.'),
  rates: z.strictObject({
    ...part('defer', ['relay_networks'], true),
    limits: z.array(rate).default([{ count: 'connections', per: 'ip', limit: 600, interval_ms: 60_000 }]).describe('Token buckets, shared by all processes of the host, or by all nodes (scope).').meta(live),
  }).prefault({}).describe('Limits of how often.'),
  bans: z.strictObject({
    ...part('defer', KNOWN, true),
    max_failures: z.strictObject({
      auth: count(0, 1_000_000).default(20).describe('Failed logins; 0: not counted.').meta(live),
      protocol: count(0, 1_000_000).default(30).describe('Commands that are none (500 to 504, 555), apart from those sent on behind a refusal; 0: not counted.').meta(live),
      unknown_user: count(0, 1_000_000).default(0).describe('Recipients that do not exist or may not be relayed to (550); 0: not counted.').meta(live),
    }).prefault({}).describe('Failures within window_ms that are forgiven; one more is a ban.'),
    window_ms: ms(1000, 30 * day).default(600_000).describe('In this time all failures are forgotten.').meta(live),
    duration_ms: ms(1000, 365 * day).default(600_000).describe('How long the first ban lasts.').meta(live),
    growth: z.number().min(1).max(100).default(2).describe('Each further ban lasts so many times as long as the one before.').meta(live),
    max_duration_ms: ms(1000, 3650 * day).default(day).describe('Longest ban.').meta(live),
    forget_ms: ms(0, 3650 * day).default(7 * day).describe('After so long without a ban the next one counts as the first.').meta(live),
    max_entries: count(64, 1_000_000).default(16_384).describe('Bans that this host remembers; the one that ends first makes room.'),
  }).prefault({}).describe('Clients that failed too often are not served for a time; `protorelay ban` lists, adds and deletes. Bans of operators hold whatever `enabled` says.'),
  reverse_dns: z.strictObject({
    ...part('defer', KNOWN),
    require: z.enum(['name', 'confirmed']).default('confirmed').describe('name: the address has a name (PTR); confirmed: one of its names has the address again.').meta(live),
    ...lookup(5000),
  }).prefault({}).describe('The name of the client’s address.'),
  helo: z.strictObject({
    ...part('reject', KNOWN),
    checks: z.array(z.enum(['syntax', 'literal', 'own_name', 'resolves', 'matches'])).default(['syntax', 'literal', 'own_name']).describe('syntax: a name with a dot, or an address literal; literal: a literal is the client’s address; own_name: it is not our hostname; resolves: the name has an address or MX; matches: one of its addresses is the client’s.').meta(live),
    ...lookup(5000),
  }).prefault({}).describe('The name that the client gives itself in HELO or EHLO.'),
  dnsbl: z.strictObject({
    ...part('reject', KNOWN),
    zones: z.array(zone).default([]).describe('Lists in DNS (RFC 5782).').meta(live),
    threshold: z.number().min(-1_000_000).max(1_000_000).default(1).describe('A score of this or more is a hit.').meta(live),
    ...lookup(3000),
  }).prefault({}).describe('Lists of bad (and good) clients and sender domains.'),
  sender_domain: z.strictObject({
    ...part('reject', KNOWN),
    ...lookup(5000),
  }).prefault({}).describe('The sender’s domain exists and takes mail: an MX other than the null MX, or an address.'),
  address_validation: z.strictObject({
    ...part('reject', ['authenticated']),
    stages: z.array(z.enum(['basic', 'extended', 'dns_mx'])).default(['basic', 'extended']).describe('In this order. basic: the grammar of RFC 5321 and a domain with a dot, or a literal; extended: no domain reserved for examples and the like, no numeric top-level domain, no literal, a local part that mail systems take; dns_mx: the domain has an MX or an address.').meta(live),
    applies_to: z.array(z.enum(['sender', 'recipient'])).default(['sender', 'recipient']).describe('Which addresses.').meta(live),
    ...lookup(5000),
  }).prefault({}).describe('The addresses of MAIL and RCPT, stage by stage.'),
  greylist: z.strictObject({
    ...part('defer', KNOWN),
    delay_ms: ms(0, day).default(300_000).describe('A client, sender and recipient never seen together are refused for so long.').meta(live),
    retry_window_ms: ms(1000, 30 * day).default(day).describe('Who comes back later than this begins again.').meta(live),
    keep_ms: ms(1000, 365 * day).default(35 * day).describe('How long those that came back are known after they were seen last.').meta(live),
    client_passes: count(0, 1000).default(5).describe('A client (its /24 or /64) that came back so often is known for all its mail; 0: never.').meta(live),
    max_entries: count(1024, 16_777_216).default(131_072).describe('Entries that this host remembers (16 bytes each), also over a restart.'),
  }).prefault({}).describe('Who is new must try again: programs that only send once do not.'),
  early_talker: z.strictObject({
    ...part('reject', KNOWN),
    greet_delay_ms: ms(1, 60_000).default(2000).describe('The banner waits so long; who talks before it is an early talker.').meta(live),
  }).prefault({}).describe('Clients that do not wait for the banner.'),
  tarpit: z.strictObject({
    ...part('tag', KNOWN),
    after_errors: count(0, 100_000).default(3).describe('Replies of 5xx class in a session before the client is slowed down.').meta(live),
    delay_ms: ms(1, 60_000).default(1000).describe('Pause after the next such reply; each further pause is this much longer.').meta(live),
    max_delay_ms: ms(1, 600_000).default(10_000).describe('Longest pause. When it is reached, the modes defer and reject end the session with 421 or 554; log and tag go on.').meta(live),
  }).prefault({}).describe('Pauses for clients that make errors; the mode log only says what it would do.'),
  proxy_protocol: z.strictObject({
    networks: texts([]).describe('Connections from these must begin with a PROXY header, version 1 or 2, and are taken to come from the address in it. From all others such a header is no command.').meta(live),
    timeout_ms: ms(100, 60_000).default(5000).describe('Time for the header; then the connection is closed.').meta(live),
  }).prefault({}).describe('Load balancers before us.'),
  xclient_networks: texts([]).describe('Clients that may use XCLIENT, and are offered it.').meta(live),
  xforward_networks: texts([]).describe('Clients that may use XFORWARD, and are offered it.').meta(live),
});

export type PolicyConfig = z.output<typeof policySchema>;
