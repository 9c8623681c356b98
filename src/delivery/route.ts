/**
 * Where mail for a destination goes: a static route, the smarthost, an address literal, or the domain's mail
 * exchangers. Answers with addresses in the order to try, or with why there are none. A mistake in our own config
 * (a next hop that does not resolve) defers; what the domain's owner says in DNS may bounce.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { domainForm, domainKey } from '../base/domain.ts';
import type { Config } from '../config/schema.ts';
import { isUnanswered } from '../dns/resolvers.ts';
import type { EgressSource } from '../egress/egress.ts';
import { domainOfReport, SMARTHOST } from '../mail/destination.ts';
import { hopOfKey, isRuleHopKey } from '../mail/operator-keys.ts';
import type { BounceReason, DeferralReason } from '../mail/outcome.ts';
import type { TlsFailure, TlsPolicyFacts, TlsSession } from '../mail/tls-session.ts';
import type { Site } from '../shaping/sites.ts';
import type { Dns, DnsAnswer, MxRecord } from './names/dns.ts';
import { cutAtOurselves, isNullMx, orderMx } from './names/mx.ts';
import type { OwnAddresses } from './names/own-addresses.ts';
import type { ValidatedDns } from './names/validated-dns.ts';
import { type DaneMode, daneModeOf, daneModeOfHop, daneOf, type HostDane } from './security/dane.ts';
import type { MtaSts, StsFailure } from './security/mta-sts.ts';
import { allowsExchanger, type StsPolicy, stsFacts } from './security/sts-policy.ts';
import { reroutedHop, ruleHop } from './security/tls-policy.ts';

export interface Host {
  /** The name in the config or MX record; the address itself when there is no name. */
  name: string;
  address: string;
  port: number;
  /** Of an MX host. */
  preference?: number;
  /** The TLS handshake failed a moment ago, so this time it is tried without. */
  plain?: boolean;
  /** The domain's MTA-STS policy wants verified TLS with this host. */
  verify?: boolean;
  /** TLSA records ask for TLS, and say with which certificate. */
  dane?: HostDane;
  /** The policy under which its TLS sessions are counted. */
  policy?: TlsPolicyFacts;
  /** The domain's MTA-STS policy is in mode testing, and does not name this host. */
  unnamed?: boolean;
  /** The domain says that it has an MTA-STS policy, but it could not be fetched. */
  stsFailure?: StsFailure;
  /** Present when mail may go there only after AUTH. */
  auth?: NextHopAuth;
}

export type NextHopAuth = NonNullable<NextHop['auth']>;
type NextHop = NonNullable<Config['delivery']['smarthost']>;

export type Route =
  /** `site`: where the domain's own MX hosts are asked. */
  | { kind: 'hosts'; hosts: Host[]; site?: Site }
  | { kind: 'bounce'; reason: BounceReason; status: string; detail: string }
  | { kind: 'defer'; reason: DeferralReason; detail: string };

/** The route with the hosts that a source can reach. */
export function reachableFrom({ family, name }: Pick<EgressSource, 'family' | 'name'>, route: Route): Route {
  if (family === 0 || route.kind !== 'hosts') return route;
  const hosts = route.hosts.filter(({ address }) => isIP(address) === family);
  if (hosts.length > 0) return { ...route, hosts };
  const detail = `no host has an IPv${family} address, to leave for from source ${name}`;
  return { kind: 'defer', reason: 'connect_failed', detail };
}

const REROUTE = 'an operator rerouted it here: reroute it again';
/** Most exchangers tried. RFC 5321 §5.1 asks for at least two; more than this never help. */
const MAX_EXCHANGERS = 16;
/** Most exchangers looked up, when earlier ones have no address. */
const MAX_LOOKED_UP = 64;
const MAX_ADDRESSES = 32;

type IpFamily = Config['delivery']['ip_family'];

export interface RouterPorts {
  dns: Pick<Dns, 'mx' | 'addresses'>;
  own: OwnAddresses;
  random: () => number;
  /** Which site a domain belongs to, and the family of addresses to use there; absent: nobody asks. */
  siteOf?: ((domain: string, hosts: readonly MxRecord[]) => { site: Site; family: IpFamily }) | undefined;
  /** Absent: MTA-STS policies are not asked for. */
  sts?: MtaSts | undefined;
  /** Present where DANE may be used. */
  validated?: ValidatedDns | undefined;
  /** Is told, for the TLS reports, what kept a domain's mail from TLS before any connection. */
  tlsSession?: ((session: TlsSession) => void) | undefined;
  /** Looks up addresses of configured next hops by the system's means (hosts file, DNS). */
  systemLookup?: (name: string) => Promise<string[]>;
}

