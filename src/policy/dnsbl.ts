/**
 * Lists in DNS (RFC 5782) of clients and of sender domains, bad and good: each answer that counts adds the score of its
 * list, and the sum is compared with the threshold. All lists are asked at once.
 */
import { type Ip, isV4, NetworkSet, parseIp } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import { type PolicyDns, type Records, reversed } from './dns.ts';
import { type Found, type Hit, Part, type Subject } from './part.ts';

type DnsblConfig = Config['policy']['dnsbl'];
type List = 'ipv4' | 'ipv6' | 'sender_domain';

interface Zone {
  zone: string;
  score: number;
  counts(answer: string): boolean;
}

export class Dnsbl {
  readonly part: Part;
  readonly #config: DnsblConfig;
  readonly #dns: PolicyDns;
  readonly #zones: Record<List, Zone[]> = { ipv4: [], ipv6: [], sender_domain: [] };

  constructor(config: DnsblConfig, dns: PolicyDns) {
    this.part = new Part(config);
    this.#config = config;
    this.#dns = dns;
    for (const { zone, lists, score, answers } of config.zones) {
      const counts = answerFilter(answers);
      for (const list of lists) this.#zones[list].push({ zone: zone.toLowerCase(), score, counts });
    }
  }

  /** Asks about the client and the domain of a sender ('' or a literal: none). */
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
      if (records === null) silent = zone.zone;
      const counted = records?.find((answer) => zone.counts(answer));
      if (counted === undefined) continue;
      score += zone.score;
      listed.push(`${zone.zone} ${counted}`);
    }
    const { mode } = this.part;
    if (listed.length > 0 && score >= this.#config.threshold)
      return { rule: 'dnsbl', mode, detail: `${listed.join(', ')}, score ${score}` };
    if (silent === '' || this.#config.on_failure === 'open') return null;
    return { rule: 'dnsbl', mode, detail: `no answer of ${silent}`, unknown: true };
  }
}

/** Spamhaus and others answer from here what is no listing: too many questions, a public resolver. */
const ERRORS = '127.255.255.';

/** Which answers count: addresses, networks, ranges. */
export function answerFilter(entries: readonly string[]): (answer: string) => boolean {
  const ranges = entries.flatMap((entry) => {
    const [from = '', to] = entry.split('-');
    const [low, high] = [parseIp(from), to === undefined ? null : parseIp(to)];
    return low === null || high === null ? [] : [{ low: low[3], high: high[3] }];
  });
  const networks = new NetworkSet(entries.filter((entry) => !entry.includes('-')));
  const named = entries.some((entry) => entry.startsWith(ERRORS));
  return (answer) => {
    const ip = parseIp(answer);
    if (ip === null || (answer.startsWith(ERRORS) && !named)) return false;
    return networks.has(ip) || ranges.some(({ low, high }) => ip[3] >= low && ip[3] <= high);
  };
}
