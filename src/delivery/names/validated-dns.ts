/**
 * DNS questions whose answers say whether the resolver validated them (DNSSEC's AD), which node:dns does not tell.
 * Each is asked over UDP from a port of its own, or over TCP when the answer does not fit. Answers are cached with
 * their TTL; equal questions at the same time are asked once; the number of questions is limited. An answer can be
 * trusted as far as the resolver and the way to it: see docs/tls.md.
 */
import { type MostRecent, mostRecent } from '../../base/most-recent.ts';
import type { Config } from '../../config/schema.ts';
import { type Answer, answerOf, temporary } from '../../dns/answer.ts';
import { BUSY, Resolvers } from '../../dns/resolvers.ts';
import type { DnsRecord, DnsType, TlsaRecord } from '../../dns/wire.ts';
import type { DnsAnswer, MxRecord } from './dns.ts';

export interface ValidatedDnsOptions {
  rules: Config['dns'];
  /** The servers of the system, used when the rules name none. */
  systemServers?: () => string[];
}

/** Most questions asked at the same time; others wait. */
const MAX_ASKING = 200;
/** Most questions that wait; others are answered 'temporary' at once. */
const MAX_WAITING = 10_000;

export class ValidatedDns {
  readonly #rules: Config['dns'];
  readonly #resolvers: Resolvers;
  readonly #cache: MostRecent<Answer> | null;
  readonly #asked = new Map<string, Promise<Answer>>();
  readonly #waiting: (() => void)[] = [];
  #asking = 0;

  constructor({ rules, systemServers }: ValidatedDnsOptions) {
    this.#rules = rules;
    this.#resolvers = new Resolvers(rules, systemServers);
    const max = rules.cache_max_entries;
    this.#cache = max === 0 ? null : mostRecent(max, { ttlResolution: 1 });
  }

  async mx(name: string): Promise<DnsAnswer<MxRecord>> {
    const answer = await this.#once(name, 'MX');
    return under(answer, (record) =>
      record.type === 'MX' ? { preference: record.preference, exchange: record.value } : null,
    );
  }

  async addresses(name: string, family: 4 | 6): Promise<DnsAnswer<string>> {
    const type = family === 4 ? 'A' : 'AAAA';
    return under(await this.#once(name, type), (record) => (record.type === type ? record.value : null));
  }

  async tlsa(name: string): Promise<DnsAnswer<TlsaRecord>> {
    return under(await this.#once(name, 'TLSA'), (record) => (record.type === 'TLSA' ? record.tlsa : null));
  }

  /** The CNAME of the name itself, wherever that leads. */
  async alias(name: string): Promise<DnsAnswer<string>> {
    return under(await this.#once(name, 'CNAME'), (record) =>
      record.type === 'CNAME' ? record.value : null,
    );
  }

  #once(name: string, type: DnsType): Promise<Answer> {
    const key = `${type} ${name}`;
    const cached = this.#cache?.get(key);
    if (cached !== undefined) return Promise.resolve(cached);
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    const forget = () => void this.#asked.delete(key);
    const answer = this.#inTurn(name, type)
      .finally(forget)
      .then((found) => {
        const ttl = this.#ttlMs(found);
        if (ttl > 0) this.#cache?.set(key, found, { ttl });
        return found;
      });
    this.#asked.set(key, answer);
    return answer;
  }

  #ttlMs({ kind, records }: Answer): number {
    const { cache_max_ttl_ms, negative_ttl_ms } = this.#rules;
    if (kind === 'temporary') return 0;
    if (kind !== 'found') return Math.min(negative_ttl_ms, cache_max_ttl_ms);
    return Math.min(...records.map(({ ttl }) => ttl * 1000), cache_max_ttl_ms);
  }

  async #inTurn(name: string, type: DnsType): Promise<Answer> {
    if (this.#asking >= MAX_ASKING) {
      if (this.#waiting.length >= MAX_WAITING) return temporary(BUSY);
      await new Promise<void>((go) => this.#waiting.push(go));
    }
    this.#asking++;
    try {
      return await this.#ask(name, type);
    } finally {
      this.#asking--;
      this.#waiting.shift()?.();
    }
  }

  async #ask(name: string, type: DnsType): Promise<Answer> {
    return answerOf(await this.#resolvers.ask(name, type, true), type);
  }
}

function under<T>(answer: Answer, pick: (record: DnsRecord) => T | null): DnsAnswer<T> {
  const { kind, detail, secure, canonical } = answer;
  if (kind === 'temporary') return { kind, detail };
  if (kind !== 'found') return { kind };
  const records = answer.records.map(pick).filter((one) => one !== null);
  return { kind, records, secure, canonical };
}
