/** What is said to the proxy that a source sends through. */
import { type Ip, isV4, parseIp } from '../base/ip.ts';
import type { EgressProxy } from '../config/egress-proxy.ts';
import { HOP, type Hop } from '../native/contract.ts';

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
