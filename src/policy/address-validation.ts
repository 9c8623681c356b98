/** Looks at addresses of MAIL and RCPT in stages; the first stage that objects is the answer. */
import { isIP } from 'node:net';
import type { Config } from '../config/schema.ts';
import type { PolicyDns } from './dns.ts';
import { domainExists, type Existence } from './domain-exists.ts';
import { type Found, type Hit, Part } from './part.ts';

type AddressConfig = Config['policy']['address_validation'];
type Role = AddressConfig['applies_to'][number];

/** RFC 2606, RFC 6761: nobody has mail there. */
const RESERVED = /(^|\.)(test|example|invalid|localhost|local|example\.(com|net|org))$/;
/** Letters, digits and what is common in addresses; no quotes, no route of the past (`%`, `!`). */
const LOCAL_PART = /^[\p{L}\p{N}\p{M}_+&'*=?^{}~#$/|`.-]+$/u;

export class AddressValidation {
  readonly part: Part;
  readonly #config: AddressConfig;
  readonly #dns: PolicyDns;

  constructor(config: AddressConfig, dns: PolicyDns) {
    this.part = new Part(config);
    this.#config = config;
    this.#dns = dns;
  }

  /** @param address '' is the null path, which is always good; so is <postmaster>, without a domain. */
  look(role: Role, address: string, domain: string): Found {
    if (domain === '' || !this.#config.applies_to.includes(role)) return null;
    for (const stage of this.#config.stages) {
      const objection =
        stage === 'basic'
          ? basic(domain)
          : stage === 'extended'
            ? extended(address.slice(0, address.lastIndexOf('@')), domain)
            : null;
      if (objection !== null) return this.#hit(role, `${objection} (${stage})`);
    }
    return this.#config.stages.includes('dns_mx') ? this.#inDns(role, domain) : null;
  }

  #inDns(role: Role, domain: string): Found {
    const existence = domainExists(this.#dns, domain, this.#config.timeout_ms);
    const judge = (known: Existence): Hit | null => {
      if (known === 'exists') return null;
      if (known !== 'unknown')
        return this.#hit(role, `${domain} ${known === 'none' ? 'is not in DNS' : 'has a null MX'} (dns_mx)`);
      const hit = this.#hit(role, `no answer about ${domain} (dns_mx)`);
      return this.#config.on_failure === 'open' ? null : { ...hit, unknown: true };
    };
    return existence instanceof Promise ? existence.then(judge) : judge(existence);
  }

  #hit(role: Role, detail: string): Hit {
    const rule = role === 'sender' ? 'sender_address' : 'recipient_address';
    return { rule, mode: this.part.mode, detail };
  }
}

/** The parser has checked the grammar, but like RFC 5321 it lets names without a dot pass. */
function basic(domain: string): string | null {
  return domain.includes('.') || domain.startsWith('[') ? null : `${domain} is no full domain`;
}

function extended(localPart: string, domain: string): string | null {
  if (domain.startsWith('[')) return 'an address literal';
  if (isIP(domain) !== 0 || /^[\d-]+$/.test(domain.slice(domain.lastIndexOf('.') + 1)))
    return `${domain} has no top-level domain`;
  if (RESERVED.test(domain)) return `${domain} is reserved`;
  return LOCAL_PART.test(localPart) ? null : 'an unusual local part';
}
