/** The proxy that a source sends through, as the config writes it. */
import { formatIp, parseIp } from '../base/ip.ts';

/** A proxy by its URL: `socks5://user:password@host:port`, `haproxy://host:port`. */
export interface EgressProxy {
  kind: 'socks5' | 'haproxy';
  /** A numeric address: names would have to be looked up for every connection. */
  address: string;
  port: number;
  /** '' without `password`: no credentials. */
  user: string;
  password: string;
}

const DEFAULT_PORT = 1080;
/** RFC 1929 §2: the length of each is one octet. */
const MAX_CREDENTIAL_BYTES = 255;

/** @returns the proxy, or what is wrong with the text (which may hold a password, and is not repeated). */
export function parseProxy(text: string): EgressProxy | { wrong: string } {
  const shape = /^(socks5|haproxy):\/\/(?:([^@/]*)@)?(\[[0-9A-Fa-f:.]+\]|[^:@/[\]]+)(?::(\d{1,5}))?\/?$/.exec(
    text,
  );
  if (shape === null)
    return { wrong: 'is no URL `socks5://USER:PASSWORD@ADDRESS:PORT` or `haproxy://ADDRESS:PORT`' };
  const [, kind, login = '', host = '', port] = shape;
  const ip = parseIp(host.replace(/^\[|\]$/g, ''));
  if (ip === null) return { wrong: 'must name its proxy by address' };
  if (kind === 'haproxy' && (login !== '' || port === undefined))
    return { wrong: login === '' ? 'needs a port' : 'cannot have a user: HAProxy asks for none' };
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if (number < 1 || number > 65535) return { wrong: 'has a port that is not within 1 to 65535' };
  const colon = login.indexOf(':');
  const [user, password] = decoded(
    colon < 0 ? login : login.slice(0, colon),
    colon < 0 ? '' : login.slice(colon + 1),
  );
  if (user === null || password === null) return { wrong: 'has a % in its user or password that is no %XX' };
  if (login !== '' && (user === '' || password === ''))
    return { wrong: 'needs both user and password, or neither' };
  if (Math.max(Buffer.byteLength(user), Buffer.byteLength(password)) > MAX_CREDENTIAL_BYTES)
    return { wrong: `has a user or password of more than ${MAX_CREDENTIAL_BYTES} octets` };
  return { kind: kind as EgressProxy['kind'], address: formatIp(ip), port: number, user, password };
}

function decoded(user: string, password: string): [string, string] | [null, null] {
  try {
    return [decodeURIComponent(user), decodeURIComponent(password)];
  } catch {
    return [null, null];
  }
}
