/** Whether a config lets everybody send anywhere. Pure. */
import { NetworkSet, parseIp, parseNetwork } from '../base/ip.ts';
import { isEverybody } from './networks.ts';
import type { Finding, Say } from './say.ts';
import type { Config } from './schema.ts';

const LOOPBACK = new NetworkSet(['127.0.0.0/8', '::1']);
const MEND =
  'name your own networks; where something before the relay keeps strangers out, set "allow_open_relay": true';

export function checkOpenRelay(config: Config, problem: Say, warning: Say): void {
  if (!config.listeners.some(takesStrangers)) return;
  const { policy, relay_networks, relay_domains, allow_open_relay: allowed } = config;
  const lists: [Finding['path'], readonly string[], string][] = [
    [['relay_networks'], relay_networks, 'lets everybody send to any domain: an open relay'],
    [
      ['policy', 'xclient_networks'],
      policy.xclient_networks,
      'lets everybody claim an address in relay_networks, and so send to any domain',
    ],
    [
      ['policy', 'proxy_protocol', 'networks'],
      policy.proxy_protocol.networks,
      'believes what address everybody claims, one in relay_networks too, and so lets everybody send to any domain',
    ],
  ];
  for (const [path, networks, what] of lists)
    for (const [i, text] of networks.entries()) {
      const network = parseNetwork(text);
      if (network === null || !isEverybody(network)) continue;
      if (allowed) warning([...path, i], `${text} ${what} ("allow_open_relay" is set)`);
      else problem([...path, i], `${text} ${what}`, MEND);
    }
  for (const [i, domain] of relay_domains.entries())
    if (/^\.[^.]+$/.test(domain))
      warning(
        ['relay_domains', i],
        `everybody may send to every domain that ends in ${domain}`,
        'name the domains that this relay takes mail for',
      );
}

/** Whether somebody from elsewhere can connect and relay by their address alone. A socket of systemd may be anywhere. */
function takesStrangers({ host, path, auth, client_certificate }: Config['listeners'][number]): boolean {
  if (path !== undefined || auth === 'required' || client_certificate === 'required') return false;
  const ip = host === undefined ? null : parseIp(host === 'localhost' ? '127.0.0.1' : host);
  return !LOOPBACK.has(ip);
}
