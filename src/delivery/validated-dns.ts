/**
 * DNS questions that are answered with whether the resolver validated the answer (DNSSEC's AD), which node:dns does not
 * tell. Over UDP from a port of its own each, over TCP when the answer does not fit; cached with TTL, equal questions in
 * flight asked once, never more than so many at a time. Worth as much as the resolver and the way to it: see docs/tls.md.
 */
import { randomInt } from 'node:crypto';
import { getServers } from 'node:dns';
import { LRUCache } from 'lru-cache';
import type { Config } from '../config/schema.ts';
import type { DnsAnswer, MxRecord } from './dns.ts';
import { askOver } from './dns-exchange.ts';
import { DNS_TYPE, type DnsRecord, type DnsReply, type DnsType, decodeReply, encodeQuestion, type TlsaRecord } from './dns-wire.ts'; // biome-ignore format: one import

interface Answer {
  kind: 'found' | 'no-record' | 'no-name' | 'temporary';
  detail: string;
  records: DnsRecord[];
  secure: boolean;
  canonical: string;
}

export interface ValidatedDnsOptions {
  rules: Config['dns'];
  /** Of the system, where the rules name none. */
  systemServers?: () => string[];
}

/** Questions on their way at a time; more wait. */
const MAX_ASKING = 200;
/** More are answered 'temporary' at once. */
const MAX_WAITING = 10_000;
const MAX_ALIASES = 8;

export class ValidatedDns {
  readonly #rules: Config['dns'];
  readonly #servers: { address: string; port: number }[];
  readonly #cache: LRUCache<string, Answer> | null;
  readonly #asked = new Map<string, Promise<Answer>>();
  readonly #waiting: (() => void)[] = [];
  #asking = 0;

  constructor({ rules, systemServers = getServers }: ValidatedDnsOptions) {
    this.#rules = rules;
    this.#servers = (rules.servers.length > 0 ? rules.servers : systemServers()).map(serverOf);
    const max = rules.cache_max_entries;
    this.#cache = max === 0 ? null : new LRUCache({ max, ttlResolution: 1 });
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

  /** The alias that stands at the name itself, wherever it leads. */
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
      if (this.#waiting.length >= MAX_WAITING) return temporary('too many questions at a time');
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
    if (this.#servers.length === 0) return temporary('no resolver (dns.servers)');
    let detail = '';
    for (let i = 0; i < this.#rules.tries; i++) {
      const server = this.#servers[i % this.#servers.length] as { address: string; port: number };
      const id = randomInt(65_536);
      const question = encodeQuestion(id, name, type);
      if (question === null) return { ...temporary(''), kind: 'no-name' };
      const isAnswer = (bytes: Uint8Array): DnsReply | null => {
        const reply = decodeReply(bytes);
        const ours = reply?.id === id && reply.question.name === name.toLowerCase().replace(/\.$/, '');
        return ours && reply.question.type === DNS_TYPE[type] ? reply : null;
      };
      const { timeout_ms: timeoutMs } = this.#rules;
      const reply = await askOver('udp', { server, question, isAnswer, timeoutMs })
        .then((one) => (one.truncated ? askOver('tcp', { server, question, isAnswer, timeoutMs }) : one))
        .catch((error: NodeJS.ErrnoException) => error.code ?? error.message);
      if (typeof reply === 'string') detail = reply;
      else if (reply.code === 0 || reply.code === 3) return read(reply, type);
      else detail = CODES[reply.code] ?? `code ${reply.code}`;
    }
    return temporary(detail);
  }
}

const CODES: Record<number, string> = { 1: 'FORMERR', 2: 'SERVFAIL', 4: 'NOTIMP', 5: 'REFUSED' };

const temporary = (detail: string): Answer => ({
  kind: 'temporary',
  detail,
  records: [],
  secure: false,
  canonical: '',
});

/** Follows the aliases in the reply; what does not belong to the question is no part of the answer. */
function read({ code, authentic, question, answers }: DnsReply, type: DnsType): Answer {
  let canonical = question.name;
  const chain: DnsRecord[] = [];
  for (let i = 0; type !== 'CNAME'; i++) {
    const alias = answers.find((one) => one.type === 'CNAME' && one.name === canonical);
    if (alias?.type !== 'CNAME') break;
    if (i >= MAX_ALIASES) return temporary('too many aliases');
    chain.push(alias);
    canonical = alias.value;
  }
  const records = answers.filter((one) => one.type === type && one.name === canonical);
  const base = { detail: '', secure: authentic, canonical };
  if (records.length > 0) return { ...base, kind: 'found', records: [...chain, ...records] };
  return { ...base, kind: code === 3 ? 'no-name' : 'no-record', records: [] };
}

function under<T>(answer: Answer, pick: (record: DnsRecord) => T | null): DnsAnswer<T> {
  const { kind, detail, secure, canonical } = answer;
  if (kind === 'temporary') return { kind, detail };
  if (kind !== 'found') return { kind };
  const records = answer.records.map(pick).filter((one) => one !== null);
  return { kind, records, secure, canonical };
}

/** '192.0.2.1', '192.0.2.1:53', '2001:db8::1', '[2001:db8::1]:53' */
function serverOf(text: string): { address: string; port: number } {
  const [, six, four, port] =
    /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text) ?? /^(.+)()()$/.exec(text) ?? [];
  return { address: (six || four) ?? text, port: port === undefined || port === '' ? 53 : Number(port) };
}
