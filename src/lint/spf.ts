/**
 * What SPF (RFC 7208) says of mail from an address: check_host() of §4, with its limits. Records are strangers' too (include):
 * every look-up counts, so that no record makes this long.
 */
import { type Ip, isV4, NetworkSet, parseIp } from '../base/ip.ts';
import { type LookUp, reversed } from './look-up.ts';

export type SpfResult = 'pass' | 'fail' | 'softfail' | 'neutral' | 'none' | 'permerror';

export interface SpfVerdict {
  result: SpfResult;
  /** Terms that asked DNS; receivers refuse to go beyond MAX_LOOKUPS. */
  lookups: number;
  /** Why it is a permerror; ''. */
  fault: string;
  /** Whether a term `ptr` stands in what was read: §5.5 says not to use it. */
  usesPtr: boolean;
}

/** §4.6.4. */
export const MAX_LOOKUPS = 10;
const MAX_VOID = 2;
const MAX_EXCHANGERS = 10;

const QUALIFIERS: Record<string, SpfResult> = {
  '+': 'pass',
  '-': 'fail',
  '~': 'softfail',
  '?': 'neutral',
};

/** A permanent error in the record. */
class SpfFault extends Error {}

interface Term {
  qualifier: SpfResult;
  name: string;
  value: string;
}

/** @throws Error when DNS does not answer. @param ip null: only reads what there is, and nothing matches. */
export async function checkSpf(dns: LookUp, domain: string, ip: Ip | null): Promise<SpfVerdict> {
  const walk = new Walk(dns, domain, ip);
  try {
    const result = await walk.checkHost(domain);
    return { result, ...walk.seen(''), lookups: walk.lookups };
  } catch (error) {
    if (!(error instanceof SpfFault)) throw error;
    return { result: 'permerror', ...walk.seen(error.message), lookups: walk.lookups };
  }
}

class Walk {
  lookups = 0;
  #voids = 0;
  #usesPtr = false;
  readonly #dns: LookUp;
  readonly #sender: string;
  readonly #ip: Ip | null;

  constructor(dns: LookUp, sender: string, ip: Ip | null) {
    this.#dns = dns;
    this.#sender = sender;
    this.#ip = ip;
  }

