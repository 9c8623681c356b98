/** The sender's domain must exist and take mail, or no bounce can ever reach the sender. */
import type { Config } from '../config/schema.ts';
import type { PolicyDns } from './dns.ts';
import { domainExists, type Existence } from './domain-exists.ts';
import { type Found, type Hit, Part } from './part.ts';

export class SenderDomain {
  readonly part: Part;
  readonly #config: Config['policy']['sender_domain'];
  readonly #dns: PolicyDns;

  constructor(config: Config['policy']['sender_domain'], dns: PolicyDns) {
    this.part = new Part(config);
    this.#config = config;
    this.#dns = dns;
  }

  /** @param domain of the sender, '' for the null path. */
  look(domain: string): Found {
    if (domain === '') return null;
    const existence = domainExists(this.#dns, domain, this.#config.timeout_ms);
    return existence instanceof Promise
      ? existence.then((known) => this.#judge(domain, known))
      : this.#judge(domain, existence);
  }

  #judge(domain: string, existence: Existence): Hit | null {
    const hit = { rule: 'sender_domain', mode: this.part.mode } as const;
    switch (existence) {
      case 'exists':
        return null;
      case 'none':
        return { ...hit, detail: `${domain} is not in DNS` };
      case 'null_mx':
        return { ...hit, detail: `${domain} has a null MX` };
      case 'unknown':
        return this.#config.on_failure === 'open'
          ? null
          : { ...hit, detail: `no answer about ${domain}`, unknown: true };
    }
  }
}
