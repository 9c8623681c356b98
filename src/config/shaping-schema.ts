/** Options of limits at providers: `shaping`. */
// biome-ignore-all format: one option a line reads as the table it is.
import { join } from 'node:path';
import { z } from 'zod';

/** What `shaping.file` is called when it is the one that comes with the relay. */
const SHIPPED = 'config/shaping.json';
const SHIPPED_FILE = join(import.meta.dirname, '../..', SHIPPED);
const live = { live: true } as const;

export const shaping = z.strictObject({
  file: z.string().min(1).default(SHIPPED).describe('Limits at providers, and who they are (docs/shaping.md). The default is the file that comes with the relay.').meta(live),
  overrides_file: z.string().default('').describe('Your own file, laid over the former as a JSON Merge Patch (RFC 7396): what it names changes, `null` takes away. Empty: none.').meta(live),
  rollup: z.enum(['mx_set', 'mx_domain', 'none']).default('mx_set').describe('Which domains of no provider share limits: those with the same MX hosts, those whose MX hosts have one registrable domain, or none.').meta(live),
});

/** Absolute paths of both files; those of the operator count from data_dir. */
export const shapingPaths = (section: z.output<typeof shaping>, below: (path: string) => string): typeof section => ({
  ...section,
  file: section.file === SHIPPED ? SHIPPED_FILE : below(section.file),
  overrides_file: section.overrides_file && below(section.overrides_file),
});
