/** What the schema cannot say of `http` and `metrics`. Pure. */
import { isIP } from 'node:net';
import { NetworkSet, parseIp } from '../base/ip.ts';
import { networkFault } from './networks.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

const LOOPBACK = new NetworkSet(['127.0.0.0/8', '::1']);

/** Whether only this machine reaches it. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || LOOPBACK.has(parseIp(host));
}

export function checkHttp({ http, metrics }: Config, problem: Say, warning: Say): void {
  const networks = (path: string[], texts: readonly string[]): void => {
    for (const [i, text] of texts.entries()) {
      const fault = networkFault(text);
      if (fault !== null) problem([...path, i], fault.message, fault.mend);
    }
  };
  networks(['http', 'trusted_proxies'], http.trusted_proxies);
  networks(['metrics', 'anonymous_networks'], metrics.anonymous_networks);
  if (metrics.anonymous_networks.length > 0 && !(metrics.enabled && http.enabled))
    warning(['metrics', 'anonymous_networks'], 'does nothing without metrics.enabled and http.enabled');
  const { host, tls, behind_proxy: proxied, trusted_proxies: proxies } = http;
  if (tls.cert_file === undefined && tls.key_file !== undefined)
    problem(['http', 'tls', 'cert_file'], 'is needed with http.tls.key_file');
  if (proxied && proxies.length === 0)
    problem(['http', 'trusted_proxies'], 'is needed with http.behind_proxy', 'name the proxy’s address');
  if (!proxied && proxies.length > 0)
    warning(['http', 'trusted_proxies'], 'does nothing without http.behind_proxy');
  if (isIP(host) === 0 && host !== 'localhost')
    problem(['http', 'host'], `"${host}" is no address`, 'write one; 0.0.0.0 means all of IPv4, :: all');
  else if (http.enabled && !isLoopback(host) && !proxied && tls.cert_file === undefined)
    problem(
      ['http', 'host'],
      `${host} is reached from elsewhere, and tokens would go there in the clear`,
      'set http.tls.cert_file, or http.behind_proxy where a proxy does TLS',
    );
}
