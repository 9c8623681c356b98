/**
 * The Received: trace header of RFC 5321 §4.4. Pure text; every line stays below 998 octets because its parts are
 * bounded (host names 255, address 254), and none can break out of it: the grammar let no control character into them.
 */
import { UNKNOWN_CLIENT } from '../mail/message.ts';
import type { TlsUse } from '../mail/tls-use.ts';

export interface TraceParts {
  /** Name the client gave in HELO or EHLO. */
  helo: string;
  /** Peer address, 'unix' or 'unknown'. */
  clientAddress: string;
  /** Forward-confirmed name of that address; '' or absent when it has none or nobody asked. */
  clientName?: string;
  hostname: string;
  /** SMTP, ESMTP, ESMTPS (RFC 3848), UTF8SMTP … */
  protocol: string;
  /** Absent on a connection in the clear. */
  tls?: TlsUse | undefined;
  queueId: string;
  /** The only recipient; '' when there are several (they may not know of each other). */
  recipient: string;
  /** Date of RFC 5322. */
  date: string;
}

/** The header field, folded, ending in CRLF. */
export function receivedHeader(parts: TraceParts): string {
  const text =
    `Received: from ${parts.helo} (${tcpInfo(parts.clientAddress, parts.clientName ?? '')})\r\n${tlsInfo(parts.tls)}` +
    `\tby ${parts.hostname} with ${parts.protocol} id ${parts.queueId}`;
  const recipient = parts.recipient === '' ? '' : `\r\n\tfor <${parts.recipient}>`;
  return `${text}${recipient};\r\n\t${parts.date}\r\n`;
}

/** TLS in a comment, for which RFC 5321 §4.4 leaves room. */
function tlsInfo(tls: TlsUse | undefined): string {
  if (tls === undefined) return '';
  const verified = tls.verified ? ', client certificate verified' : '';
  return `\t(using ${tls.version} with cipher ${tls.cipher}${verified})\r\n`;
}

/** TCP-info: the name where it is known, and an address literal; a Unix socket has none and is named in words. */
function tcpInfo(address: string, name: string): string {
  if (address === 'unix') return 'unix socket';
  if (address === UNKNOWN_CLIENT) return address;
  const literal = address.includes(':') ? `[IPv6:${address}]` : `[${address}]`;
  return name === '' ? literal : `${name} ${literal}`;
}

/** The transmission type of RFC 3848, for a transaction with SMTPUTF8 that of RFC 6531 §4.3. */
export function transmissionType(
  esmtp: boolean,
  { secure, authenticated, utf8 }: { secure: boolean; authenticated: boolean; utf8: boolean },
): string {
  // A client that said HELO and has TLS or AUTH nevertheless has used ESMTP.
  if (!esmtp && !secure && !authenticated && !utf8) return 'SMTP';
  return `${utf8 ? 'UTF8SMTP' : 'ESMTP'}${secure ? 'S' : ''}${authenticated ? 'A' : ''}`;
}
