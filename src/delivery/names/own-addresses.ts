/** Which addresses lead back to ourselves: our listeners, and loopback when the config says so. */
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';

export interface OwnAddresses {
  /** True for an address and port we listen on. */
  isListener(address: string, port: number): boolean;
  isLoopback(address: string): boolean;
}

/** @param addressesOf for tests: the machine's addresses, asked only for listeners on all addresses. */
export function ownAddresses(
  listeners: readonly { address: string; port: number }[],
  addressesOf: () => string[] = machineAddresses,
): OwnAddresses {
  const own = new Set<string>();
  for (const { address, port } of listeners) {
    if (!ipaddr.isValid(address)) continue;
    const all = isUnspecified(address) ? addressesOf() : [address];
    for (const one of all) own.add(`${canonical(one)} ${port}`);
  }
  return {
    isListener: (address, port) => own.has(`${canonical(address)} ${port}`),
    isLoopback,
  };
}

/** Also 'this host' addresses (0.0.0.0, ::), which the kernel takes for loopback. */
function isLoopback(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const range = ipaddr.process(address).range();
  return range === 'loopback' || range === 'unspecified';
}

function isUnspecified(address: string): boolean {
  return ipaddr.parse(address).range() === 'unspecified';
}

/** One spelling per address; IPv4 in IPv6 is IPv4. */
function canonical(address: string): string {
  const plain = address.split('%')[0] as string;
  return ipaddr.isValid(plain) ? ipaddr.process(plain).toString() : plain;
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address),
  );
}
