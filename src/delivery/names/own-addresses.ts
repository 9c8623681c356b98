/** Which addresses lead back to ourselves: our listeners, and loopback when the config says so. */
import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';

export interface OwnAddresses {
  /** Whether we listen on this address and port. */
  isListener(address: string, port: number): boolean;
  isLoopback(address: string): boolean;
}

/** @param addressesOf for tests: returns the machine's addresses, which only listeners on all addresses need. */
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

/** Whether an address is loopback. So are 0.0.0.0 and ::, which the kernel treats like it. */
function isLoopback(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const range = ipaddr.process(address).range();
  return range === 'loopback' || range === 'unspecified';
}

function isUnspecified(address: string): boolean {
  return ipaddr.parse(address).range() === 'unspecified';
}

/** The one spelling of an address; IPv4 within IPv6 becomes IPv4. */
function canonical(address: string): string {
  const plain = address.split('%')[0] as string;
  return ipaddr.isValid(plain) ? ipaddr.process(plain).toString() : plain;
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address),
  );
}