interface Exchanger {
  preference: number;
  name: string;
  addresses: string[];
  temporary: string | null;
  dane: HostDane | null;
  /** Why its TLSA records cannot be known, so that it gets no mail; null when they can. */
  unknown: string | null;
}

export class Router {
  readonly #config: Config;
  readonly #ports: RouterPorts;

  constructor(config: Config, ports: RouterPorts) {
    this.#config = config;
    this.#ports = ports;
  }

  /** Whether the MX hosts of the domain itself are asked. @param key as in `route`. */
  goesByMx(key: string): boolean {
    const { delivery } = this.#config;
    if (key === SMARTHOST || key.startsWith('[') || reroutedHop(delivery, key) !== undefined) return false;
    const domain = domainKey(domainOfReport(key) ?? key);
    return delivery.smarthost === undefined && !Object.hasOwn(delivery.routes, domain);
  }

  /**
   * @param key the scheduling key: 'smarthost', a domain in lower case, the key of a report to that, or one that an operator
   *   or a rule gave. Never rejects.
   */
  route(key: string): Promise<Route> {
    if (isRuleHopKey(key)) return this.#byRule(key);
    const named = reroutedHop(this.#config.delivery, key);
    if (named !== undefined) return this.#nextHop(named, key);
    const reported = domainOfReport(key);
    const destination = domainKey(reported ?? key);
    const { routes, smarthost } = this.#config.delivery;
    const hop = Object.hasOwn(routes, destination) ? routes[destination] : smarthost;
    if (hop !== undefined) return this.#nextHop(hop, destination);
    if (destination === SMARTHOST) {
      const detail = 'queued for a smarthost, but the config names none (delivery.smarthost)';
      return Promise.resolve({ kind: 'defer', reason: 'internal', detail });
    }
    if (destination.startsWith('[')) return Promise.resolve(this.#literal(destination));
    return this.#byMx(destination, reported !== null);
  }

  #byRule(key: string): Promise<Route> {
    const hop = ruleHop(this.#config.egress, key);
    if (hop !== undefined) return this.#nextHop(hop, key);
    const detail = 'the rule of egress.routing that named its next hop is gone';
    return Promise.resolve({ kind: 'defer', reason: 'internal', detail });
  }

  async #nextHop(hop: NextHop, destination: string): Promise<Route> {
    const { host, port, auth } = hop;
    const name = host.replace(/^\[(.*)\]$/, '$1');
    let addresses: string[];
    let dane: HostDane | null = null;
    if (isIP(name) !== 0) addresses = [name];
    else if (name.toLowerCase() === 'localhost') addresses = this.#ofFamily(['127.0.0.1', '::1']);
    else {
      const found = (await this.#validatedHop(hop, destination)) ?? (await this.#resolveNextHop(name));
      if (typeof found === 'string') {
        return { kind: 'defer', reason: dnsReason(found), detail: `next hop ${name}: ${found}` };
      }
      if (Array.isArray(found)) addresses = found;
      else ({ addresses, dane } = found);
      if (this.#daneOfHop(hop, destination) === 'require' && !(dane !== null && dane.usable.length > 0)) {
        const detail = `next hop ${name} has no usable TLSA records, and delivery.dane requires them`;
        return { kind: 'defer', reason: 'tls_failed', detail };
      }
    }
    const hosts = addresses.map((address) => ({
      name,
      address,
      port,
      ...(auth === undefined ? {} : { auth }),
      ...(dane === null ? {} : { dane }),
    }));
    const others = hosts.filter((one) => !this.#ports.own.isListener(one.address, port));
    if (others.length > 0) return { kind: 'hosts', hosts: others };
    const remedy = isRuleHopKey(destination)
      ? 'correct egress.routing'
      : hopOfKey(destination) === null
        ? 'correct delivery.smarthost or delivery.routes'
        : REROUTE;
    const detail = `next hop ${host}:${port} is this relay itself; ${remedy}`;
    return { kind: 'defer', reason: 'internal', detail };
  }

  #daneOfHop(hop: NextHop, destination: string): DaneMode {
    const host = domainKey(hop.host);
    return daneModeOfHop(this.#config.delivery, destination, { ...hop, host });
  }

  /**
   * Addresses and TLSA records of a next hop with which DANE may be used, or what failed; null: DNS does not know it.
   */
  async #validatedHop(
    hop: NextHop,
    destination: string,
  ): Promise<Pick<Exchanger, 'addresses' | 'dane'> | string | null> {
    const { validated } = this.#ports;
    if (validated === undefined || this.#daneOfHop(hop, destination) === 'off') return null;
    const name = domainKey(hop.host);
    const record = { preference: 0, exchange: name };
    const found = await this.#exchanger(record, validated, { dns: validated, domain: name, port: hop.port });
    if (found.addresses.length === 0) return found.temporary;
    return found.unknown ?? found;
  }

  /** @returns addresses, or why there are none. */
  async #resolveNextHop(name: string): Promise<string[] | string> {
    if (this.#config.dns.servers.length === 0) {
      try {
        const found = this.#ofFamily(await (this.#ports.systemLookup ?? systemLookup)(name));
        return found.length > 0 ? found : 'no address of the wanted family (delivery.ip_family)';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String(error);
      }
    }
    const { addresses, temporary } = await this.#exchanger(
      { preference: 0, exchange: name },
      this.#ports.dns,
    );
    return addresses.length > 0 ? addresses : (temporary ?? 'no such name or no address');
  }

  #ofFamily(addresses: string[], family = this.#config.delivery.ip_family): string[] {
    if (family === 'any') return addresses;
    return addresses.filter((address) => isIP(address) === (family === 'ipv4' ? 4 : 6));
  }

