/** Options of AUTH, on listeners and towards next hops. Part of the one list in schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const day = 86_400_000;
const count = (min: number, max: number) => z.int().min(min).max(max);
/** A reload applies a change of the key; without it, a change takes a restart. */
const live = { live: true } as const;
/** The value is never shown, not even when it is wrong. */
const secret = { secret: true } as const;
const MAX_QUOTA = 2_000_000_000;

const rules = {
  sender_policy: z.enum(['any', 'login', 'list']).optional().describe('Reverse-paths the user may send from: any; the one that is the user name (a name without a domain: that local part); or the user’s `senders`. Other ones get 553 5.7.1; the null reverse-path always passes. Absent: as for all.').meta(live),
  senders: z.array(z.string().min(1)).optional().describe('Addresses, or `@example.com` for a whole domain.').meta(live),
  messages_per_hour: count(0, MAX_QUOTA).optional().describe('Messages taken in an hour of the clock; beyond: 451 4.7.1. 0: no limit. Absent: as for all.').meta(live),
  messages_per_day: count(0, MAX_QUOTA).optional().describe('The same in a day (UTC).').meta(live),
  recipients_per_hour: count(0, MAX_QUOTA).optional().describe('Recipients of messages taken in an hour of the clock; beyond: 451 4.7.1. 0: no limit. Absent: as for all.').meta(live),
  recipients_per_day: count(0, MAX_QUOTA).optional().describe('The same in a day (UTC).').meta(live),
};

export const LISTENER_AUTH = {
  auth: z.enum(['off', 'optional', 'required']).default('off').describe('AUTH on this listener: not offered, offered, or needed before MAIL (530 5.7.0). Who has authenticated may send to any domain.'),
  submission: z.boolean().optional().describe('Submission role (RFC 6409): adds Date and Message-ID where they are missing. Absent: true where `auth` is required.'),
};

const backend = z.strictObject({
  type: z.enum(['memory', 'file', 'database', 'pam', 'http']).describe('Where users come from; each type needs its own keys below.'),
  users: z.array(z.strictObject({
    username: z.string().min(1).max(255).describe('User name.'),
    password: z.string().min(1).max(1024).describe('Password, best as `${VARIABLE}`.').meta(secret),
    ...rules,
  })).optional().describe('memory: the users.').meta(secret),
  path: z.string().min(1).optional().describe('file: one user a line, `name:hash`; made by `protorelay user`, reloaded when it changes. database: SQLite file; absent with a queue on MariaDB or MySQL: the table `users` in its database, of several shards in the first. Relative to data_dir.'),
  query: z.string().min(1).optional().describe('database: SELECT with one `?` for the user name and the columns `hash` and, where wanted, those of the user’s rules. Default: from the table `users` that `protorelay user` makes.'),
  service: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/).optional().describe('pam: name of the PAM service. Default: smtp.'),
  config_dir: z.string().min(1).optional().describe('pam: folder of service files, instead of the system’s.'),
  url: z.string().regex(/^https?:\/\/[^\s]+$/, 'an http or https URL').optional().describe('http: where user name and password are posted as JSON.'),
  headers: z.record(z.string().regex(/^[A-Za-z0-9-]+$/), z.string()).optional().describe('http: header fields sent along, such as Authorization.').meta(secret),
  timeout_ms: count(10, 60_000).default(5000).describe('Longest wait for an answer; then the next backend is asked, and without a success 454 4.7.0 is the reply.'),
});

export const MECHANISMS = ['SCRAM-SHA-256', 'PLAIN', 'LOGIN', 'CRAM-MD5'] as const;
export const CLIENT_MECHANISMS = ['SCRAM-SHA-256', 'CRAM-MD5', 'PLAIN', 'LOGIN', 'XOAUTH2'] as const;

