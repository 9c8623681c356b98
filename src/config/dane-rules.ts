/** What the schema cannot say of DANE and TLS reports. Pure. */
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

/** DANE is only as safe as the way to the resolver, whose word on validation is not signed. */
export function checkDane({ dns, delivery: { dane } }: Config, warning: Say): void {
  const modes = [dane.mode, ...Object.values(dane.destinations).map(({ mode }) => mode)];
  if (modes.every((mode) => mode === 'off')) return;
  for (const [i, server] of dns.servers.entries()) {
    if (/^(127\.|::1$|\[::1\])/.test(server)) continue;
    const message = `delivery.dane believes what ${server} says of validation, and whoever can answer in its place: best is a resolver on this machine`;
    warning(['dns', 'servers', i], message);
  }
}

/** Reports are sent only with somebody to ask about them (RFC 8460 §4.4). */
export function checkTlsReports({ delivery: { tls_rpt } }: Config, problem: Say): void {
  const at = ['delivery', 'tls_rpt'];
  const { send, enabled, contact_info, from_address } = tls_rpt;
  if (send && !enabled)
    problem([...at, 'send'], 'needs delivery.tls_rpt.enabled: what is not counted cannot be sent');
  if (send && contact_info === undefined)
    problem([...at, 'send'], 'needs delivery.tls_rpt.contact_info: whom to ask about a report');
  if (from_address !== undefined && !isPlainAddress(from_address))
    problem([...at, 'from_address'], 'must be an address, as postmaster@example.com');
}

/** An address that needs neither quotes nor SMTPUTF8. */
export function isPlainAddress(text: string): boolean {
  return /^[!#-'*+\-/-9=?A-Z^-~]+(\.[!#-'*+\-/-9=?A-Z^-~]+)*@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(
    text,
  );
}
