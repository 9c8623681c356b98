/** The section `return_path`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { domainKey } from '../base/domain.ts';

const live = { live: true } as const;

export const returnPath = z.strictObject({
  domain: z.union([z.literal(''), z.string().max(255).transform(domainKey)]).default('').describe('Mail of clients that may relay goes out with `b+TOKEN@` this domain as reverse-path, one recipient a transaction, and what comes back there is read: docs/bounces.md. Its MX records have to lead to this relay. Empty: reverse-paths stay as they are.').meta(live),
  secrets_file: z.string().default('').describe('Keys of the tokens, one a line, of 16 characters or more; relative to data_dir. The first makes tokens, all are taken: a new one goes on top, an old one out when its mail is a month old. The same file on all nodes. Read again on reload.').meta(live),
  complaints_at: z.array(z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'a local part')).max(16).default(['fbl']).describe('Local parts of the domain where reports of complaints come from anybody, as feedback loops and CFBL-Address send them; they count by the token in the message they bring.').meta(live),
});
