/** The section `dkim`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { domainKey } from '../base/domain.ts';

const live = { live: true } as const;
const domain = z.string().min(1).max(255).transform(domainKey);
/** RFC 5322 §2.2, and no colon: it separates names in h=. */
const headerName = z.string().regex(/^[!-9;-~]{1,76}$/, 'the name of a header field');

const SIGNED = [
  'From', 'Sender', 'Reply-To', 'To', 'Cc', 'Subject', 'Date', 'Message-ID', 'In-Reply-To', 'References', 'MIME-Version',
  'Content-Type', 'Content-Transfer-Encoding', 'List-Id', 'List-Unsubscribe', 'List-Unsubscribe-Post', 'Feedback-ID',
  'CFBL-Address', 'CFBL-Feedback-ID',
];
const OVERSIGNED = [
  'From', 'Reply-To', 'To', 'Cc', 'Subject', 'Date', 'Message-ID', 'Content-Type', 'List-Unsubscribe',
  'List-Unsubscribe-Post',
];

const key = z.strictObject({
  domain: domain.describe('Domain that signs (`d=`).').meta(live),
  selector: z.string().min(1).max(63).regex(/^[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?$/, 'letters, digits and `. _ -`').transform((text) => text.toLowerCase()).describe('Selector (`s=`): the record stands at SELECTOR._domainkey.DOMAIN.').meta(live),
  file: z.string().min(1).describe('PEM of the private key, RSA or Ed25519, without a password; relative to data_dir.').meta(live),
  not_before: z.union([z.literal(''), z.iso.datetime({ offset: true })]).default('').describe('RFC 3339: the key signs from then on, not before. Empty: as soon as DNS shows its record.').meta(live),
});

export const dkim = z.strictObject({
  enabled: z.boolean().default(true).describe('Sign outgoing mail (RFC 6376, RFC 8463) where `keys` has one for its domain: docs/dkim.md.').meta(live),
  keys: z.array(key).max(100_000).default([]).describe('Private keys. A key signs once DNS shows its record; of several keys of a domain the newest that DNS shows, one RSA and one Ed25519. Read again on reload.').meta(live),
  also_sign: z.union([domain.transform((one) => [one]), z.array(domain).max(4)]).default([]).describe('Domains with keys that sign all mail besides: yours, where you send for others.').meta(live),
  sign_headers: z.array(headerName).min(1).max(100).default(SIGNED).describe('Header fields that are signed, where a message has them.').meta(live),
  oversign_headers: z.array(headerName).max(100).default(OVERSIGNED).describe('Those that nobody can add to a signed message without breaking the signature.').meta(live),
  expire_s: z.int().min(0).max(315_360_000).default(0).describe('Seconds for which a signature is good (`x=`). 0: it has no end.').meta(live),
  on_error: z.enum(['defer', 'send', 'bounce']).default('defer').describe('Mail that should be signed and cannot: no key of its domain is readable and shown by DNS, or it has no From, or several, and its reverse-path is of a domain with keys. defer: it waits. send: it goes out with the signatures that can be made, or none. bounce: it goes back.').meta(live),
  threads: z.int().min(0).max(64).default(0).describe('Threads of a relay process that sign; 0: as many as there are cores.').meta(live),
});