  seen(fault: string): Pick<SpfVerdict, 'fault' | 'usesPtr'> {
    return { fault, usesPtr: this.#usesPtr };
  }

  async checkHost(domain: string): Promise<SpfResult> {
    const records = (await this.#dns.txt(domain)).filter((text) => /^v=spf1(?: |$)/i.test(text));
    if (records.length === 0) return 'none';
    if (records.length > 1) throw new SpfFault(`${domain} has ${records.length} SPF records`);
    const { terms, redirect } = termsOf(records[0] as string, domain);
    for (const term of terms) if (await this.#matches(term, domain)) return term.qualifier;
    if (redirect === null) return 'neutral';
    this.#count();
    const to = this.#expanded(redirect, domain);
    const result = await this.checkHost(to);
    if (result === 'none') throw new SpfFault(`redirect=${to} of ${domain} has no SPF record`);
    return result;
  }

  async #matches({ name, value }: Term, domain: string): Promise<boolean> {
    switch (name) {
      case 'all':
        // To read what there is, whatever stands before.
        return this.#ip !== null;
      case 'ip4':
      case 'ip6':
        return this.#isIn(networkOf(name, value, domain));
      case 'include':
        return this.#includes(this.#expanded(value, domain), domain);
      case 'a':
      case 'mx':
        return this.#isOneOf(name, value, domain);
      case 'exists':
        this.#count();
        return this.#answered(await this.#dns.addresses(this.#expanded(value, domain), 4)).length > 0;
      case 'ptr':
        this.#usesPtr = true;
        this.#count();
        return this.#isNamed(value === '' ? domain : this.#expanded(value, domain));
      default:
        throw new SpfFault(`${domain} has a term "${name}" that there is not`);
    }
  }

  async #includes(to: string, domain: string): Promise<boolean> {
    this.#count();
    const result = await this.checkHost(to);
    if (result === 'none') throw new SpfFault(`include:${to} of ${domain} has no SPF record`);
    return result === 'pass' && this.#ip !== null;
  }

  async #isOneOf(name: 'a' | 'mx', value: string, domain: string): Promise<boolean> {
    const [, host = '', four = '', six = ''] = /^(.*?)(?:\/(\d+))?(?:\/\/(\d+))?$/.exec(value) ?? [];
    const target = host === '' ? domain : this.#expanded(host, domain);
    this.#count();
    const hosts = name === 'a' ? [target] : this.#answered(await this.#dns.mx(target));
    if (hosts.length > MAX_EXCHANGERS)
      throw new SpfFault(`mx of ${domain}: ${target} has more than ${MAX_EXCHANGERS} exchangers`);
    const ip = this.#ip;
    if (ip === null) return false;
    const family = isV4(ip) ? 4 : 6;
    const length = family === 4 ? four : six;
    for (const one of hosts) {
      const addresses = await this.#dns.addresses(one, family);
      if (name === 'a') this.#answered(addresses);
      if (addresses.some((address) => this.#isIn(length === '' ? address : `${address}/${length}`)))
        return true;
    }
    return false;
  }

  async #isNamed(domain: string): Promise<boolean> {
    const ip = this.#ip;
    if (ip === null) return false;
    const names = (await this.#dns.ptr(ip)).slice(0, MAX_EXCHANGERS);
    for (const name of names.map((one) => one.toLowerCase().replace(/\.$/, ''))) {
      if (name !== domain && !name.endsWith(`.${domain}`)) continue;
      if ((await this.#dns.addresses(name, isV4(ip) ? 4 : 6)).some((address) => this.#isIn(address)))
        return true;
    }
    return false;
  }

  #isIn(network: string): boolean {
    const first = parseIp(network.split('/', 1)[0] as string);
    if (this.#ip === null || first === null || isV4(first) !== isV4(this.#ip)) return false;
    return new NetworkSet([network]).has(this.#ip);
  }

  #count(): void {
    if (++this.lookups > MAX_LOOKUPS)
      throw new SpfFault(`it takes more than ${MAX_LOOKUPS} look-ups, at which receivers stop reading`);
  }

  #answered(answer: readonly string[]): readonly string[] {
    if (answer.length === 0 && ++this.#voids > MAX_VOID)
      throw new SpfFault(`more than ${MAX_VOID} of its look-ups find nothing`);
    return answer;
  }

  /** §7: macros of a domain. */
  #expanded(spec: string, domain: string): string {
    const values: Record<string, string> = {
      s: `postmaster@${this.#sender}`,
      l: 'postmaster',
      o: this.#sender,
      d: domain,
      h: this.#sender,
      p: 'unknown',
      i: this.#ip === null ? '0.0.0.0' : reversed(this.#ip).split('.').reverse().join('.'),
      v: this.#ip === null || isV4(this.#ip) ? 'in-addr' : 'ip6',
    };
    const text = spec.replaceAll(
      /%(?:\{([slodhpiv])(\d{0,3})(r?)([.\-+,/_=]*)\}|([%_-])|)/gi,
      (_, letter?: string, digits = '', reverse = '', delimiters = '', plain?: string) => {
        if (plain !== undefined) return plain === '%' ? '%' : plain === '_' ? ' ' : '%20';
        if (letter === undefined) throw new SpfFault(`${domain} has a macro that cannot be read: ${spec}`);
        const set = delimiters === '' ? '.' : delimiters;
        let parts = partsOf(values[letter.toLowerCase()] as string, set);
        if (reverse !== '') parts = parts.reverse();
        return parts.slice(digits === '' ? 0 : -Math.max(1, Number(digits))).join('.');
      },
    );
    if (text === '' || text.length > 253) throw new SpfFault(`${domain} names no domain: ${spec}`);
    return text.toLowerCase().replace(/\.$/, '');
  }
}

const partsOf = (text: string, delimiters: string): string[] => {
  const parts = [''];
  for (const char of text)
    if (delimiters.includes(char)) parts.push('');
    else parts.push(`${parts.pop()}${char}`);
  return parts;
};

function networkOf(name: 'ip4' | 'ip6', value: string, domain: string): string {
  const ip = parseIp(value.split('/', 1)[0] as string);
  const isFour = ip !== null && isV4(ip) && !value.includes(':');
  if (ip === null || isFour !== (name === 'ip4') || !/^[^/]+(?:\/\d{1,3})?$/.test(value))
    throw new SpfFault(`${domain} has "${name}:${value}", which is no network`);
  return value;
}

function termsOf(record: string, domain: string): { terms: Term[]; redirect: string | null } {
  const terms: Term[] = [];
  let redirect: string | null = null;
  for (const word of record.split(/ +/).slice(1)) {
    if (word === '') continue;
    const [, modifier, given] = /^([a-z][a-z0-9_.-]*)=(.*)$/i.exec(word) ?? [];
    if (modifier !== undefined) {
      if (modifier.toLowerCase() === 'redirect') redirect = given as string;
      continue;
    }
    const [, qualifier = '', name, colon, rest] = /^([+?~-]?)([a-z0-9]+)(:?)(.*)$/is.exec(word) ?? [];
    if (name === undefined || (colon === '' && rest !== '' && !rest?.startsWith('/')))
      throw new SpfFault(`${domain} has a term that cannot be read: "${word.slice(0, 60)}"`);
    const needs = ['include', 'exists', 'ip4', 'ip6'].includes(name.toLowerCase());
    if (needs && (rest ?? '') === '') throw new SpfFault(`${domain} has "${name}" without a value`);
    terms.push({
      qualifier: QUALIFIERS[qualifier === '' ? '+' : qualifier] as SpfResult,
      name: name.toLowerCase(),
      value: rest ?? '',
    });
  }
  // What stands behind `all` is never read (§5.1), nor is redirect beside it (§6.1).
  const end = terms.findIndex(({ name }) => name === 'all');
  return end < 0 ? { terms, redirect } : { terms: terms.slice(0, end + 1), redirect: null };
}

/** Whether the record lets everybody send: `+all`. */
export function letsAll(records: readonly string[]): boolean {
  return records.some((record) => /^v=spf1 (?:.* )?\+?all(?: |$)/i.test(record));
}
