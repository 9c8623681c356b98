/**
 * The policy of one session thread: its rules, built from the config, and what they share. Sessions have a
 * `SessionPolicy` each; the rules know of no session.
 */
import { NetworkSet, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { Accounts } from './accounts.ts';
import { AddressValidation } from './address-validation.ts';
import { PolicyDns, type PolicyQueries } from './dns.ts';
import { Dnsbl } from './dnsbl.ts';
import type { ConnectionGate } from './gate.ts';
import { Greylist } from './greylist.ts';
import { Helo } from './helo.ts';
import type { PolicyMemory } from './host-memory.ts';
import { Part, type Subject } from './part.ts';
import { Rates } from './rates.ts';
import { ReverseDns } from './reverse-dns.ts';
import { SenderDomain } from './sender-domain.ts';

export interface PolicyShared {
  gate: ConnectionGate;
  memory: PolicyMemory;
  log: Log;
  /** The time of the loop turn. */
  clock: { nowMs: number };
  /** For tests; default: DNS as the config says. */
  queries?: PolicyQueries;
}

export class Policy {
  readonly hostname: string;
  readonly tagHeader: string;
  readonly gate: ConnectionGate;
  readonly accounts: Accounts;
  readonly log: Log;
  readonly clock: { readonly nowMs: number };
  readonly reverseDns: ReverseDns;
  readonly helo: Helo;
  readonly dnsbl: Dnsbl;
  readonly senderDomain: SenderDomain;
  readonly addresses: AddressValidation;
  readonly greylist: Greylist;
  readonly rates: Rates;
  readonly earlyTalker: Part;
  readonly tarpit: Part;
  readonly greetDelayMs: number;
  readonly pauses: { afterErrors: number; delayMs: number; maxMs: number };
  readonly proxyTimeoutMs: number;
  /** At which steps any rule is in use: when a connection opens, at MAIL, at RCPT, at every command. */
  readonly looksAt: { connection: boolean; mail: boolean; recipient: boolean; commands: boolean };
  readonly #proxies: NetworkSet;
  readonly #xclient: NetworkSet;
  readonly #xforward: NetworkSet;

  constructor(
    { policy, hostname, dns: dnsRules }: Config,
    { gate, memory, log, clock, queries }: PolicyShared,
  ) {
    this.hostname = hostname;
    this.tagHeader = policy.tag_header;
    this.gate = gate;
    this.accounts = memory.accounts;
    this.log = log;
    this.clock = clock;
    const dns = new PolicyDns(dnsRules, queries);
    this.reverseDns = new ReverseDns(policy.reverse_dns, dns);
    this.helo = new Helo(policy.helo, hostname, dns);
    this.dnsbl = new Dnsbl(policy.dnsbl, dns, log);
    this.senderDomain = new SenderDomain(policy.sender_domain, dns);
    this.addresses = new AddressValidation(policy.address_validation, dns);
    this.greylist = new Greylist(policy.greylist, memory.greylist, memory.greylistNoted);
    this.rates = new Rates(policy.rates, memory.counters);
    this.earlyTalker = new Part(policy.early_talker);
    this.tarpit = new Part(policy.tarpit);
    this.greetDelayMs = policy.early_talker.greet_delay_ms;
    const { after_errors, delay_ms, max_delay_ms } = policy.tarpit;
    this.pauses = { afterErrors: after_errors, delayMs: delay_ms, maxMs: max_delay_ms };
    this.proxyTimeoutMs = policy.proxy_protocol.timeout_ms;
    this.#proxies = new NetworkSet(policy.proxy_protocol.networks);
    this.#xclient = new NetworkSet(policy.xclient_networks);
    this.#xforward = new NetworkSet(policy.xforward_networks);
    const { reverseDns, helo, dnsbl, senderDomain, addresses, greylist, rates } = this;
    const onClient = reverseDns.part.enabled || dnsbl.part.enabled;
    this.looksAt = {
      connection: onClient,
      mail:
        onClient ||
        helo.part.enabled ||
        senderDomain.part.enabled ||
        addresses.part.enabled ||
        rates.counts('messages'),
      recipient: addresses.part.enabled || greylist.part.enabled || rates.counts('recipients'),
      commands: rates.counts('commands'),
    };
  }

  /** Whether a connection of this peer begins with a PROXY header. */
  expectsProxy(peer: string): boolean {
    return !this.#proxies.isEmpty && this.#proxies.has(parseIp(peer));
  }

  mayXclient({ ip }: Pick<Subject, 'ip'>): boolean {
    return !this.#xclient.isEmpty && this.#xclient.has(ip);
  }

  mayXforward({ ip }: Pick<Subject, 'ip'>): boolean {
    return !this.#xforward.isEmpty && this.#xforward.has(ip);
  }
}
