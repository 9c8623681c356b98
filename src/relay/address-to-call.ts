/** Which address of a host the relay may send a request to: nobody's DNS record is to make us talk to our own network. */
import ipaddr from 'ipaddr.js';
import type { Dns } from '../delivery/names/dns.ts';

/** @param mayBePrivate any address will do. @throws Error where there is none that it may be. */
export async function addressToCall(
  dns: Pick<Dns, 'addresses'>,
  host: string,
  mayBePrivate: boolean,
): Promise<string> {
  const found: string[] = [];
  if (ipaddr.isValid(host)) found.push(host);
  else
    for (const family of [4, 6] as const) {
      const answer = await dns.addresses(host, family);
      if (answer.kind === 'found') found.push(...answer.records);
    }
  const isPublic = (address: string): boolean => ipaddr.process(address).range() === 'unicast';
  const address = found.find((one) => mayBePrivate || isPublic(one));
  if (address !== undefined) return address;
  throw new Error(found.length === 0 ? `${host} has no address` : `${host} has no public address`);
}
