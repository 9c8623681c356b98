/**
 * The PROXY protocol's header, versions 1 and 2 (haproxy.org, proxy-protocol.txt): where it ends, and whose connection
 * it says this is. Octets as Latin-1 text.
 */
import { isIPv4, isIPv6 } from 'node:net';

/** Longest header taken; as kMaxProxyHeader of native/proxy_header.h. */
const MAX_BYTES = 1000;
const MAX_V1_BYTES = 107;
const V2_FIXED = 16;
const V1_START = 'PROXY ';
const V2_START = '\r\n\r\n\0\r\nQUIT\n';

export interface ProxyHeader {
  /** The client; null when the proxy speaks for itself (LOCAL) or does not know (UNKNOWN). */
  source: string | null;
  /** Of that client; absent when it is not known. */
  port?: number;
}

/** Length of the header when it is whole; 0: more is needed; -1: this is no header. Twin of native/proxy_header.cc. */
export function proxyExtent(text: string): number {
  if (V1_START.startsWith(text.slice(0, V1_START.length))) {
    const end = text.slice(0, MAX_V1_BYTES).indexOf('\n');
    if (end < 0) return text.length < MAX_V1_BYTES ? 0 : -1;
    return text[end - 1] === '\r' ? end + 1 : -1;
  }
  if (!V2_START.startsWith(text.slice(0, V2_START.length))) return -1;
  if (text.length > V2_START.length && text.charCodeAt(V2_START.length) >> 4 !== 2) return -1;
  if (text.length < V2_FIXED) return 0;
  const length = V2_FIXED + lengthOf(text);
  if (length > MAX_BYTES) return -1;
  return text.length < length ? 0 : length;
}

/** Parses a whole header; null when it cannot be understood. */
export function parseProxyHeader(text: string): ProxyHeader | null {
  return text.startsWith(V1_START) ? parseV1(text) : text.startsWith(V2_START) ? parseV2(text) : null;
}

function parseV1(text: string): ProxyHeader | null {
  if (!text.endsWith('\r\n')) return null;
  const [, family, source = '', destination = '', ...ports] = text.slice(0, -2).split(' ');
  if (family === 'UNKNOWN') return { source: null };
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : () => false;
  if (!isAddress(source) || !isAddress(destination) || source.includes('%')) return null;
  return ports.length === 2 && ports.every(isPort) ? { source, port: Number(ports[0]) } : null;
}

const isPort = (text: string): boolean => /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;

/** Families and transports: TCP or UDP over IPv4 (0x11, 0x12) or IPv6 (0x21, 0x22), Unix sockets, unspecified. */
function parseV2(text: string): ProxyHeader | null {
  if (text.length < V2_FIXED || text.length !== V2_FIXED + lengthOf(text)) return null;
  const command = text.charCodeAt(12) & 0xf;
  if (text.charCodeAt(12) >> 4 !== 2 || command > 1) return null;
  if (command === 0) return { source: null };
  const family = text.charCodeAt(13) >> 4;
  const body = text.length - V2_FIXED;
  const port = (at: number): number =>
    (text.charCodeAt(V2_FIXED + at) << 8) | text.charCodeAt(V2_FIXED + at + 1);
  if (family === 1) return body < 12 ? null : { source: octets(text, V2_FIXED, 4).join('.'), port: port(8) };
  if (family === 2) return body < 36 ? null : { source: ipv6(octets(text, V2_FIXED, 16)), port: port(32) };
  return family === 0 || family === 3 ? { source: null } : null;
}

const lengthOf = (text: string): number => (text.charCodeAt(14) << 8) | text.charCodeAt(15);

function octets(text: string, start: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => text.charCodeAt(start + i));
}

/** The address as text, not shortened; an IPv4-mapped address as the IPv4 address. */
function ipv6(bytes: number[]): string {
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  if (mapped) return bytes.slice(12).join('.');
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2)
    groups.push((((bytes[i] as number) << 8) | (bytes[i + 1] as number)).toString(16));
  return groups.join(':');
}
