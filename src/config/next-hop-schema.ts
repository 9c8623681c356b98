/** Options of a next hop that the operator names: `delivery.smarthost`, `delivery.routes`, `egress.routing[].route`. Part of schema.ts. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';
import { domainForm } from '../base/domain.ts';
import { clientAuth } from './auth-schema.ts';

const live = { live: true } as const;
/** Names outside ASCII become A-labels; others stay as they are written. */
export const hostName = z.string().min(1).max(255).regex(/^(?:[A-Za-z0-9._\-[\]:]|[\u0080-\uffff])+$/, 'a host name or address').transform((name) => /[\u0080-\uffff]/.test(name) ? (domainForm(name) ?? name) : name);
export const tlsMode = z.enum(['none', 'opportunistic', 'required', 'verify']);

/** A next hop without a login. */
export const plainHop = z.strictObject({
  host: hostName.describe('Host name or address of the next hop.').meta(live),
  port: z.int().min(1).max(65535).default(25).describe('TCP port of the next hop.').meta(live),
  tls: z.strictObject({
    mode: tlsMode.optional().describe('As delivery.tls.mode, for this next hop.').meta(live),
    implicit: z.boolean().default(false).describe('TLS from the first byte (port 465) instead of STARTTLS; there is no plain retry.').meta(live),
    server_name: hostName.optional().describe('Name that is sent (SNI) and verified instead of host.').meta(live),
  }).optional().describe('TLS to this next hop.').meta(live),
});

export const nextHop = plainHop.extend({
  auth: clientAuth.optional().describe('AUTH at the next hop. Without it mail is sent without AUTH; with it, never.').meta(live),
});
