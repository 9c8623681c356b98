/**
 * MTA-STS (RFC 8461): a domain's word, over HTTPS, on which exchangers it has and that they speak verified TLS. Found
 * by a TXT record, fetched, kept for as long as it says; a record that vanishes or a fetch that fails leaves the policy
 * that is kept. Never rejects: without a policy mail goes as the config says.
 */
import { get } from 'node:https';
import { isIP } from 'node:net';
import { LRUCache } from 'lru-cache';
import type { Dns, DnsAnswer } from './dns.ts';

export interface StsPolicy {
  mode: 'enforce' | 'testing' | 'none';
  /** Names of exchangers in lower case; `*.example.com` stands for one label. */
  mx: string[];
  maxAgeMs: number;
}

interface Kept {
  id: string;
  policy: StsPolicy | null;
  untilMs: number;
}

export interface MtaStsOptions {
  dns: Pick<Dns, 'txt'>;
  /** Text of the policy of a domain; rejects when there is none to be had. */
  fetch(domain: string): Promise<string>;
  maxDomains: number;
  now(): number;
}

/** RFC 8461 §3.2: at most about a year. */
const MAX_AGE_S = 31_557_600;
/** A fetch that failed is not repeated sooner (§3.3). */
const FAILED_MS = 300_000;
const MAX_POLICY_BYTES = 65_536;

export class MtaSts {
  readonly #options: MtaStsOptions;
  readonly #kept: LRUCache<string, Kept>;
  readonly #asked = new Map<string, Promise<StsPolicy | null>>();

  constructor(options: MtaStsOptions) {
    this.#options = options;
    this.#kept = new LRUCache({ max: options.maxDomains });
  }

  /** @param domain A-labels in lower case. */
  policy(domain: string): Promise<StsPolicy | null> {
    const asked = this.#asked.get(domain);
    if (asked !== undefined) return asked;
    const answer = this.#ask(domain).finally(() => this.#asked.delete(domain));
    this.#asked.set(domain, answer);
    return answer;
  }

  async #ask(domain: string): Promise<StsPolicy | null> {
    const id = idOf(await this.#options.dns.txt(`_mta-sts.${domain}`));
    const found = this.#kept.get(domain);
    const kept = found !== undefined && found.untilMs > this.#options.now() ? found : undefined;
    if (id === null || kept?.id === id) return kept?.policy ?? null;
    const policy = parsePolicy(await this.#options.fetch(domain).catch(() => ''));
    const nowMs = this.#options.now();
    if (policy !== null) {
      this.#kept.set(domain, { id, policy, untilMs: nowMs + policy.maxAgeMs });
      return policy;
    }
    // What is kept still holds; a domain that has none is left alone for a while.
    if (kept === undefined) this.#kept.set(domain, { id, policy: null, untilMs: nowMs + FAILED_MS });
    return kept?.policy ?? null;
  }
}

/** The id of the one record that is of STS (RFC 8461 §3.1); null when there is none, or more than one. */
function idOf(answer: DnsAnswer<string>): string | null {
  if (answer.kind !== 'found') return null;
  const records = answer.records.filter((record) => /^v=STSv1\s*(?:;|$)/.test(record));
  if (records.length !== 1) return null;
  return /;\s*id\s*=\s*([A-Za-z0-9]{1,32})\s*(?:;|$)/.exec(records[0] as string)?.[1] ?? null;
}

/** RFC 8461 §3.2; null when it is none. */
export function parsePolicy(text: string): StsPolicy | null {
  const fields = new Map<string, string>();
  const mx: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [, name, value = ''] = /^([A-Za-z0-9_.-]{1,32})[ \t]*:[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined) continue;
    // Of a field that stands twice the first counts; mx is the one that may.
    if (name === 'mx') mx.push(value.toLowerCase());
    else if (!fields.has(name)) fields.set(name, value);
  }
  const mode = fields.get('mode');
  const age = fields.get('max_age') ?? '';
  if (fields.get('version') !== 'STSv1' || !/^\d{1,10}$/.test(age)) return null;
  if (mode !== 'enforce' && mode !== 'testing' && mode !== 'none') return null;
  if (mode !== 'none' && mx.length === 0) return null;
  return { mode, mx, maxAgeMs: Math.min(Number(age), MAX_AGE_S) * 1000 };
}

/** Whether an exchanger is among those of the policy (RFC 8461 §4.1). */
export function allowsExchanger({ mx }: StsPolicy, exchanger: string): boolean {
  const name = exchanger.toLowerCase();
  return mx.some(
    (pattern) => pattern === name || (pattern.startsWith('*.') && pattern === name.replace(/^[^.]+/, '*')),
  );
}

export interface StsFetchOptions {
  timeoutMs: number;
  dns: Pick<Dns, 'addresses'>;
  /** Trusted issuers, PEM; absent: Node's. */
  ca?: string | undefined;
  /** For tests. */
  port?: number;
}

/** Fetches policies as RFC 8461 §3.3 wants: verified, no redirect, text/plain, bounded in size and time. */
export function stsFetcher({ timeoutMs, dns, ca, port = 443 }: StsFetchOptions): MtaStsOptions['fetch'] {
  return async (domain) => {
    const host = `mta-sts.${domain}`;
    const address = await addressOf(host, dns);
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(timeoutMs);
      const trust = ca === undefined ? {} : { ca };
      const headers = { host };
      const at = { host: address, port, servername: host, path: '/.well-known/mta-sts.txt' };
      const request = get({ ...at, ...trust, headers, signal, agent: false }, (response) => {
        const type = response.headers['content-type'] ?? '';
        if (response.statusCode !== 200 || !/^text\/plain\b/i.test(type)) {
          request.destroy(new Error(`answered ${response.statusCode} ${type}`));
          return;
        }
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
          if (text.length > MAX_POLICY_BYTES) request.destroy(new Error('a policy longer than 64 KiB'));
        });
        response.on('end', () => resolve(text));
        response.on('error', reject);
      });
      request.on('error', reject);
    });
  };
}

async function addressOf(host: string, dns: StsFetchOptions['dns']): Promise<string> {
  for (const family of [4, 6] as const) {
    const answer = await dns.addresses(host, family);
    const address = answer.kind === 'found' ? answer.records[0] : undefined;
    if (address !== undefined && isIP(address) !== 0) return address;
  }
  throw new Error(`${host} has no address`);
}
