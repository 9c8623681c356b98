/**
 * Whether a connection that was opened for one domain of a site may serve another one: only as it would have been opened for
 * that one. The host is the same, by name and address, so that certificate and TLSA records that were verified are those of this
 * host; and what TLS came to meets what the other domain (MTA-STS, RFC 8461; DANE, RFC 7672), its provider and the operator ask for.
 */
import type { TlsUse } from '../../mail/tls-use.ts';
import type { Host } from '../route.ts';
import type { HostDane } from './dane.ts';
import { type HostMode, modeFor } from './host-mode.ts';
import type { TlsPolicy } from './tls-policy.ts';

/** What is known of an open connection. */
export interface OpenSession {
  readonly host: Host;
  /** null: in the clear. */
  readonly tls: TlsUse | null;
  /** What was asked of the TLS handshake; null: there was none. */
  readonly securedAs: HostMode | null;
  /** It is in the clear because TLS failed. */
  readonly fellBack: boolean;
  readonly offered: { readonly startTls: boolean };
}

/** @param host as the other domain's route has it. @param policy what the config says of TLS to that domain. */
export function servesToo(session: OpenSession, host: Host, policy: TlsPolicy): boolean {
  const { name, address, port } = session.host;
  if (host.name !== name || host.address !== address || host.port !== port) return false;
  if (session.host.auth !== undefined || host.auth !== undefined) return false;
  if (policy.implicit || policy.serverName !== undefined) return false;
  return meets(session, host, modeFor(host, policy));
}

function meets(
  { host: opened, tls, securedAs, fellBack, offered }: OpenSession,
  host: Host,
  mode: HostMode,
): boolean {
  // In the clear only where the other domain's connection would be so, too.
  const hasNoTls = tls === null && !fellBack;
  switch (mode) {
    case 'none':
      return hasNoTls;
    case 'opportunistic':
      return tls !== null || (hasNoTls && !offered.startTls);
    case 'required':
      return tls !== null;
    case 'verify':
      // With less asked of it, a handshake may resume a session that was not verified for this purpose.
      return tls?.verified === true && securedAs === 'verify';
    case 'dane':
      return tls !== null && securedAs === 'dane' && isSameDane(opened.dane, host.dane, tls);
  }
}

/** The same records of the same name; and none that lets the certificate have the name of the domain (usage 2) but for the same names. */
function isSameDane(opened: HostDane | undefined, wanted: HostDane | undefined, tls: TlsUse): boolean {
  if (opened === undefined || wanted === undefined || opened.base !== wanted.base) return false;
  if (!isSameList(opened.texts, wanted.texts)) return false;
  if (wanted.usable.length > 0 && !tls.verified) return false;
  return wanted.usable.every(({ usage }) => usage === 3) || isSameList(opened.names, wanted.names);
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  const other = new Set(b);
  return new Set(a).size === other.size && a.every((one) => other.has(one));
}
