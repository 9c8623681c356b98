/** DNS as the checks ask it: what is not there is an empty answer, and each question is asked once. */
import { formatIp, type Ip, isV4 } from '../base/ip.ts';
import type { Queries } from '../dns/queries.ts';

const NOT_THERE: ReadonlySet<unknown> = new Set(['ENOTFOUND', 'ENODATA']);

type Asked = Pick<Queries, 'resolveTxt' | 'resolveMx' | 'resolvePtr' | 'resolve4' | 'resolve6'>;

export class LookUp {
  readonly #queries: Asked;
  readonly #answers = new Map<string, Promise<readonly string[]>>();

  constructor(queries: Asked) {
    this.#queries = queries;
  }

  /** TXT records, the strings of each joined. All that is here rejects when DNS does not answer. */
  txt(name: string): Promise<readonly string[]> {
    return this.#once(`TXT ${name}`, async () =>
      (await this.#queries.resolveTxt(name)).map((strings) => strings.join('')),
    );
  }

  /** Addresses of this family, or of both. */
  async addresses(name: string, family: 4 | 6 | 0 = 0): Promise<readonly string[]> {
    const of = (type: 4 | 6) => this.#once(`A${type} ${name}`, async () => this.#addresses(name, type));
    if (family !== 0) return of(family);
    return (await Promise.all([of(4), of(6)])).flat();
  }

  /** Exchangers, the most preferred first; '' is the null MX. */
  mx(name: string): Promise<readonly string[]> {
    return this.#once(`MX ${name}`, async () => {
      const records = await this.#queries.resolveMx(name);
      return records
        .sort((a, b) => a.priority - b.priority)
        .map(({ exchange }) => exchange.replace(/\.$/, ''));
    });
  }

  /** Names of an address. */
  ptr(ip: Ip): Promise<readonly string[]> {
    const name = reverseName(ip);
    return this.#once(`PTR ${name}`, () => this.#queries.resolvePtr(name));
  }

  async #addresses(name: string, family: 4 | 6): Promise<string[]> {
    const found = await (family === 4 ? this.#queries.resolve4(name) : this.#queries.resolve6(name));
    return found.map(({ address }) => address);
  }

  #once(key: string, ask: () => Promise<string[]>): Promise<readonly string[]> {
    let answer = this.#answers.get(key);
    if (answer === undefined) {
      answer = ask().catch((error: { code?: unknown }) => {
        if (NOT_THERE.has(error.code)) return [];
        throw error;
      });
      this.#answers.set(key, answer);
    }
    return answer;
  }
}

/** The parts of an address in the order of reverse names: octets, or hex digits of IPv6. */
export function reversed(ip: Ip): string {
  if (isV4(ip)) return formatIp(ip).split('.').reverse().join('.');
  const digits = ip.map((word) => word.toString(16).padStart(8, '0')).join('');
  return [...digits].reverse().join('.');
}

const reverseName = (ip: Ip): string => `${reversed(ip)}.${isV4(ip) ? 'in-addr' : 'ip6'}.arpa`;
