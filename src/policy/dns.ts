/**
 * DNS for the policy, on the thread's own loop, so that no thread ever waits. Answers are kept for their TTL, within
 * bounds; failures are not kept. What is known is answered at once, without a promise. A question that is in flight
 * already is not asked again.
 */
import { type MostRecent, mostRecent } from '../base/most-recent.ts';
import type { Config } from '../config/schema.ts';
import { Queries } from '../dns/queries.ts';

export type Kind = 'A' | 'AAAA' | 'MX' | 'PTR';
/** Addresses, or names in lower case ('' for a null MX); empty when there is no such record or name. */
export type Records = readonly string[];
/** null: DNS failed, or took too long. */
export type Answer = Records | null | Promise<Records | null>;

/** The queries used here; tests may pass their own. Failures are errors with the codes of c-ares. */
export interface PolicyQueries {
  resolve4(name: string, options: { ttl: true }): Promise<{ address: string; ttl: number }[]>;
  resolve6(name: string, options: { ttl: true }): Promise<{ address: string; ttl: number }[]>;
  resolveMx(name: string): Promise<{ exchange: string }[]>;
  resolvePtr(name: string): Promise<string[]>;
}

/** Answers with a smaller TTL are kept so long nevertheless, because one connection asks twice. */
const MIN_TTL_MS = 1000;
/** Questions in flight; one more fails at once: a flood of clients must not become a flood of questions. */
const MAX_IN_FLIGHT = 4096;
const NO_RECORD_CODES: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA', 'EBADNAME']);

export class PolicyDns {
  readonly #rules: Config['dns'];
  /** Made at the first question: most relays never ask one. */
  #queries: PolicyQueries | null;
  #cache: MostRecent<Records> | null = null;
  readonly #asked = new Map<string, Promise<Records | null>>();

  /** @param queries for tests; by default a resolver as the rules say. */
  constructor(rules: Config['dns'], queries: PolicyQueries | null = null) {
    this.#rules = rules;
    this.#queries = queries;
  }

  /** @param timeoutMs how long this asker waits; the question goes on afterwards, and its answer serves the next asker. */
  ask(kind: Kind, name: string, timeoutMs: number): Answer {
    const key = `${kind} ${name}`;
    const known = this.#cache?.get(key);
    if (known !== undefined) return known;
    const asked = this.#asked.get(key) ?? this.#begin(key, kind, name);
    return asked === null ? null : sooner(asked, timeoutMs);
  }

  #begin(key: string, kind: Kind, name: string): Promise<Records | null> | null {
    if (this.#asked.size >= MAX_IN_FLIGHT) return null;
    const forget = () => void this.#asked.delete(key);
    const answer = this.#query(kind, name)
      .finally(forget)
      .then((found) => {
        if (found === null) return null;
        const { cache_max_ttl_ms: most } = this.#rules;
        // Without a cache each answer still serves the session that waited for it.
        this.#cache ??= mostRecent(Math.max(1, this.#rules.cache_max_entries), { ttlResolution: 100 });
        this.#cache.set(key, found.records, { ttl: Math.max(MIN_TTL_MS, Math.min(found.ttlMs, most)) });
        return found.records;
      });
    this.#asked.set(key, answer);
    return answer;
  }

  async #query(kind: Kind, name: string): Promise<{ records: Records; ttlMs: number } | null> {
    this.#queries ??= new Queries(this.#rules);
    const queries = this.#queries;
    try {
      if (kind === 'MX') {
        const found = await queries.resolveMx(name);
        return { records: found.map(({ exchange }) => plain(exchange)), ttlMs: this.#rules.mx_ttl_ms };
      }
      if (kind === 'PTR') {
        const found = await queries.resolvePtr(name);
        return { records: found.map(plain), ttlMs: this.#rules.mx_ttl_ms };
      }
      const found = await queries[kind === 'A' ? 'resolve4' : 'resolve6'](name, { ttl: true });
      const ttlMs = Math.min(...found.map(({ ttl }) => ttl)) * 1000;
      return { records: found.map(({ address }) => address), ttlMs };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      return NO_RECORD_CODES.has(code) ? { records: [], ttlMs: this.#rules.negative_ttl_ms } : null;
    }
  }
}

const plain = (name: string): string => name.toLowerCase().replace(/\.$/, '');

function sooner(answer: Promise<Records | null>, timeoutMs: number): Promise<Records | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), timeoutMs);
    void answer.then((records) => {
      clearTimeout(timer);
      resolve(records);
    });
  });
}
