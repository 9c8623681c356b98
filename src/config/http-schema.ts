/** The section `http`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;
const count = (min: number, max: number) => z.int().min(min).max(max);
const hostName = z.string().min(1).max(255).regex(/^[A-Za-z0-9._\-[\]:]+$/, 'a host name or address');

export const http = z.strictObject({
  enabled: z.boolean().default(false).describe('Serve HTTP (docs/http.md), in a process of its own beside the relay’s. All of this section changes with a reload: that process ends its requests and starts anew.').meta(live),
  host: z.string().min(1).max(255).default('127.0.0.1').describe('Address to listen on. Beyond loopback it takes TLS and a token (`protorelay token create`), or `behind_proxy`.').meta(live),
  port: count(0, 65535).default(8025).describe('TCP port; 0 takes a free one (logged).').meta(live),
  tls: z.strictObject({
    cert_file: z.string().min(1).optional().describe('PEM: the certificate, then its chain; relative to data_dir. Absent: HTTP without TLS. Looked at for a change as `tls.watch_interval_ms` says.').meta(live),
    key_file: z.string().min(1).optional().describe('PEM: its key, without a password. Absent: it is in cert_file.').meta(live),
  }).prefault({}).describe('HTTPS.').meta(live),
  tokens_file: z.string().min(1).default('tokens.json').describe('Tokens that let clients in, as `protorelay token` writes them; relative to data_dir.').meta(live),
  allowed_hosts: z.array(hostName).max(1000).default([]).describe('Names that clients may call this relay by (`Host`), besides `host`, localhost and `hostname`. Others get 421: a page in somebody’s browser must not reach it by a name of its own.').meta(live),
  behind_proxy: z.boolean().default(false).describe('A proxy of `trusted_proxies` stands before it, keeps strangers out and says whom it speaks for (X-Forwarded-For).').meta(live),
  trusted_proxies: z.array(z.string()).max(1000).default([]).describe('Addresses and networks of these proxies; from elsewhere X-Forwarded-For says nothing.').meta(live),
  max_body_kb: count(1, 1_048_576).default(1024).describe('KiB of a request’s body; a longer one gets 413.').meta(live),
  request_timeout_ms: count(100, 3_600_000).default(30_000).describe('Time for a request to arrive; its header has a third of it.').meta(live),
  max_concurrent_requests: count(1, 10_000).default(64).describe('Requests at once; more get 503 with Retry-After. Health is asked beside them.').meta(live),
  max_connections: count(1, 100_000).default(1024).describe('Connections at once; beyond it the client with the most of them loses one.').meta(live),
  requests_per_min: count(1, 10_000_000).default(600).describe('Requests of one token in any minute; more get 429 with Retry-After. So many may also come without a good token from one client (an address, of IPv6 its /64).').meta(live),
});
