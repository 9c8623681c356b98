/**
 * Who may relay: clients within relay_networks may send to any domain, all others only to relay_domains. Networks and
 * domains are compiled once; a client is looked up once per connection, a domain once per recipient.
 */
import { domainForm } from '../base/domain.ts';
import { RelayError } from '../base/errors.ts';
import { isV4, NetworkSet, parseIp, parseNetwork } from '../base/ip.ts';

export class RelayPolicy {
  /** Two sets, so that an IPv6 network, however wide, contains no IPv4 clients. */
  readonly #v4: NetworkSet;
  readonly #v6: NetworkSet;
  readonly #domains = new Set<string>();
  /** Domains that were given with a leading dot, here without it. */
  readonly #parents = new Set<string>();
  // A client that sends a campaign opens many connections: the last answer saves parsing its address again.
  #lastAddress = '';
  #lastAnswer = false;

  /**
   * @param networks `192.0.2.0/24`, `2001:db8::/32`, or a single address.
   * @param domains `example.com`, or `.example.com` for its subdomains.
   * @throws RelayError config_invalid naming the entry that is no network or no domain.
   */
  constructor(networks: readonly string[], domains: readonly string[]) {
    const ofV4 = (text: string): boolean => {
      const network = parseNetwork(text);
      if (network !== null) return isV4(network.ip) && network.bits >= 96;
      throw new RelayError(
        'config_invalid',
        `relay_networks: "${text}" is no network; write 192.0.2.0/24 or 2001:db8::/32`,
      );
    };
    this.#v4 = new NetworkSet(networks.filter((network) => ofV4(network)));
    this.#v6 = new NetworkSet(networks.filter((network) => !ofV4(network)));
    for (const entry of domains) {
      const ascii = /[\s*/]/.test(entry) ? null : domainForm(entry.replace(/^\./, ''));
      if (ascii === null)
        throw new RelayError(
          'config_invalid',
          `relay_domains: "${entry}" is no domain; write example.com or .example.com`,
        );
      (entry.startsWith('.') ? this.#parents : this.#domains).add(ascii);
    }
  }

  /** Whether a client with this address may send to any domain. A Unix socket ('unix') always may. */
  isRelayClient(address: string): boolean {
    if (address === 'unix') return true;
    if (address !== this.#lastAddress) {
      const ip = parseIp(address);
      this.#lastAnswer = ip !== null && (isV4(ip) ? this.#v4 : this.#v6).has(ip);
      this.#lastAddress = address;
    }
    return this.#lastAnswer;
  }

  /** Whether any client may send to this domain (lower case, A-labels). */
  isRelayDomain(domain: string): boolean {
    if (this.#domains.has(domain)) return true;
    if (this.#parents.size === 0) return false;
    for (let dot = domain.indexOf('.'); dot >= 0; dot = domain.indexOf('.', dot + 1))
      if (this.#parents.has(domain.slice(dot + 1))) return true;
    return false;
  }
}
