/** The name of the client's address (PTR), and whether that name has the address in turn. */
import { type Ip, isV4, parseIp, reverseName } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { PolicyDns, Records } from './dns.ts';
import { type Found, type Hit, nameless, Part, type Subject } from './part.ts';

/** The client that is asked about; a name that is confirmed is kept with it. */
export interface NamedSubject extends Subject {
  clientName: string;
}

/** Names that may stand in a trace header: DNS must not bring a comment, a quote or a space into it. */
const HOST_NAME = /^[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?$/;
/** Names that are looked at; no mail server has hundreds. */
const MAX_NAMES = 8;

export class ReverseDns {
  readonly part: Part;
  readonly #config: Config['policy']['reverse_dns'];
  readonly #dns: PolicyDns;

  constructor(config: Config['policy']['reverse_dns'], dns: PolicyDns) {
    this.part = new Part(config);
    this.#config = config;
    this.#dns = dns;
  }

  look(subject: NamedSubject): Found {
    const { ip } = subject;
    if (ip === null) return nameless(subject) === null ? null : this.#hit('an unknown client has no name');
    const name = reverseName(ip);
    const ptr = this.#dns.ask('PTR', name, this.#config.timeout_ms);
    return ptr instanceof Promise
      ? ptr.then((names) => this.#judge(subject, ip, names))
      : this.#judge(subject, ip, ptr);
  }

  #judge(subject: NamedSubject, ip: Ip, names: Records | null): Found {
    const { address } = subject;
    if (names === null) return this.#unknown(address);
    if (names.length === 0) return this.#hit(`${address} has no name`);
    if (this.#config.require === 'name') return null;
    const kind = isV4(ip) ? 'A' : 'AAAA';
    const looked = names.slice(0, MAX_NAMES);
    const answers = looked.map((name) => this.#dns.ask(kind, name, this.#config.timeout_ms));
    const decide = (known: (Records | null)[]): Hit | null => {
      const confirmed = known.findIndex((addresses) => addresses?.some((text) => same(parseIp(text), ip)));
      if (confirmed !== -1) {
        const name = looked[confirmed] as string;
        // XCLIENT may have made the session another client's while DNS was asked.
        if (subject.ip === ip && HOST_NAME.test(name)) subject.clientName = name;
        return null;
      }
      if (known.includes(null)) return this.#unknown(address);
      return this.#hit(`${address} is not an address of ${names[0]}`);
    };
    return answers.some((answer) => answer instanceof Promise)
      ? Promise.all(answers).then(decide)
      : decide(answers as (Records | null)[]);
  }

  #unknown(address: string): Hit | null {
    if (this.#config.on_failure === 'open') return null;
    return { rule: 'reverse_dns', mode: this.part.mode, detail: `no answer about ${address}`, unknown: true };
  }

  #hit(detail: string): Hit {
    return { rule: 'reverse_dns', mode: this.part.mode, detail };
  }
}

export function same(a: Ip | null, b: Ip): boolean {
  return a !== null && a[3] === b[3] && a[2] === b[2] && a[1] === b[1] && a[0] === b[0];
}
