/** Options of `egress`: the addresses that mail leaves from, and which mail takes which. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { hostName, plainHop } from './next-hop-schema.ts';

const live = { live: true } as const;
const name = () => z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a name of letters, digits and `. _ -`');
const count = (min: number, max: number) => z.int().min(min).max(max);
/** One value or several. */
const globs = () => z.union([z.string().min(1).max(320).transform((one) => [one]), z.array(z.string().min(1).max(320)).min(1).max(10_000)]).optional();

const source = z.strictObject({
  name: name().describe('Name in pools, events and `source list`.').meta(live),
  address: z.string().optional().describe('Local address that connections leave from; only hosts of its family are tried. Absent: the one the system chooses.').meta(live),
  ehlo_name: hostName.optional().describe('Name in EHLO; absent: `delivery.ehlo_name`. It should resolve to the address, and the address to it.').meta(live),
  port: count(0, 65535).default(0).describe('Port of MX hosts; 0: `delivery.mx_port`.').meta(live),
  proxy: z.string().optional().describe('`socks5://USER:PASSWORD@ADDRESS:PORT` or `haproxy://ADDRESS:PORT`: the connection goes through it. HAProxy is told `address` by a PROXY header of version 2 and leaves from there; then the address lies on the proxy, not on this host.').meta({ ...live, secret: true }),
  max_connections: count(0, 100_000).default(0).describe('Connections from this source of one delivery thread; 0: no limit of its own.').meta(live),
  enabled: z.boolean().default(true).describe('false: nothing leaves from it; pools take their other members.').meta(live),
});

const member = z.strictObject({
  source: z.string().describe('Name of a source.').meta(live),
  weight: count(1, 1000).default(1).describe('Its share of the messages, against the weights of the others.').meta(live),
});

const pool = z.strictObject({
  name: name().describe('Name in routing rules, the pool header and `protorelay route`.').meta(live),
  members: z.array(member).min(1).max(1000).describe('Sources. A message always takes the same one, unless that may not send to the provider now.').meta(live),
  retry_other_source: z.boolean().default(false).describe('true: what a provider refuses because of the source goes by another member, if one may send there.').meta(live),
  fallback_pool: z.string().default('').describe('Pool that is taken when no member may send to the provider now; \'\': the message waits.').meta(live),
});

const match = z.strictObject({
  tenant: globs().describe('Tenant of the message; one or several, `*` stands for any text. The same in all keys here.').meta(live),
  campaign: globs().describe('Its campaign.').meta(live),
  class: globs().describe('Its class: urgent, normal or bulk.').meta(live),
  from_domain: globs().describe('Domain of the reverse-path.').meta(live),
  recipient_domain: globs().describe('Domain of the recipient.').meta(live),
  provider: globs().describe('Provider of the recipient’s domain, as `protorelay route` says it.').meta(live),
});

const rule = z.strictObject({
  name: name().optional().describe('Name of the rule in answers and events; a rule with `hold` or `discard` needs one.').meta(live),
  match: match.describe('All of it must be true; `{}` matches everything.').meta(live),
  pool: z.string().optional().describe('Result: the name of the pool that the mail leaves from. A message that names a pool leaves from that one.').meta(live),
  route: z.string().min(1).optional().describe('Result: the mail goes where `delivery.routes` says of this domain, or to the `smarthost`.').meta(live),
  next_hop: plainHop.optional().describe('Result: the mail goes to this host. One that asks for a login stands in `delivery.routes`.').meta(live),
  class: z.enum(['urgent', 'normal', 'bulk']).optional().describe('Result: the class of the mail for the rules that follow, and in events. The next rules are looked at.').meta(live),
  hold: z.literal(true).optional().describe('Result: the recipients are held, with the rule as the reason, until `queue release`; this rule does not hold them again.').meta(live),
  discard: z.literal(true).optional().describe('Result: the recipients end without delivery and without a report; each has an event of type `discarded`.').meta(live),
});

export const egress = z.strictObject({
  sources: z.array(source).max(10_000).default([]).describe('Addresses that mail leaves from. None: `delivery.source_address`.').meta(live),
  pools: z.array(pool).max(10_000).default([]).describe('Groups of sources.').meta(live),
  routing: z.array(rule).max(10_000).default([]).describe('Which way mail goes: the first rule that matches says it (one with `class` lets the next ones go on), by exactly one of `pool`, `route`, `next_hop`, `class`, `hold`, `discard`. Mail that none matches leaves from the pool that it names, else from `delivery.source_address`.').meta(live),
  check_interval_s: count(60, 86_400).default(3600).describe('How often each source is checked: its address on this host, its names in DNS, SPF of the domains that send from it, `dnsbls`. A source whose address is missing is suspended until it is back.').meta(live),
  dnsbls: z.array(hostName).max(100).default([]).describe('DNS lists in which each source’s address is looked up, at most once an hour.').meta(live),
});