export const auth = z.strictObject({
  backends: z.array(backend).default([]).describe('Asked in order; the first that knows user and password wins.').meta(live),
  mechanisms: z.array(z.enum(MECHANISMS)).min(1).default([...MECHANISMS]).describe('Offered in this order, as far as a backend can serve them: pam and http know PLAIN and LOGIN only; of a file or table SCRAM-SHA-256 needs a hash of that kind, and CRAM-MD5, which has to be named here then, the password itself: while no user has one, neither is offered (docs/auth.md). SCRAM-SHA-256 stands for its -PLUS too, where TLS gives channel binding.').meta({ ...live, default_text: 'SCRAM-SHA-256, PLAIN, LOGIN; CRAM-MD5 where no backend is a file or a table' }),
  allow_without_tls: z.boolean().default(false).describe('Offer AUTH on connections without TLS. Otherwise they get 538 5.7.11. Unix sockets count as safe.').meta(live),
  max_auth_attempts: count(1, 1000).default(3).describe('Failed AUTH commands on one connection; the last one gets 421 4.7.0.').meta(live),
  failure_delay_ms: count(0, 60_000).default(1000).describe('A wrong user name or password is answered no sooner than this after the client’s last word.').meta(live),
  threads: count(1, 16).default(1).describe('Threads of a relay process that compute password hashes, with low priority.'),
  max_pending: count(1, 100_000).default(1000).describe('Logins waiting for an answer; one more gets 454 4.7.0. A client has at most a quarter of them; turns go round the clients, those first that logged in from there before, those last that failed within ten minutes.').meta(live),
  cache_ttl_ms: count(0, day).default(60_000).describe('How long a verified login is remembered (as a keyed digest), so that its password need not be hashed again. 0: not.').meta(live),
  cache_max_entries: count(1, 1_000_000).default(10_000).describe('Logins remembered at most.').meta(live),
  path: z.string().min(1).default('auth').describe('Folder of what AUTH keeps over a restart: a secret and the counters of quotas. Relative to data_dir.'),
  shared_secret: z.string().min(16).max(1024).optional().describe('What SCRAM says of users nobody has comes from it: with one text on all nodes asking two of them does not tell who exists. Best as `${VARIABLE}`. Unset: a secret that lies with the queue on its first server, with sqlite one in `auth.path`.').meta(secret),
  max_quota_users: count(64, 4_000_000).default(65_536).describe('Users with a quota whose counters are kept (64 bytes each); one more gets 451 4.7.1 until the day is over for another.'),
  sender_policy: z.enum(['any', 'login', 'list']).default('any').describe('Reverse-paths users may send from, where nothing else is said for them.').meta(live),
  messages_per_hour: count(0, MAX_QUOTA).default(0).describe('Quota of each user without one of its own; 0: none.').meta(live),
  messages_per_day: count(0, MAX_QUOTA).default(0).describe('The same in a day (UTC).').meta(live),
  recipients_per_hour: count(0, MAX_QUOTA).default(0).describe('Recipients instead of messages.').meta(live),
  recipients_per_day: count(0, MAX_QUOTA).default(0).describe('The same in a day (UTC).').meta(live),
  users: z.record(z.string(), z.strictObject(rules)).default({}).describe('User name → rules that hold over those of the backend.').meta(live),
});

export const clientAuth = z.strictObject({
  username: z.string().min(1).max(255).describe('User name at the next hop.').meta(live),
  password: z.string().min(1).max(1024).optional().describe('Password, best as `${VARIABLE}`.').meta({ ...live, ...secret }),
  access_token: z.string().min(1).max(8192).optional().describe('Bearer token for XOAUTH2.').meta({ ...live, ...secret }),
  access_token_file: z.string().min(1).optional().describe('File with that token, read for each connection; relative to data_dir.').meta(live),
  mechanisms: z.array(z.enum(CLIENT_MECHANISMS)).min(1).default([...CLIENT_MECHANISMS]).describe('Those that may be used, best first; the first that the next hop offers and that we have a secret for is taken. SCRAM-SHA-256 stands for its -PLUS too, which comes before it where TLS gives channel binding.').meta(live),
  allow_without_tls: z.boolean().default(false).describe('Use PLAIN, LOGIN and XOAUTH2 also where the connection has no TLS and could be read by others.').meta(live),
});
