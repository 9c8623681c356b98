/**
 * Who may relay: clients within relay_networks may send to any domain, all others only to relay_domains. Networks and
 * domains are compiled once; a client is looked up once per connection, a domain once per recipient.
 */
import { domainToASCII } from 'node:url';
import ipaddr from 'ipaddr.js';
import { RelayError } from '../base/errors.ts';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

export class RelayPolicy {
  readonly #v4: [ipaddr.IPv4, number][] = [];
  readonly #v6: [ipaddr.IPv6, number][] = [];
  readonly #domains = new Set<string>();
  /** Domains given with a leading dot, without it. */
  readonly #parents = new Set<string>();
  // A campaign's client opens many connections from one address: the last answer saves parsing it again.
  #lastAddress = '';
  #lastAnswer = false;

  /**
   * @param networks `192.0.2.0/24`, `2001:db8::/32`, or a single address.
   * @param domains `example.com`, or `.example.com` for its subdomains.
   * @throws RelayError config-invalid naming the entry that is no network or no domain.
   */
  constructor(networks: readonly string[], domains: readonly string[]) {
    for (const network of networks) this.#addNetwork(network);
    for (const entry of domains) {
      const ascii = domainToASCII(entry.replace(/^\./, ''));
      if (ascii === '')
        throw new RelayError(
          'config-invalid',
          `relay_domains: "${entry}" is no domain; write example.com or .example.com`,
        );
      (entry.startsWith('.') ? this.#parents : this.#domains).add(ascii);
    }
  }

  /** Whether a client with this address may send to any domain. A Unix socket ('unix') always may. */
  isRelayClient(address: string): boolean {
    if (address === 'unix') return true;
    if (address !== this.#lastAddress) {
      this.#lastAnswer = this.#isInNetworks(address);
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

  #addNetwork(text: string): void {
    const cidr = ipaddr.isValidCIDR(text);
    if (!cidr && !ipaddr.isValid(text))
      throw new RelayError(
        'config-invalid',
        `relay_networks: "${text}" is no network; write 192.0.2.0/24 or 2001:db8::/32`,
      );
    const given = cidr ? ipaddr.parseCIDR(text) : null;
    const written = given === null ? ipaddr.parse(text) : given[0];
    let bits = given === null ? (isV4(written) ? 32 : 128) : given[1];
    let address: Address = written;
    // ::ffff:192.0.2.0/120 names IPv4 addresses, and IPv4 clients are compared as IPv4.
    if (bits >= 96 && unmapped(written) !== written) {
      address = unmapped(written);
      bits -= 96;
    }
    if (isV4(address)) this.#v4.push([address, bits]);
    else this.#v6.push([address, bits]);
  }

  #isInNetworks(text: string): boolean {
    if (!ipaddr.isValid(text)) return false;
    const address = unmapped(ipaddr.parse(text));
    if (isV4(address)) return this.#v4.some(([network, bits]) => address.match(network, bits));
    return this.#v6.some(([network, bits]) => address.match(network, bits));
  }
}

function isV4(address: Address): address is ipaddr.IPv4 {
  return address.kind() === 'ipv4';
}

/** The IPv4 address for one that is mapped into IPv6, else the address itself. */
function unmapped(address: Address): Address {
  return !isV4(address) && address.isIPv4MappedAddress() ? address.toIPv4Address() : address;
}
