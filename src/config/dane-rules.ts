/** What the schema cannot say of DANE. Pure. */
import type { Config } from './schema.ts';

/** DANE is worth as much as the way to the resolver: its word is not signed. */
export function checkDane(
  { dns, delivery: { dane } }: Config,
  warning: (path: (string | number)[], message: string) => void,
): void {
  const modes = [dane.mode, ...Object.values(dane.destinations).map(({ mode }) => mode)];
  if (modes.every((mode) => mode === 'off')) return;
  for (const [i, server] of dns.servers.entries()) {
    if (/^(127\.|::1$|\[::1\])/.test(server)) continue;
    const message = `delivery.dane believes what ${server} says of validation, and whoever can answer in its place: best is a resolver on this machine`;
    warning(['dns', 'servers', i], message);
  }
}
