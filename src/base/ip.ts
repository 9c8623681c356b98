/**
 * Addresses and networks as four words, so that they are compared without making strings. IPv4 is kept as IPv4-mapped
 * IPv6: one form serves both, and a mapped address is the same as the address that it maps.
 */
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Four unsigned 32-bit words, most significant first. */
export type Ip = readonly [number, number, number, number];

const V4_MAPPED = 0xffff;
const V4_BITS = 96;

/** null when the text is no address. A zone (`%eth0`) is ignored. */
export function parseIp(text: string): Ip | null {
  const v4 = parseV4(text);
  if (v4 >= 0) return [0, 0, V4_MAPPED, v4];
  if (!isIPv6(text)) return null;
  const bytes = ipaddr.IPv6.parse(hexOnly(text)).toByteArray();
  const word = (at: number): number =>
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0;
  return [word(0), word(4), word(8), word(12)];
}

/**
 * Without a zone, and a dotted quad at its end as two groups: ipaddr.js reads `::192.0.2.1`, which is how the system writes
 * `::c000:201`, as the IPv4 address 192.0.2.1, and somebody else's rights would be those of that client.
 */
function hexOnly(text: string): string {
  const [address = ''] = text.split('%', 1);
  const quad = address.lastIndexOf(':') + 1;
  const v4 = parseV4(address.slice(quad));
  if (v4 < 0) return address;
  return `${address.slice(0, quad)}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
}

/** Dotted quad without leading zeros; -1 when it is none. */
function parseV4(text: string): number {
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x30 && code <= 0x39) {
      if (digits > 0 && octet === 0) return -1;
      octet = octet * 10 + code - 0x30;
      if (++digits > 3 || octet > 255) return -1;
    } else if (code === 0x2e && digits > 0 && dots < 3) {
      value = value * 256 + octet;
      octet = digits = 0;
      dots++;
    } else return -1;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : -1;
}

export function isV4(ip: Ip): boolean {
  return ip[0] === 0 && ip[1] === 0 && ip[2] === V4_MAPPED;
}

/** As people write it; IPv6 as RFC 5952 wants it. */
export function formatIp(ip: Ip): string {
  const [a, b, c, d] = ip;
  if (isV4(ip)) return `${d >>> 24}.${(d >>> 16) & 255}.${(d >>> 8) & 255}.${d & 255}`;
  const parts = [a, b, c, d].flatMap((word) => [word >>> 16, word & 0xffff]);
  return new ipaddr.IPv6(parts).toRFC5952String();
}

/** A network: its first address, and how many of the 128 bits count (for IPv4, 96 more than are written). */
export interface Network {
  readonly ip: Ip;
  readonly bits: number;
}

/** `192.0.2.0/24`, `2001:db8::/32` or one address; null when it is neither. Host bits are cleared. */
export function parseNetwork(text: string): Network | null {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === null) return null;
  if (slash < 0) return { ip, bits: 128 };
  const length = text.slice(slash + 1);
  const v4 = isV4(ip) && !text.includes(':');
  if (!/^(0|[1-9]\d{0,2})$/.test(length) || Number(length) > (v4 ? 32 : 128)) return null;
  const bits = Number(length) + (v4 ? V4_BITS : 0);
  return { ip: masked(ip, bits), bits };
}

export function formatNetwork({ ip, bits }: Network): string {
  const v4 = isV4(ip) && bits >= V4_BITS;
  if (bits === 128) return formatIp(ip);
  return `${formatIp(ip)}/${v4 ? bits - V4_BITS : bits}`;
}

/** The address with all but the first `bits` cleared. */
export function masked(ip: Ip, bits: number): Ip {
  if (bits >= 128) return ip;
  return [
    maskWord(ip[0], bits),
    maskWord(ip[1], bits - 32),
    maskWord(ip[2], bits - 64),
    maskWord(ip[3], bits - 96),
  ];
}

function maskWord(word: number, bits: number): number {
  if (bits >= 32) return word;
  return bits <= 0 ? 0 : (word & (-1 << (32 - bits))) >>> 0;
}

/** The network that mostly belongs to one operator: the /24 of an IPv4 address, the /64 of an IPv6 one. */
export function neighbourhood(ip: Ip): Network {
  const bits = isV4(ip) ? V4_BITS + 24 : 64;
  return { ip: masked(ip, bits), bits };
}

/** What counts as one client: an IPv4 address; for IPv6 the /64, whose addresses one client can use at will. */
export function clientNetwork(ip: Ip): Network {
  return isV4(ip) ? { ip, bits: 128 } : { ip: masked(ip, 64), bits: 64 };
}

/** A set of networks, in which an address is looked up. */
export class NetworkSet {
  readonly #networks: Network[];

  /** @param entries networks; other entries are ignored (the rules of the config report them). */
  constructor(entries: readonly string[]) {
    this.#networks = entries.flatMap((entry) => parseNetwork(entry) ?? []);
  }

  get isEmpty(): boolean {
    return this.#networks.length === 0;
  }

  has(ip: Ip | null): boolean {
    if (ip === null) return false;
    for (const { ip: network, bits } of this.#networks) if (isWithin(ip, network, bits)) return true;
    return false;
  }
}

function isWithin(ip: Ip, network: Ip, bits: number): boolean {
  for (let i = 0, left = bits; i < 4 && left > 0; i++, left -= 32)
    if (maskWord(ip[i] as number, left) !== network[i]) return false;
  return true;
}

/** `4.3.2.1` for 1.2.3.4, the nibbles in reverse for IPv6: the names under which reverse zones and lists have addresses. */
export function reversed(ip: Ip): string {
  const last = ip[3];
  if (isV4(ip)) return `${last & 255}.${(last >>> 8) & 255}.${(last >>> 16) & 255}.${last >>> 24}`;
  const digits = ip.map((word) => word.toString(16).padStart(8, '0')).join('');
  return [...digits].reverse().join('.');
}

/** The name of the address in the reverse zones, without the last dot. */
export const reverseName = (ip: Ip): string => `${reversed(ip)}.${isV4(ip) ? 'in-addr' : 'ip6'}.arpa`;
