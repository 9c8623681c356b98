/** The section `suppression`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

export const suppression = z.strictObject({
  filter_bits_per_entry: z.int().min(8).max(64).default(16).describe('Memory that each entry of the suppression list takes in the filter that keeps most look-ups from the database. 16: about one recipient in a thousand who is not on the list is looked up all the same.'),
});
