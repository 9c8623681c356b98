/** Networks as a config writes them: their form, and how much of the world they are. Pure. */
import { formatIp, formatNetwork, isV4, type Network, parseIp, parseNetwork } from '../base/ip.ts';
import type { Finding } from './say.ts';

/** What is wrong with a text that should be an address or a network; null when nothing is. */
export function networkFault(text: string): Omit<Finding, 'path'> | null {
  const network = parseNetwork(text);
  if (network === null)
    return { message: `must be a network such as 10.0.0.0/8 or an address, is "${text}"` };
  const [address = '', length] = text.split('/');
  const ip = parseIp(address);
  if (length === undefined || ip === null || formatIp(ip) === formatIp(network.ip)) return null;
  const meant = formatNetwork(network);
  return {
    message: `"${text}" is a host in the network ${meant}`,
    mend: `write "${meant}" for the whole network, or "${address}" for this host alone`,
  };
}

/** The wider half of no network that belongs to one operator: IPv4 wider than /8, IPv6 wider than fc00::/7. */
export function isEverybody({ ip, bits }: Network): boolean {
  return bits >= 96 && isV4(ip) ? bits < 96 + 8 : bits < 7;
}
