/** What the schema cannot say of `postmaster`. Pure. */
import { domainKey, domainOf } from '../base/domain.ts';
import { NetworkSet, parseIp } from '../base/ip.ts';
import { isPlainAddress } from './dane-rules.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

export function checkPostmaster(config: Config, problem: Say, warning: Say): void {
  const { postmaster, hostname, relay_domains, delivery } = config;
  if (postmaster === undefined) {
    if (strangersReach(config) && !relay_domains.includes(domainKey(hostname)))
      warning(
        ['postmaster'],
        `is not set: mail to <postmaster> and postmaster@${hostname} is refused with 550 5.7.1, and RFC 5321 wants it taken; set it to an address that people read`,
      );
    return;
  }
  if (!isPlainAddress(postmaster)) {
    problem(['postmaster'], `must be an address such as ops@example.com, is "${postmaster}"`);
    return;
  }
  const domain = domainOf(postmaster);
  const own = [hostname, delivery.ehlo_name ?? hostname].some((name) => domainKey(name) === domain);
  if (own && delivery.routes[domain] === undefined && delivery.smarthost === undefined)
    warning(
      ['postmaster'],
      `is at this relay's own name, which holds no mailboxes: unless the MX of ${domain} is another host, such mail comes back here`,
    );
}

const LOOPBACK = new NetworkSet(['127.0.0.0/8', '::1']);

/** Whether anybody without relay rights can connect. */
function strangersReach({ listeners, relay_networks }: Config): boolean {
  const networks = new NetworkSet(relay_networks);
  return listeners.some(({ host, path }) => {
    const ip = host === undefined ? null : parseIp(host === 'localhost' ? '127.0.0.1' : host);
    return path === undefined && !(LOOPBACK.has(ip) && networks.has(ip));
  });
}