  /** '[192.0.2.1]' or '[IPv6:2001:db8::1]' (RFC 5321 §4.1.3). */
  #literal(destination: string): Route {
    const address = destination.slice(1, -1).replace(/^ipv6:/i, '');
    if (isIP(address) === 0) return bounce('no_such_domain', '5.1.2', `${destination} is no address we know`);
    const port = this.#config.delivery.mx_port;
    if (this.#isOurselves(address)) return bounce('mail_loop', '5.4.6', `${destination} leads back to us`);
    return { kind: 'hosts', hosts: [{ name: destination, address, port }] };
  }

  #isOurselves(address: string): boolean {
    const { own } = this.#ports;
    const { mx_port, refuse_loopback_mx } = this.#config.delivery;
    return refuse_loopback_mx && (own.isListener(address, mx_port) || own.isLoopback(address));
  }

  /** @param despiteTls ignore what the domain has published about TLS, and do not count it. */
  async #byMx(destination: string, despiteTls: boolean): Promise<Route> {
    const domain = domainForm(destination);
    if (domain === null) return bounce('no_such_domain', '5.1.2', `${destination} is no domain name`);
    const validated = despiteTls ? undefined : this.#validatedFor(domain);
    const [answer, policy] = await Promise.all([
      (validated ?? this.#ports.dns).mx(domain),
      despiteTls ? null : (this.#ports.sts?.policy(domain) ?? null),
    ]);
    switch (answer.kind) {
      case 'temporary': {
        const detail = `MX ${domain}: ${answer.detail}`;
        if (validated !== undefined) this.#perhapsBogus(domain, detail);
        return { kind: 'defer', reason: dnsReason(detail), detail };
      }
      case 'no-name':
        return bounce('no_such_domain', '5.1.2', `${domain} does not exist`);
      case 'found':
        if (isNullMx(answer.records)) {
          return bounce('null_mx', '5.1.10', `556 ${domain} takes no mail (null MX)`);
        }
    }
    // The implicit MX of RFC 5321 §5.1: the domain's own address.
    const records = answer.kind === 'found' ? answer.records : [{ preference: 0, exchange: domain }];
    // Without a validated MX an attacker could choose the exchangers, and so whose TLSA records count (RFC 7672
    // §2.2.1).
    const trusted = answer.kind !== 'found' || answer.secure === true ? validated : undefined;
    const dns = trusted ?? validated ?? this.#ports.dns;
    const port = this.#config.delivery.mx_port;
    const tlsa = trusted === undefined ? undefined : { dns: trusted, domain, port };
    const ordered = orderMx(records, this.#ports.random);
    const found = this.#ports.siteOf?.(domain, ordered);
    const lookup = (record: MxRecord) => this.#exchanger(record, dns, tlsa, found?.family);
    const plain = await this.#throughExchangers(domain, ordered, lookup, tlsa !== undefined);
    const route = despiteTls ? plain : this.#underPolicies(plain, domain, policy);
    return found === undefined || route.kind !== 'hosts' ? route : { ...route, site: found.site };
  }

  #validatedFor(domain: string): ValidatedDns | undefined {
    return daneModeOf(this.#config.delivery, domain) === 'off' ? undefined : this.#ports.validated;
  }

  /**
   * Counts a SERVFAIL for the TLS report: among other things it is a validating resolver's answer to a forged record.
   */
  #perhapsBogus(domain: string, detail: string): void {
    if (/\bSERVFAIL\b/.test(detail)) this.#failed(domain, 'tlsa', 'dnssec-invalid', detail);
  }

  async #throughExchangers(
    domain: string,
    records: MxRecord[],
    lookup: (record: MxRecord) => Promise<Exchanger>,
    tlsa: boolean,
  ): Promise<Route> {
    const hostname = domainKey(this.#config.hostname);
    const named = cutAtOurselves(records, ({ exchange }) => exchange === hostname);
    if (named.length === 0) return loop(domain);
    const resolved = await firstWithAddresses(named.slice(0, MAX_LOOKED_UP), lookup);
    const others = cutAtOurselves(resolved, ({ addresses }) =>
      addresses.some((address) => this.#isOurselves(address)),
    );
    if (others.length === 0) return loop(domain);
    const port = this.#config.delivery.mx_port;
    const known = others.filter(({ unknown }) => unknown === null);
    const share = shareOf(known);
    const hosts = known.flatMap(({ name, preference, addresses, dane }) =>
      addresses
        .slice(0, share)
        .map((address) => ({ name, address, port, preference, ...(dane === null ? {} : { dane }) })),
    );
    if (hosts.length > 0) return { kind: 'hosts', hosts };
    const unknown = others.find((one) => one.unknown !== null)?.unknown;
    if (unknown !== undefined) this.#failed(domain, 'tlsa', 'dnssec-invalid', unknown ?? '');
    const temporary = unknown ?? others.find((one) => one.temporary !== null)?.temporary;
    if (unknown === undefined && tlsa && temporary !== undefined) this.#perhapsBogus(domain, `${temporary}`);
    if (temporary !== undefined)
      return { kind: 'defer', reason: dnsReason(`${temporary}`), detail: `${temporary}` };
    return bounce('no_such_domain', '5.4.4', `no mail exchanger of ${domain} has an address`);
  }

  /** Looks up one exchanger. @param tlsa present where its TLSA records count. */
  async #exchanger(
    record: MxRecord,
    dns: RouterPorts['dns'],
    tlsa?: { dns: ValidatedDns; domain: string; port: number },
    ofSite: IpFamily = 'any',
  ): Promise<Exchanger> {
    const { preference, exchange: name } = record;
    const { ip_family } = this.#config.delivery;
    const family = ip_family === 'any' ? ofSite : ip_family;
    const nothing = { temporary: null, dane: null, unknown: null };
    if (isIP(name) !== 0) {
      // An address in place of a name is against RFC 5321, but its meaning is clear, and it is met often.
      return { preference, name, addresses: this.#ofFamily([name], family), ...nothing };
    }
    const none: DnsAnswer<string> = { kind: 'no-record' };
    const answers = await Promise.all([
      family === 'ipv4' ? none : dns.addresses(name, 6),
      family === 'ipv6' ? none : dns.addresses(name, 4),
    ]);
    const addresses: string[] = [];
    let temporary: string | null = null;
    for (const answer of answers) {
      if (answer.kind === 'found') addresses.push(...answer.records);
      else if (answer.kind === 'temporary') temporary = `address of ${name}: ${answer.detail}`;
    }
    const base = { ...nothing, preference, name, addresses, temporary };
    if (tlsa === undefined || addresses.length === 0) return base;
    const dane = await daneOf(tlsa.dns, name, tlsa.port, tlsa.domain, answers);
    return typeof dane === 'string' ? { ...base, unknown: dane } : { ...base, dane };
  }

  /**
   * Applies what the domain has published about TLS, as far as the operator insists on it. DANE goes before MTA-STS.
   */
  #underPolicies(route: Route, domain: string, found: StsPolicy | StsFailure | null): Route {
    if (route.kind !== 'hosts') return route;
    const sts = found?.mode === 'failed' ? null : found;
    const required = daneModeOf(this.#config.delivery, domain) === 'require';
    const enforced = sts?.mode === 'enforce' ? sts : null;
    const allowed = route.hosts.filter(({ name, dane }) => {
      if (required) return dane !== undefined && dane.usable.length > 0;
      return dane !== undefined || enforced === null || allowsExchanger(enforced, name);
    });
    if (allowed.length === 0) {
      const detail = required
        ? `no mail exchanger of ${domain} has usable TLSA records, and delivery.dane requires them`
        : `no mail exchanger of ${domain} is one its MTA-STS policy names (${enforced?.mx.join(', ')})`;
      if (required) this.#failed(domain, 'no-policy-found', 'dane-required', detail);
      else this.#failed(domain, 'sts', 'validation-failure', detail, enforced);
      return { kind: 'defer', reason: 'tls_failed', detail };
    }
    const testing = sts?.mode === 'testing' ? sts : null;
    const plain = stsFacts(domain, enforced ?? testing);
    const hosts = allowed.map((host): Host => {
      if (host.dane !== undefined) {
        const { texts, base } = host.dane;
        return { ...host, policy: { domain, type: 'tlsa', strings: texts, mx: [base] } };
      }
      if (found?.mode === 'failed') return { ...host, policy: { ...plain, type: 'sts' }, stsFailure: found };
      if (enforced !== null) return { ...host, policy: plain, verify: true };
      const unnamed = testing !== null && !allowsExchanger(testing, host.name);
      return unnamed ? { ...host, policy: plain, unnamed } : { ...host, policy: plain };
    });
    return { kind: 'hosts', hosts };
  }

  #failed(
    domain: string,
    type: TlsPolicyFacts['type'],
    result: TlsFailure,
    detail: string,
    sts: StsPolicy | null = null,
  ): void {
    const policy = type === 'sts' ? stsFacts(domain, sts) : { domain, type, strings: [], mx: [] };
    this.#ports.tlsSession?.({ policy, result, mx: '', address: '', detail });
  }
}

