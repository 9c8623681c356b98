/** What the schema cannot say about `policy`. Pure; part of rules.ts. */
import { domainForm } from '../base/domain.ts';
import { isV4, masked, NetworkSet, parseIp, parseNetwork } from '../base/ip.ts';
import { networkFault } from './networks.ts';
import type { PolicyConfig } from './policy-schema.ts';
import type { Say } from './say.ts';

export function checkPolicy(
  {
    policy,
    relay_networks,
    dns,
  }: { policy: PolicyConfig; relay_networks: string[]; dns: { servers: string[] } },
  problem: Say,
  warning: Say,
): void {
  for (const [name, part] of Object.entries(policy)) {
    if (typeof part !== 'object' || Array.isArray(part) || !('exempt' in part)) continue;
    for (const [i, entry] of part.exempt.entries()) {
      const fault = parseNetwork(entry) === null ? null : networkFault(entry);
      if (fault !== null) problem(['policy', name, 'exempt', i], fault.message, fault.mend);
      else if (!isExemption(entry))
        problem(
          ['policy', name, 'exempt', i],
          `must be a network, a domain, "relay_networks" or "authenticated", is "${entry}"`,
        );
    }
  }
  const lists = {
    'proxy_protocol.networks': policy.proxy_protocol.networks,
    xclient_networks: policy.xclient_networks,
    xforward_networks: policy.xforward_networks,
  };
  for (const [key, networks] of Object.entries(lists))
    for (const [i, network] of networks.entries()) {
      const fault = networkFault(network);
      if (fault !== null) problem(['policy', ...key.split('.'), i], fault.message, fault.mend);
    }
  checkProxies(policy, relay_networks, warning);
  checkZones(policy, problem);
  checkResolvers(policy, dns.servers, warning);
  checkRates(policy, problem, warning);
  checkTimes(policy, problem, warning);
  checkShares(policy, warning);
}

/** Warns of proxies in relay_networks: clients behind them could get rights that nobody meant to give. */
function checkProxies({ proxy_protocol }: PolicyConfig, relayNetworks: string[], warning: Say): void {
  for (const [i, proxies] of proxy_protocol.networks.entries()) {
    const within = relayNetworks.find((network) => overlap(proxies, network));
    if (within === undefined) continue;
    warning(
      ['policy', 'proxy_protocol', 'networks', i],
      `${proxies} lies in relay_networks (${within}): a client that comes with an address of a proxy may relay; leave proxies out of relay_networks (clients that a proxy does not know, UNKNOWN and LOCAL, never may)`,
    );
  }
}

function overlap(one: string, other: string): boolean {
  const [a, b] = [parseNetwork(one), parseNetwork(other)];
  // An IPv6 network, however wide, gives no IPv4 client any rights.
  if (a === null || b === null || isV4(a.ip) !== isV4(b.ip)) return false;
  const bits = Math.min(a.bits, b.bits);
  return masked(a.ip, bits).every((word, i) => word === masked(b.ip, bits)[i]);
}

function isExemption(entry: string): boolean {
  if (entry === 'relay_networks' || entry === 'authenticated' || parseNetwork(entry) !== null) return true;
  const domain = entry.replace(/^\./, '');
  return domain.includes('.') && !domain.includes('/') && domainForm(domain) !== null;
}

/** Most DNS lists refuse to answer these resolvers, or answer them with what is no listing. */
const PUBLIC_RESOLVERS = new NetworkSet(
  ['1.1.1.1', '1.0.0.1', '8.8.8.8', '8.8.4.4', '9.9.9.9', '149.112.112.112', '208.67.222.222', '208.67.220.220',
    '2606:4700:4700::/48', '2001:4860:4860::/48', '2620:fe::/48', '2620:119:35::/48', '2620:119:53::/48'],
); // biome-ignore format: a list

function checkResolvers({ dnsbl }: PolicyConfig, servers: readonly string[], warning: Say): void {
  if (!dnsbl.enabled) return;
  for (const [i, server] of servers.entries()) {
    const address =
      /^\[(.*)\]/.exec(server)?.[1] ?? (server.split(':').length === 2 ? server.split(':')[0] : server);
    if (PUBLIC_RESOLVERS.has(parseIp(address ?? '')))
      warning(
        ['dns', 'servers', i],
        `${server} is a public resolver, which most DNS lists refuse to answer: policy.dnsbl needs a resolver of your own`,
      );
  }
}

function checkZones({ dnsbl }: PolicyConfig, problem: Say): void {
  for (const [i, { answers }] of dnsbl.zones.entries())
    for (const [j, answer] of answers.entries()) {
      const [from = '', to] = answer.split('-');
      const good =
        to === undefined ? parseNetwork(from) !== null : parseIp(from) !== null && parseIp(to) !== null;
      if (!good)
        problem(
          ['policy', 'dnsbl', 'zones', i, 'answers', j],
          `must be an address, a network or a range such as 127.0.0.4-127.0.0.7, is "${answer}"`,
        );
      else if (!answer.split('-').every((end) => isLoopback(end)))
        problem(
          ['policy', 'dnsbl', 'zones', i, 'answers', j],
          `must lie within 127.0.0.0/8, where lists answer (RFC 5782), is "${answer}"`,
        );
    }
  if (dnsbl.enabled && dnsbl.zones.length === 0)
    problem(['policy', 'dnsbl', 'zones'], 'needs at least one list while dnsbl.enabled is true');
}

function isLoopback(text: string): boolean {
  const network = parseNetwork(text);
  return network !== null && network.bits >= 104 && LISTINGS.has(network.ip);
}

const LISTINGS = new NetworkSet(['127.0.0.0/8']);

function checkRates({ rates }: PolicyConfig, problem: Say, warning: Say): void {
  for (const [i, { count, per }] of rates.limits.entries())
    if (
      (per === 'user' && count === 'connections') ||
      (per === 'sender_domain' && !/^(mess|recip)/.test(count))
    )
      problem(
        ['policy', 'rates', 'limits', i, 'per'],
        `${count} cannot be counted per ${per}: it is not known yet when they come`,
      );
  if (rates.enabled && rates.limits.length === 0)
    warning(['policy', 'rates', 'limits'], 'is empty: rates.enabled has no effect');
}

function checkShares({ shares }: PolicyConfig, warning: Say): void {
  for (const wider of ['network_percent', 'trusted_percent'] as const)
    if (shares[wider] < shares.client_percent)
      warning(
        ['policy', 'shares', wider],
        `is less than shares.client_percent (${shares.client_percent}), which says what one client may have`,
      );
}

function checkTimes({ bans, tarpit, greylist }: PolicyConfig, problem: Say, warning: Say): void {
  if (bans.duration_ms > bans.max_duration_ms)
    problem(
      ['policy', 'bans', 'duration_ms'],
      `must not exceed bans.max_duration_ms (${bans.max_duration_ms})`,
    );
  if (tarpit.delay_ms > tarpit.max_delay_ms)
    problem(['policy', 'tarpit', 'delay_ms'], `must not exceed tarpit.max_delay_ms (${tarpit.max_delay_ms})`);
  if (greylist.delay_ms >= greylist.retry_window_ms)
    problem(
      ['policy', 'greylist', 'delay_ms'],
      `must be less than greylist.retry_window_ms (${greylist.retry_window_ms}), or nobody ever passes`,
    );
  if (greylist.enabled && greylist.mode === 'reject')
    warning(
      ['policy', 'greylist', 'mode'],
      'reject: whoever is new is told never to come back; defer asks for a retry',
    );
}
