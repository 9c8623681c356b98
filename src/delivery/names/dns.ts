/**
 * DNS for delivery: MX, TXT and address questions. Answers are cached with their TTL, also for missing names; equal
 * questions at the same time are asked once. A failure is a value, never an exception; what it means for mail is
 * decided elsewhere.
 */
import { type MostRecent, mostRecent } from '../../base/most-recent.ts';
import type { Config } from '../../config/schema.ts';
import { Queries } from '../../dns/queries.ts';

export interface MxRecord {
  preference: number;
  /** Lower case, without the last dot; '' is the null MX (RFC 7505). */
  exchange: string;
}

export type DnsAnswer<T> =
  | {
      kind: 'found';
      records: T[];
      /** Whether the resolver has validated the answer; only ValidatedDns can tell. */
      secure?: boolean;
      /** Where the aliases of the name lead. */
      canonical?: string;
    }
  /** The name exists, but has no such records. */
  | { kind: 'no-record' }
  /** NXDOMAIN, or a name that cannot exist in DNS. */
  | { kind: 'no-name' }
  | { kind: 'temporary'; detail: string };

/** What this file asks; tests may pass their own. Failures are errors with the codes of c-ares. */
export interface DnsQueries {
  resolveMx(name: string): Promise<{ priority: number; exchange: string }[]>;
  resolveTxt(name: string): Promise<string[][]>;
  resolve4(name: string, options: { ttl: true }): Promise<{ address: string; ttl: number }[]>;
  resolve6(name: string, options: { ttl: true }): Promise<{ address: string; ttl: number }[]>;
}

type Rules = Config['dns'];
type Cached = DnsAnswer<MxRecord> | DnsAnswer<string>;

/** Codes of c-ares by their meaning; every other code is temporary. */
const NO_NAME: ReadonlySet<string> = new Set(['ENOTFOUND', 'EBADNAME']);

export class Dns {
  readonly #rules: Rules;
  readonly #queries: DnsQueries;
  readonly #cache: MostRecent<Cached> | null;
  readonly #asked = new Map<string, Promise<Cached>>();

  /** @param queries for tests; default: a resolver by these rules. */
  constructor(rules: Rules, queries: DnsQueries = new Queries(rules)) {
    this.#rules = rules;
    this.#queries = queries;
    // A thread asks for many names in a burst, so the clock is read at most once per turn.
    this.#cache =
      rules.cache_max_entries === 0 ? null : mostRecent(rules.cache_max_entries, { ttlResolution: 1 });
  }

  /** MX records in the order of the answer. */
  mx(name: string): Promise<DnsAnswer<MxRecord>> {
    return this.#once(`MX ${name}`, () => this.#askMx(name)) as Promise<DnsAnswer<MxRecord>>;
  }

  /** TXT records; the strings of each are joined. */
  txt(name: string): Promise<DnsAnswer<string>> {
    return this.#once(`TXT ${name}`, () => this.#askTxt(name)) as Promise<DnsAnswer<string>>;
  }

  /** IPv4 (4) or IPv6 (6) addresses; the resolver follows aliases. */
  addresses(name: string, family: 4 | 6): Promise<DnsAnswer<string>> {
    return this.#once(`${family} ${name}`, () => this.#askAddresses(name, family)) as Promise<
      DnsAnswer<string>
    >;
  }

  #once(key: string, ask: () => Promise<{ answer: Cached; ttlMs: number }>): Promise<Cached> {
    const cached = this.#cache?.get(key);
    if (cached !== undefined) return Promise.resolve(cached);
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    const forget = () => void this.#asked.delete(key);
    const answer = ask()
      .finally(forget)
      .then(({ answer, ttlMs }) => {
        if (ttlMs > 0) this.#cache?.set(key, answer, { ttl: ttlMs });
        return answer;
      });
    this.#asked.set(key, answer);
    return answer;
  }

  async #askMx(name: string): Promise<{ answer: Cached; ttlMs: number }> {
    try {
      const found = await this.#queries.resolveMx(name);
      const records = found.map(({ priority, exchange }) => ({
        preference: priority,
        exchange: exchange.toLowerCase().replace(/\.$/, ''),
      }));
      return this.#found(records, this.#rules.mx_ttl_ms);
    } catch (error) {
      return this.#notFound(error);
    }
  }

  async #askTxt(name: string): Promise<{ answer: Cached; ttlMs: number }> {
    try {
      const found = await this.#queries.resolveTxt(name);
      return this.#found(
        found.map((parts) => parts.join('')),
        this.#rules.mx_ttl_ms,
      );
    } catch (error) {
      return this.#notFound(error);
    }
  }

  async #askAddresses(name: string, family: 4 | 6): Promise<{ answer: Cached; ttlMs: number }> {
    try {
      const found =
        family === 4
          ? await this.#queries.resolve4(name, { ttl: true })
          : await this.#queries.resolve6(name, { ttl: true });
      const ttlMs = Math.min(...found.map(({ ttl }) => ttl)) * 1000;
      return this.#found(
        found.map(({ address }) => address),
        ttlMs,
      );
    } catch (error) {
      return this.#notFound(error);
    }
  }

  #found(records: MxRecord[] | string[], ttlMs: number): { answer: Cached; ttlMs: number } {
    if (records.length === 0) return { answer: { kind: 'no-record' }, ttlMs: this.#rules.negative_ttl_ms };
    const answer = { kind: 'found', records } as Cached;
    return { answer, ttlMs: Math.min(ttlMs, this.#rules.cache_max_ttl_ms) };
  }

  #notFound(error: unknown): { answer: Cached; ttlMs: number } {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    const ttlMs = Math.min(this.#rules.negative_ttl_ms, this.#rules.cache_max_ttl_ms);
    if (NO_NAME.has(code)) return { answer: { kind: 'no-name' }, ttlMs };
    if (code === 'ENODATA') return { answer: { kind: 'no-record' }, ttlMs };
    return { answer: { kind: 'temporary', detail: code }, ttlMs: 0 };
  }
}
