/** The block of addresses that peers count together: a /24 of IPv4, a /64 of IPv6. */
import { formatIp, isV4, parseIp } from './ip.ts';

/** @returns `192.0.2.0/24`, `2001:db8:0:1::/64`; '' for what is no address. */
export function netblockOf(address: string): string {
  const ip = parseIp(address);
  if (ip === null) return '';
  const [a, b, c, d] = ip;
  return isV4(ip) ? `${formatIp([a, b, c, (d & 0xffffff00) >>> 0])}/24` : `${formatIp([a, b, 0, 0])}/64`;
}
