/** DNS questions in the form of node:dns: they return an answer, or throw an error with a code of c-ares. */
import type { Config } from '../config/schema.ts';
import { answerOf } from './answer.ts';
import { Resolvers } from './resolvers.ts';
import type { DnsRecord, DnsType } from './wire.ts';

const CODES = { 'no-name': 'ENOTFOUND', 'no-record': 'ENODATA' } as const;

export class Queries {
  readonly #resolvers: Resolvers;

  constructor(rules: Config['dns']) {
    this.#resolvers = new Resolvers(rules);
  }

  async resolveMx(name: string): Promise<{ priority: number; exchange: string }[]> {
    const records = await this.#ask(name, 'MX');
    return records.flatMap((one) =>
      one.type === 'MX' ? [{ priority: one.preference, exchange: one.value }] : [],
    );
  }

  /** The strings of a record are joined. */
  async resolveTxt(name: string): Promise<string[][]> {
    return (await this.#ask(name, 'TXT')).flatMap((one) => (one.type === 'TXT' ? [[one.value]] : []));
  }

  async resolvePtr(name: string): Promise<string[]> {
    return (await this.#ask(name, 'PTR')).flatMap((one) => (one.type === 'PTR' ? [one.value] : []));
  }

  resolve4(name: string): Promise<{ address: string; ttl: number }[]> {
    return this.#addresses(name, 'A');
  }

  resolve6(name: string): Promise<{ address: string; ttl: number }[]> {
    return this.#addresses(name, 'AAAA');
  }

  async #addresses(name: string, type: 'A' | 'AAAA'): Promise<{ address: string; ttl: number }[]> {
    const records = await this.#ask(name, type);
    // An answer is valid no longer than the alias that leads to it.
    const ttl = Math.min(...records.map((one) => one.ttl));
    return records.flatMap((one) => (one.type === type ? [{ address: one.value, ttl }] : []));
  }

  async #ask(name: string, type: DnsType): Promise<DnsRecord[]> {
    const { kind, detail, records } = answerOf(await this.#resolvers.ask(name, type), type);
    if (kind === 'found') return records;
    const code = kind === 'temporary' ? detail : CODES[kind];
    throw Object.assign(new Error(`${type} ${name}: ${code}`), { code });
  }
}
