/** The sections `delivery.dane` and `delivery.tls_rpt`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { domainKey } from '../base/domain.ts';

const live = { live: true } as const;
const day = 86_400_000;
const mode = z.enum(['off', 'opportunistic', 'require']);
const domain = z.string().transform(domainKey);

export const dane = z.strictObject({
  mode: mode.default('off').describe('DANE (RFC 7672) for domains that go by MX, and for a smarthost or route that is a host name and has no tls.mode of its own. All but off say that the resolvers of `dns.servers` (or of the system) validate DNSSEC and that nobody can change what they answer: best on this machine. opportunistic: hosts with TLSA records get mail only over TLS with the certificate these name. require: no mail to hosts without such records. A domain in tls.destinations keeps the mode it has there. From off to another takes a restart.'),
  destinations: z.record(domain, z.strictObject({
    mode: mode.describe('As delivery.dane.mode, for this domain, or this name of a smarthost or route.').meta(live),
  })).default({}).describe('Domain → its own mode. With delivery.dane.mode off one of them is enough to ask the resolvers for validated answers about it.').meta(live),
});

export const tlsRpt = z.strictObject({
  enabled: z.boolean().default(false).describe('Count the TLS sessions of each domain that goes by MX, and keep a report (RFC 8460) for each domain and UTC day in `data_dir/tls-rpt`.').meta(live),
  keep_days: z.int().min(1).max(3650).default(30).describe('Days whose reports are kept.').meta(live),
  max_domains: z.int().min(1).max(1_000_000).default(10_000).describe('Domains counted on one day; sessions of others are not.').meta(live),
  write_interval_ms: z.int().min(100).max(day).default(60_000).describe('How often reports are written while they change; a crash loses what was counted since.').meta(live),
  send: z.boolean().default(false).describe('Send the report of each domain and UTC day, once the day is over, to where the domain’s `_smtp._tls` record says: by mail (from the null reverse-path, through the queue) or by HTTPS. Needs enabled and contact_info.').meta(live),
  from_address: z.string().max(254).optional().describe('Address that reports by mail are from (header field From); its domain is named as their submitter, and is the one that a DKIM signature has to be of. Default: postmaster at hostname.').meta(live),
  max_send_delay_ms: z.int().min(0).max(day).default(14_400_000).describe('Reports leave at a time of their own, within so long after the end of the day.').meta(live),
  send_timeout_ms: z.int().min(100).max(600_000).default(30_000).describe('Time to hand in one report by HTTPS. What fails is tried again every hour, for a day.').meta(live),
  organization_name: z.string().min(1).max(255).optional().describe('Who reports; default: hostname.').meta(live),
  contact_info: z.string().min(1).max(255).optional().describe('Whom to ask about a report; default: postmaster at hostname. Reports are sent only where it is set.').meta(live),
});
