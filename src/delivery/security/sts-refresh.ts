/**
 * Fetches the MTA-STS policies that a host keeps again, long before they end (RFC 8461 §3.3, §10.2), so that an
 * attacker gains nothing who can block fetches for a while. There is one of this for a host. A policy that cannot be
 * fetched holds for as long as it said.
 */
import type { Aside } from '../../base/aside.ts';
import type { Config } from '../../config/schema.ts';
import type { Dns } from '../names/dns.ts';
import { FAILED_MS, fetchStored, idOf, type StsFailure } from './mta-sts.ts';
import type { FetchPolicy } from './sts-fetch.ts';
import type { StsPolicy } from './sts-policy.ts';
import type { StoredPolicy, StsStore } from './sts-store.ts';

export interface StsRefreshOptions {
  store: Pick<StsStore, 'all' | 'write'>;
  dns: Pick<Dns, 'txt'>;
  fetch: FetchPolicy;
  /** The rules as of the last reload. */
  rules(): Config['delivery']['mta_sts'];
  now(): number;
  /** Steady time; default: `now`. */
  steady?(): number;
  random(): number;
  failed(domain: string, kept: StsPolicy, failure: StsFailure): void;
  aside: Aside;
}

/** How many policies are fetched at the same time. */
const AT_A_TIME = 4;
const LONGEST_PAUSE_MS = 600_000;
/** Most failures remembered; domains beyond that are asked again in the next round. */
const MAX_FAILED = 10_000;

export class StsRefresh {
  readonly #options: StsRefreshOptions;
  readonly #failedUntil = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> | null = null;
  #stopped = false;

  constructor(options: StsRefreshOptions) {
    this.#options = options;
    this.#later();
  }

  #later(): void {
    if (this.#stopped) return;
    const { rules, random } = this.#options;
    // At random, so that not all relays of the world ask in the same minute.
    const pauseMs = Math.min(LONGEST_PAUSE_MS, rules().refresh_interval_ms / 4) * (0.5 + random() / 2);
    this.#timer = setTimeout(() => void this.round().then(() => this.#later()), pauseMs).unref();
  }

  /** Fetches the policies that are due. Never rejects. */
  round(): Promise<void> {
    const { aside } = this.#options;
    this.#round ??= aside
      .later('mta-sts', () => this.#fetchDue())
      .finally(() => {
        this.#round = null;
      });
    return this.#round;
  }

  /** Begins no further fetch. */
  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #fetchDue(): Promise<void> {
    const { store, now, steady = now } = this.#options;
    for (const [domain, untilMs] of this.#failedUntil)
      if (untilMs <= steady()) this.#failedUntil.delete(domain);
    const all = store.all();
    const work = async (): Promise<void> => {
      for (let next = await all.next(); next.done !== true && !this.#stopped; next = await all.next())
        if (this.#isDue(next.value)) await this.#fetch(next.value);
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
  }

  #isDue({ domain, fetchedAtMs, policy }: StoredPolicy): boolean {
    if (this.#failedUntil.has(domain)) return false;
    const afterMs = Math.min(this.#options.rules().refresh_interval_ms, policy.maxAgeMs / 2);
    return fetchedAtMs + afterMs <= this.#options.now();
  }

  async #fetch(stored: StoredPolicy): Promise<void> {
    const { store, dns, now, steady = now, failed } = this.#options;
    const { domain, policy } = stored;
    const id = idOf(await dns.txt(`_mta-sts.${domain}`)) ?? stored.id;
    const found = await fetchStored(this.#options, domain, id);
    if (found.mode === 'fetched') {
      await store.write(found.stored);
      return;
    }
    if (this.#failedUntil.size < MAX_FAILED) this.#failedUntil.set(domain, steady() + FAILED_MS);
    failed(domain, policy, found);
  }
}
