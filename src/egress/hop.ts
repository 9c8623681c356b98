/** The proxy that a source sends through, and what is said to it. */
import { formatIp, type Ip, isV4, parseIp } from '../base/ip.ts';
import { HOP, type Hop } from '../native/contract.ts';

/** A proxy by its URL: `socks5://user:password@host:port`, `haproxy://host:port`. */
export interface EgressProxy {
  kind: keyof typeof HOP;
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
  return { kind: kind as keyof typeof HOP, address: formatIp(ip), port: number, user, password };
}

function decoded(user: string, password: string): [string, string] | [null, null] {
  try {
    return [decodeURIComponent(user), decodeURIComponent(password)];
  } catch {
    return [null, null];
  }
}

/**
 * What is said to the proxy so that the connection leads to this peer.
 * @param source the address to leave from, which HAProxy is told; '' for any: then the header says LOCAL, and HAProxy
 *   uses its own.
 */
export function hopTo(proxy: EgressProxy, address: string, port: number, source: string): Hop {
  const peer = parseIp(address);
  if (peer === null) throw new Error(`${address} is no address`);
  const from = source === '' ? null : parseIp(source);
  return proxy.kind === 'socks5'
    ? { kind: HOP.socks5, request: connectRequest(peer, port), credentials: credentials(proxy) }
    : { kind: HOP.haproxy, request: proxyHeader(from, peer, port), credentials: Buffer.alloc(0) };
}

function octets(ip: Ip): Buffer {
  const all = Buffer.alloc(16);
  for (const [i, word] of ip.entries()) all.writeUInt32BE(word, 4 * i);
  return isV4(ip) ? all.subarray(12) : all;
}

function portOctets(port: number): Buffer {
  return Buffer.of(port >> 8, port & 0xff);
}

/** CONNECT of RFC 1928 §4. */
function connectRequest(peer: Ip, port: number): Buffer {
  return Buffer.concat([Buffer.of(5, 1, 0, isV4(peer) ? 1 : 4), octets(peer), portOctets(port)]);
}

/** RFC 1929 §2. */
function credentials({ user, password }: EgressProxy): Buffer {
  if (user === '') return Buffer.alloc(0);
  const [name, secret] = [Buffer.from(user), Buffer.from(password)];
  return Buffer.concat([Buffer.of(1, name.length), name, Buffer.of(secret.length), secret]);
}

const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

/** A PROXY header of version 2: `from` any port, to the peer. */
function proxyHeader(from: Ip | null, peer: Ip, port: number): Buffer {
  const local = from === null || isV4(from) !== isV4(peer);
  // Version 2, command LOCAL or PROXY; family and STREAM.
  if (local) return Buffer.concat([V2_SIGNATURE, Buffer.of(0x20, 0, 0, 0)]);
  const addresses = Buffer.concat([octets(from), octets(peer), portOctets(0), portOctets(port)]);
  const head = Buffer.of(0x21, isV4(peer) ? 0x11 : 0x21, 0, addresses.length);
  return Buffer.concat([V2_SIGNATURE, head, addresses]);
}
