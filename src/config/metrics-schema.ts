/** The section `metrics`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;

export const metrics = z.strictObject({
  enabled: z.boolean().default(true).describe('Answer `GET /metrics` (docs/metrics.md) where `http.enabled` is set.').meta(live),
  anonymous_networks: z.array(z.string()).max(1000).default([]).describe('Addresses and networks from which `/metrics` is answered without a token.').meta(live),
});
