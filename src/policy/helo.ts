/** Looks at the name in HELO or EHLO: whether it can be a name at all, and whether it can be the client's. */
import { domainKey } from '../base/domain.ts';
import { isV4, parseIp } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { PolicyDns, Records } from './dns.ts';
import { domainExists } from './domain-exists.ts';
import { type Found, type Hit, Part, type Subject } from './part.ts';
import { same } from './reverse-dns.ts';

type HeloConfig = Config['policy']['helo'];

export class Helo {
  readonly part: Part;
  readonly #config: HeloConfig;
  readonly #own: string;
  readonly #dns: PolicyDns;

  /** @param hostname ours. */
  constructor(config: HeloConfig, hostname: string, dns: PolicyDns) {
    this.part = new Part(config);
    this.#config = config;
    this.#own = domainKey(hostname);
    this.#dns = dns;
  }

  look(subject: Subject, given: string): Found {
    const { checks } = this.#config;
    const name = given.toLowerCase();
    if (name.startsWith('['))
      return checks.includes('literal') && !isClients(name, subject)
        ? this.#hit(`${given} is not your address`)
        : null;
    if (checks.includes('own_name') && domainKey(name) === this.#own)
      return this.#hit(`${given} is our name`);
    if (checks.includes('syntax') && !isFullName(name)) return this.#hit(`${given} is no full host name`);
    // Names without a dot are in no DNS that others see.
    const matches = checks.includes('matches') ? this.#matches(subject, given, name) : null;
    const resolves = checks.includes('resolves') ? this.#resolves(given, name) : null;
    if (!(matches instanceof Promise) && !(resolves instanceof Promise)) return matches ?? resolves;
    return Promise.all([matches, resolves]).then(([first, second]) => first ?? second);
  }

  #resolves(given: string, name: string): Found {
    const existence = domainExists(this.#dns, name, this.#config.timeout_ms);
    const decide = (known: string): Hit | null => {
      if (known === 'unknown') return this.#unknown(given);
      return known === 'none' ? this.#hit(`${given} is not in DNS`) : null;
    };
    return existence instanceof Promise ? existence.then(decide) : decide(existence);
  }

  #matches({ ip }: Subject, given: string, name: string): Found {
    if (ip === null) return null;
    const answer = this.#dns.ask(isV4(ip) ? 'A' : 'AAAA', name, this.#config.timeout_ms);
    const decide = (addresses: Records | null): Hit | null => {
      if (addresses === null) return this.#unknown(given);
      return addresses.some((text) => same(parseIp(text), ip))
        ? null
        : this.#hit(`${given} has another address`);
    };
    return answer instanceof Promise ? answer.then(decide) : decide(answer);
  }

  #unknown(given: string): Hit | null {
    if (this.#config.on_failure === 'open') return null;
    return { rule: 'helo', mode: this.part.mode, detail: `no answer about ${given}`, unknown: true };
  }

  #hit(detail: string): Hit {
    return { rule: 'helo', mode: this.part.mode, detail };
  }
}

function isClients(literal: string, { ip }: Subject): boolean {
  const inner = literal.slice(1, -1).replace(/^ipv6:/, '');
  return ip === null || same(parseIp(inner), ip);
}

/** Two labels or more, made of what RFC 5321 allows in labels, and no address without its brackets. */
function isFullName(name: string): boolean {
  const labels = name.split('.');
  return labels.length > 1 && labels.every(isLabel) && parseIp(name) === null;
}

const isLabel = (label: string): boolean => /^[a-z0-9-]+$/.test(label) && !/^-|-$/.test(label);
