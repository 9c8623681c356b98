/** The section `suppression`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;
const day = 86_400_000;

/** @param what the class of the rule says of an address. */
const rule = (what: string, after: number, forMs: number) => z.strictObject({
  after_messages: z.int().min(0).max(30).default(after).describe(`So many messages to an address have to end with the class for ${what}, by what its host says of it; then it is put on the suppression list of its tenant. 0: never.`).meta(live),
  within_ms: z.int().min(1000).max(365 * day).default(30 * day).describe('And all of them within this time.').meta(live),
  for_ms: z.int().min(0).max(3650 * day).default(forMs).describe('How long it stays there. 0: until it is removed.').meta(live),
}).prefault({});

export const suppression = z.strictObject({
  filter_bits_per_entry: z.int().min(8).max(64).default(16).describe('Memory that each entry of the suppression list takes in the filter that keeps most look-ups from the database. 16: about one recipient in a thousand who is not on the list is looked up all the same.'),
  at_rcpt: z.enum(['accept', 'refuse']).default('accept').describe('What is answered to RCPT for an address on the list for all mail, with the scope all. accept: it is taken, and ends as suppressed when it would be sent. refuse: 550 5.7.1, for clients that handle a refusal better than an event. Not in mail from the null reverse-path.').meta(live),
  rules: z.strictObject({
    invalid_recipient: rule('mailboxes that do not exist', 1, 0),
    inactive_mailbox: rule('mailboxes that are disabled or unused', 1, 90 * day),
    mailbox_full: rule('full mailboxes', 5, 30 * day),
  }).prefault({}),
});
