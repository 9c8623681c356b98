/**
 * DANE for SMTP (RFC 7672): where the resolver validated a domain's MX and a host's addresses, TLSA records of that
 * host say that mail goes to it over TLS only, and with which certificate. If these records cannot be looked up, they
 * are not ignored: the host gets no mail.
 */
import type { Config } from '../../config/schema.ts';
import type { TlsaRecord } from '../../dns/wire.ts';
import { SMARTHOST } from '../../mail/destination.ts';
import type { DnsAnswer } from '../names/dns.ts';
import type { ValidatedDns } from '../names/validated-dns.ts';

export interface HostDane {
  /** The name whose records these are. It is sent as SNI, and with usage 2 the certificate may have it. */
  base: string;
  /** Other names that the certificate may have with usage 2. */
  names: readonly string[];
  /** The records that can be used. If there are none, TLS is needed, but the certificate is not checked. */
  usable: readonly TlsaRecord[];
  /** All records as text: '3 1 1 ab…'. */
  texts: readonly string[];
}

export type DaneMode = Config['delivery']['dane']['mode'];

/**
 * The DANE mode of a domain: a rule for the domain wins. A domain to which the operator gave a TLS mode keeps to that.
 */
export function daneModeOf({ dane, tls }: Config['delivery'], domain: string): DaneMode {
  if (Object.hasOwn(tls.destinations, domain)) return 'off';
  return (
    (Object.hasOwn(dane.destinations, domain) ? dane.destinations[domain]?.mode : undefined) ?? dane.mode
  );
}

/**
 * The DANE mode of a smarthost or static route (RFC 7672 §2.2.2): a rule for the domain or for the next hop's name
 * wins. A next hop to which the operator gave a TLS mode keeps to that.
 * @param destination the scheduling key.
 */
export function daneModeOfHop(
  delivery: Config['delivery'],
  destination: string,
  { host, tls }: { host: string; tls?: { mode?: string | undefined } | undefined },
): DaneMode {
  const { dane, tls: general } = delivery;
  const routed = destination !== SMARTHOST;
  if (routed && Object.hasOwn(general.destinations, destination)) return 'off';
  for (const name of routed ? [destination, host] : [host])
    if (Object.hasOwn(dane.destinations, name)) return dane.destinations[name]?.mode ?? 'off';
  return tls?.mode === undefined ? dane.mode : 'off';
}

/** Whether the config needs a validating resolver. */
export function validates({ delivery: { dane } }: Config): boolean {
  return dane.mode !== 'off' || Object.values(dane.destinations).some(({ mode }) => mode !== 'off');
}

/** Length of each matching type in octets; type 0 is the whole certificate or key. */
const DIGEST_BYTES: Record<number, number> = { 1: 32, 2: 64 };

/** Whether a record can be used. Usages 0 and 1 are not for SMTP (RFC 7672 §3.1). */
export function isUsable({ usage, selector, matching, hex }: TlsaRecord): boolean {
  if ((usage !== 2 && usage !== 3) || selector > 1 || matching > 2) return false;
  return matching === 0 ? hex.length > 0 : hex.length === 2 * (DIGEST_BYTES[matching] as number);
}

type Questions = Pick<ValidatedDns, 'tlsa' | 'alias'>;

/**
 * What the TLSA records of a host ask for (RFC 7672 §2.2.2, §2.2.3); null when there are none that count; a text, the
 * reason, when they cannot be known.
 * @param addresses the answers about its addresses, IPv4 or IPv6 or both.
 * @param domain the next-hop domain, whose MX was validated; the host itself where there is none (a smarthost).
 */
export async function daneOf(
  dns: Questions,
  host: string,
  port: number,
  domain: string,
  addresses: readonly DnsAnswer<string>[],
): Promise<HostDane | null | string> {
  const found = addresses.flatMap((answer) => (answer.kind === 'found' ? [answer] : []));
  const canonical = found[0]?.canonical ?? host;
  const bases: string[] = [];
  if (found.length > 0 && found.every(({ secure }) => secure === true)) {
    // The name to which an alias leads comes before the alias itself; the first that has records counts.
    bases.push(canonical);
    if (canonical !== host) bases.push(host);
  } else if (canonical !== host) {
    const alias = await dns.alias(host);
    if (alias.kind === 'temporary') return `CNAME ${host}: ${alias.detail}`;
    if (alias.kind === 'found' && alias.secure === true) bases.push(host);
  }
  for (const base of bases) {
    const owner = `_${port}._tcp.${base}`;
    const answer = await dns.tlsa(owner);
    if (answer.kind === 'temporary') return `TLSA ${owner}: ${answer.detail}`;
    if (answer.kind !== 'found' || answer.secure !== true) continue;
    const texts = answer.records.map((one) => `${one.usage} ${one.selector} ${one.matching} ${one.hex}`);
    const names = [...new Set([host, domain])].filter((name) => name !== base);
    return { base, names, usable: answer.records.filter(isUsable), texts };
  }
  return null;
}

/** The form that TlsStream::create (native) reads. */
export function daneText({ names, usable }: HostDane): string {
  const records = usable.map(
    ({ usage, selector, matching, hex }) => `${usage}.${selector}.${matching}.${hex}`,
  );
  return `${names.join(',')} ${records.join(',')}`;
}
