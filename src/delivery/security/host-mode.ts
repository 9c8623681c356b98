/** What TLS with a host must be, by what its domain has published and what the config says. */
import type { Host } from '../route.ts';
import type { TlsMode, TlsPolicy } from './tls-policy.ts';

/** `dane`: by the host's TLSA records. */
export type HostMode = TlsMode | 'dane';

export function modeFor(host: Pick<Host, 'dane' | 'verify'>, { mode, own }: TlsPolicy): HostMode {
  if (host.dane !== undefined) return 'dane';
  return host.verify === true && !own ? 'verify' : mode;
}