function bounce(reason: BounceReason, status: string, detail: string): Route {
  return { kind: 'bounce', reason, status, detail };
}

function loop(domain: string): Route {
  return bounce('mail_loop', '5.4.6', `the best mail exchanger of ${domain} is this relay itself`);
}

async function systemLookup(name: string): Promise<string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}

/**
 * The reason of a failed look-up. When no name server answers, the trouble is ours, and says nothing of the domain.
 * @param detail as 'MX example.com: SERVFAIL, ETIMEOUT', or the system's error, as 'EAI_AGAIN'.
 */
function dnsReason(detail: string): 'dns_temporary' | 'dns_unavailable' {
  return isUnanswered(detail.split(': ').at(-1) as string) ? 'dns_unavailable' : 'dns_temporary';
}

/** Looks up exchangers in order, a few at a time, until some have an address. */
async function firstWithAddresses(
  named: MxRecord[],
  lookup: (record: MxRecord) => Promise<Exchanger>,
): Promise<Exchanger[]> {
  const found: Exchanger[] = [];
  while (found.length < named.length && found.every(({ addresses }) => addresses.length === 0)) {
    const next = named.slice(found.length, found.length + MAX_EXCHANGERS);
    found.push(...(await Promise.all(next.map(lookup))));
  }
  return found;
}

/** How many addresses each exchanger may have, so that the first ones leave room for the others. */
function shareOf(exchangers: Exchanger[]): number {
  const taken = (share: number) =>
    exchangers.reduce((sum, { addresses }) => sum + Math.min(share, addresses.length), 0);
  let share = MAX_ADDRESSES;
  while (share > 1 && taken(share) > MAX_ADDRESSES) share--;
  return share;
}
