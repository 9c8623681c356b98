/**
 * Lists in DNS (RFC 5782) of clients and of sender domains, bad and good: each answer that counts adds the score of its
 * list, and the sum is compared with the threshold. All lists are asked at once.
 */
import { type Ip, isV4, NetworkSet, parseIp, parseNetwork, reversed } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { PolicyDns, Records } from './dns.ts';
import { type Found, type Hit, Part, type Subject } from './part.ts';

type DnsblConfig = Config['policy']['dnsbl'];
type List = 'ipv4' | 'ipv6' | 'sender_domain';

interface Zone {
  zone: string;
  score: number;
  meaning(answer: string): Meaning;
  /** When we last logged that the list refuses us. */
  toldAtMs: number;
}

export class Dnsbl {
  readonly part: Part;
  readonly #config: DnsblConfig;
  readonly #dns: PolicyDns;
  readonly #log: Log;
  readonly #zones: Record<List, Zone[]> = { ipv4: [], ipv6: [], sender_domain: [] };

  constructor(config: DnsblConfig, dns: PolicyDns, log: Log) {
    this.part = new Part(config);
    this.#config = config;
    this.#dns = dns;
    this.#log = log;
    for (const { zone, lists, score, answers } of config.zones) {
      const meaning = answerFilter(answers);
      const one = { zone: zone.toLowerCase(), score, meaning, toldAtMs: Number.NEGATIVE_INFINITY };
      for (const list of lists) this.#zones[list].push(one);
    }
  }

  /** Asks about the client and about the sender's domain, unless that is '' or a literal. */
  look({ ip }: Subject, domain: string): Found {
    const asked = [...this.#client(ip), ...this.#domain(domain)];
    if (asked.length === 0) return null;
    return asked.some(({ answer }) => answer instanceof Promise)
      ? Promise.all(asked.map(({ answer }) => answer)).then((answers) => this.#judge(asked, answers))
      : this.#judge(
          asked,
          asked.map(({ answer }) => answer as Records | null),
        );
  }

  /** Begins to ask about a client, so that the answer is there when the first message comes. */
  prepare({ ip }: Subject): void {
    this.#client(ip);
  }

  #client(ip: Ip | null) {
    if (ip === null) return [];
    const zones = this.#zones[isV4(ip) ? 'ipv4' : 'ipv6'];
    return zones.length === 0 ? [] : this.#ask(zones, reversed(ip));
  }

  #domain(domain: string) {
    if (domain === '' || domain.startsWith('[')) return [];
    return this.#ask(this.#zones.sender_domain, domain);
  }

  #ask(zones: readonly Zone[], name: string) {
    return zones.map((zone) => ({
      zone,
      answer: this.#dns.ask('A', `${name}.${zone.zone}`, this.#config.timeout_ms),
    }));
  }

  #judge(asked: readonly { zone: Zone }[], answers: (Records | null)[]): Hit | null {
    let score = 0;
    let silent = '';
    const listed: string[] = [];
    for (const [i, { zone }] of asked.entries()) {
      const records = answers[i] ?? null;
      const counted = records?.find((answer) => zone.meaning(answer) === 'listed');
      if (counted === undefined) {
        const refusal = records?.find((answer) => zone.meaning(answer) === 'refused');
        if (refusal !== undefined) this.#refuses(zone, refusal);
        if (refusal !== undefined || records === null) silent = zone.zone;
        continue;
      }
      score += zone.score;
      listed.push(`${zone.zone} ${counted}`);
    }
    const { mode } = this.part;
    if (listed.length > 0 && score >= this.#config.threshold)
      return { rule: 'dnsbl', mode, detail: `${listed.join(', ')}, score ${score}` };
    if (silent === '' || this.#config.on_failure === 'open') return null;
    return { rule: 'dnsbl', mode, detail: `no answer of ${silent}`, unknown: true };
  }

  /** A list that refuses us protects nobody, and only the operator can change that. */
  #refuses(zone: Zone, answer: string): void {
    const nowMs = performance.now();
    if (nowMs - zone.toldAtMs < REFUSAL_LOG_INTERVAL_MS) return;
    zone.toldAtMs = nowMs;
    this.#log.warn('policy.dnsbl_refuses', {
      zone: zone.zone,
      answer,
      advice:
        'no listing: the list refuses our resolver (dns.servers), has limits, or is asked for the wrong thing (zones[].lists)',
    });
  }
}

const REFUSAL_LOG_INTERVAL_MS = 600_000;

/**
 * Answers that the lists themselves document as no listing: the question was refused (too many were asked, or by way of
 * a public resolver), or was put to the wrong list. Spamhaus: 127.255.255.0/24, and 127.0.1.255 for an address asked of
 * a list of domains; SURBL and URIBL: 127.0.0.1; DNSWL and URIBL: 127.0.0.255.
 */
const REFUSALS = ['127.0.0.1', '127.0.0.255', '127.0.1.255', '127.255.255.0/24'];
const REFUSED = new NetworkSet(REFUSALS);
const LISTINGS = new NetworkSet(['127.0.0.0/8']);

export type Meaning = 'listed' | 'refused' | 'nothing';

/** Makes the function that says what an answer means. @param entries answers that count: addresses, networks, ranges. */
export function answerFilter(entries: readonly string[]): (answer: string) => Meaning {
  const ranges = entries.flatMap((entry) => {
    const [from = '', to] = entry.split('-');
    const [low, high] = [parseIp(from), to === undefined ? null : parseIp(to)];
    return low === null || high === null ? [] : [{ low: low[3], high: high[3] }];
  });
  const networks = new NetworkSet(entries.filter((entry) => !entry.includes('-')));
  // An operator who names one of these himself knows that his list means a listing by it.
  const named = new NetworkSet(
    entries.flatMap((entry) => {
      const ends = entry.split('-');
      const network = parseNetwork(entry);
      const wide = ends.length === 1 && network !== null && network.bits < 120;
      return wide ? [] : ends.filter((end) => REFUSED.has(parseNetwork(end)?.ip ?? null));
    }),
  );
  return (answer) => {
    const ip = parseIp(answer);
    // No list answers outside of 127.0.0.0/8 (RFC 5782 §2.3): the domain has a new owner, or a resolver makes things up.
    if (ip === null || !LISTINGS.has(ip)) return 'refused';
    if (REFUSED.has(ip) && !named.has(ip)) return 'refused';
    return networks.has(ip) || ranges.some(({ low, high }) => ip[3] >= low && ip[3] <= high)
      ? 'listed'
      : 'nothing';
  };
}
