/** Options of the attributes of messages, and of header fields made of them. Part of the one list in schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

/** A reload applies a change of the key; without it, a change takes a restart. */
const live = { live: true } as const;
/** As isAttributeText of src/mail/attributes.ts has it. */
const value = z.string().max(128).regex(/^[^\p{Cc}\s](?:[^\p{Cc}]*[^\p{Cc}\s])?$/u, 'a text without control characters, and without spaces at its ends');
const field = (name: string) => z.string().regex(/^(?:[!-9;-~]{1,76})?$/, 'a name of a header field, or ""').default(name).meta(live);
/** One pattern, or several of which one must match. */
const patterns = z.union([z.string(), z.array(z.string()).min(1).max(100)]).optional();

const rule = z.strictObject({
  match: z.strictObject({
    user: patterns.describe('Who authenticated.'),
    listener: patterns.describe('Name of the listener it came in by.'),
    sender_domain: patterns.describe('Domain of the reverse-path.'),
    from_domain: patterns.describe('Domain of the (first) address in From:. Has the header of every message read.'),
  }).prefault({}).describe('Patterns (`*`, `?`; letters match in either case), or lists of them. All that are given must match; {} matches all mail.'),
  set: z.strictObject({
    tenant: value.optional().describe('Tenant.'),
    campaign: value.optional().describe('Campaign.'),
    class: z.enum(['urgent', 'normal', 'bulk']).optional().describe('Class.'),
    pool: value.optional().describe('Egress pool.'),
    deadline_ms: z.int().min(1000).max(365 * 86_400_000).optional().describe('Deadline, from when the message came.'),
  }).describe('The attributes it gives.'),
  strangers: z.boolean().default(false).describe('true: a rule by domain, without user or listener, holds for mail of any client. Else for mail of those whose header fields are believed: anybody can write any domain.'),
  override: z.boolean().default(false).describe('true: what it sets holds also where a header field of a trusted client says something else.'),
});

export const attributes = z.strictObject({
  headers: z.strictObject({
    tenant: field('X-ProtoRelay-Tenant').describe('Header field with the tenant. "": none.'),
    campaign: field('X-ProtoRelay-Campaign').describe('The same with the campaign.'),
    class: field('X-ProtoRelay-Class').describe('The same with the class: urgent, normal or bulk.'),
    pool: field('X-ProtoRelay-Pool').describe('The same with the egress pool.'),
    metadata: field('X-ProtoRelay-Metadata').describe('The same with a JSON object of at most 2 KiB, which comes back in events.'),
    deadline: field('X-ProtoRelay-Deadline').describe('The same with the deadline: a time such as `2026-03-01T12:00:00Z`, or `90s`, `10m`, `12h`, `7d` from when the message came.'),
    priority_hint: field('X-ProtoRelay-Priority-Hint').describe('The same with how much its recipients want it, a number from 0 to 100: who wants it more goes first in a warm-up (docs/warmup.md).'),
  }).prefault({}).describe('Header fields with attributes. They are believed of trusted clients, and taken out of every message. Names that do not begin with X-ProtoRelay- have the header of every message read.'),
  aliases: z.array(z.enum(['powermta', 'kumomta'])).default([]).describe('Fields of other relays that mean the same: powermta `x-virtual-mta` (pool) and `x-job` (campaign), kumomta `X-Tenant` and `X-Campaign`.').meta(live),
  trust_authenticated: z.boolean().default(true).describe('Header fields of clients that have authenticated are believed.').meta(live),
  trusted_networks: z.array(z.string()).default([]).describe('Those of clients in these networks, too; those of Unix sockets always.').meta(live),
  rules: z.array(rule).max(1000).default([]).describe('Attributes of messages for which no header field gives them. Of the rules that match, the first that sets an attribute gives it.').meta(live),
});

export const tenants = z.array(z.strictObject({
  name: value.describe('Name of the tenant.'),
  pool: value.optional().describe('Egress pool of its messages that have none by header field or rule.'),
})).max(10_000).default([]).describe('Tenants there are. With any, a message of another one is refused (550 5.7.1). Empty: any name is one.').meta(live);

export const addedHeaders = z.strictObject({
  message_id: z.boolean().default(false).describe('Message-ID, as listeners with `submission` add it anyway.').meta(live),
  date: z.boolean().default(false).describe('Date, as listeners with `submission` add it anyway.').meta(live),
  feedback_id: z.string().regex(/^[A-Za-z0-9._-]{5,15}$/, 'a text of 5 to 15 letters, digits and `. _ -`').optional().describe('Feedback-ID `campaign:tenant:class:` and this text, which names the sender: the same in all its mail.').meta(live),
  list_id: z.string().max(255).optional().describe('List-Id (RFC 2919), such as `{campaign}.{tenant}.lists.example.com`, with `{tenant}`, `{campaign}`, `{class}`. Not to a message that lacks one of these, nor to one of class urgent.').meta(live),
  cfbl_address: z.string().max(254).optional().describe('CFBL-Address (RFC 9477), where complaints are to be sent: an address of the domain in From: or below it; other messages get none.').meta(live),
}).prefault({}).describe('Header fields that a message gets where it has none, if its client is trusted (as with `attributes`).');
