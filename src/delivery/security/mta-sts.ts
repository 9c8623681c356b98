/**
 * MTA-STS (RFC 8461): by HTTPS a domain says which exchangers it has, and that they speak verified TLS. A TXT record
 * announces the policy; it is fetched, and kept for as long as it says, also on disk. When the record vanishes or a
 * fetch fails, the policy that is kept still holds. Never rejects: without a policy mail goes as the config says.
 */
import { type MostRecent, mostRecent } from '../../base/most-recent.ts';
import type { TlsFailure } from '../../mail/tls-session.ts';
import type { Dns, DnsAnswer } from '../names/dns.ts';
import { type FetchPolicy, fetchFailure } from './sts-fetch.ts';
import { parsePolicy, type StsPolicy } from './sts-policy.ts';
import type { StoredPolicy, StsStore } from './sts-store.ts';

/** The domain says that it has a policy, but none can be fetched. */
export interface StsFailure {
  mode: 'failed';
  result: TlsFailure;
  detail: string;
}

export interface MtaStsOptions {
  dns: Pick<Dns, 'txt'>;
  fetch: FetchPolicy;
  /** Absent: policies are kept in memory only. */
  store?: Pick<StsStore, 'read' | 'write'>;
  maxDomains: number;
  /** The time of day, at which policies end. */
  now(): number;
  /** Steady time; default: `now`. */
  steady?(): number;
  /** Called when a fetch fails while there is a policy that still holds. */
  failed?(domain: string, kept: StsPolicy, failure: StsFailure): void;
}

/** Pause after a fetch that failed (RFC 8461 §3.3). */
export const FAILED_MS = 300_000;
/** How often a domain's file is read again: another thread or process may have fetched a newer policy. */
const LOOK_MS = 60_000;

/** What memory holds of one domain. */
interface Known {
  stored: StoredPolicy | null;
  lookAtMs: number;
  failed: { id: string; failure: StsFailure; untilMs: number } | null;
}

export class MtaSts {
  readonly #options: MtaStsOptions;
  readonly #known: MostRecent<Known>;
  readonly #asked = new Map<string, Promise<StsPolicy | StsFailure | null>>();

  constructor(options: MtaStsOptions) {
    this.#options = options;
    this.#known = mostRecent(options.maxDomains);
  }

  /** @param domain A-labels in lower case. */
  policy(domain: string): Promise<StsPolicy | StsFailure | null> {
    const asked = this.#asked.get(domain);
    if (asked !== undefined) return asked;
    const answer = this.#ask(domain).finally(() => this.#asked.delete(domain));
    this.#asked.set(domain, answer);
    return answer;
  }

  async #ask(domain: string): Promise<StsPolicy | StsFailure | null> {
    const { dns, now, failed } = this.#options;
    const [known, record] = await Promise.all([this.#knownOf(domain), dns.txt(`_mta-sts.${domain}`)]);
    const id = idOf(record);
    const kept = known.stored !== null && known.stored.untilMs > now() ? known.stored : null;
    if (id === null || kept?.id === id) return kept?.policy ?? null;
    if (known.failed?.id === id && known.failed.untilMs > this.#steady())
      return kept?.policy ?? known.failed.failure;
    const found = await fetchStored(this.#options, domain, id);
    if (found.mode === 'failed') {
      known.failed = { id, failure: found, untilMs: this.#steady() + FAILED_MS };
      if (kept !== null) failed?.(domain, kept.policy, found);
      return kept?.policy ?? found;
    }
    known.stored = found.stored;
    known.failed = null;
    // Mail need not wait for the disk.
    void this.#options.store?.write(found.stored);
    return found.stored.policy;
  }

  #steady(): number {
    return this.#options.steady?.() ?? this.#options.now();
  }

  /** What memory or disk holds of the domain, whichever is newer. */
  async #knownOf(domain: string): Promise<Known> {
    const nowMs = this.#steady();
    let known = this.#known.get(domain);
    if (known !== undefined && known.lookAtMs > nowMs) return known;
    known ??= { stored: null, lookAtMs: 0, failed: null };
    this.#known.set(domain, known);
    const stored = (await this.#options.store?.read(domain)) ?? null;
    if (stored !== null && stored.fetchedAtMs > (known.stored?.fetchedAtMs ?? 0)) known.stored = stored;
    const ageMs = known.stored?.policy.maxAgeMs ?? LOOK_MS;
    known.lookAtMs = nowMs + Math.min(LOOK_MS, ageMs / 4);
    return known;
  }
}

/** Fetches the policy that the record `id` announces, or says in the words of RFC 8460 why there is none. Never rejects. */
export async function fetchStored(
  { fetch, now }: Pick<MtaStsOptions, 'fetch' | 'now'>,
  domain: string,
  id: string,
): Promise<{ mode: 'fetched'; stored: StoredPolicy } | StsFailure> {
  let text: string;
  try {
    text = await fetch(domain);
  } catch (error) {
    const detail = `mta-sts.${domain}: ${(error as Error).message}`;
    return { mode: 'failed', result: fetchFailure(error), detail };
  }
  const policy = parsePolicy(text);
  if (policy === null)
    return {
      mode: 'failed',
      result: 'sts-policy-invalid',
      detail: `mta-sts.${domain}: what it has is no policy`,
    };
  const fetchedAtMs = now();
  return {
    mode: 'fetched',
    stored: { domain, id, policy, text, fetchedAtMs, untilMs: fetchedAtMs + policy.maxAgeMs },
  };
}

/** The id in the domain's STS record (RFC 8461 §3.1); null when there is none, or more than one. */
export function idOf(answer: DnsAnswer<string>): string | null {
  if (answer.kind !== 'found') return null;
  const records = answer.records.filter((record) => /^v=STSv1\s*(?:;|$)/.test(record));
  if (records.length !== 1) return null;
  return /;\s*id\s*=\s*([A-Za-z0-9]{1,32})\s*(?:;|$)/.exec(records[0] as string)?.[1] ?? null;
}
