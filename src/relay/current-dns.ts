/** DNS for work of the main thread: by the rules of the last reload, with its cache as long as they stay the same. */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/schema.ts';
import { Dns } from '../delivery/names/dns.ts';

/** @param current the config as of the last reload. */
export function currentDns(current: () => Config): Pick<Dns, 'txt' | 'addresses'> {
  let rules = current().dns;
  let dns = new Dns(rules);
  const now = (): Dns => {
    const wanted = current().dns;
    if (wanted !== rules && !isDeepStrictEqual(wanted, rules)) {
      rules = wanted;
      dns = new Dns(rules);
    }
    return dns;
  };
  return {
    txt: (name) => now().txt(name),
    addresses: (name, family) => now().addresses(name, family),
  };
}

/** Asks for TXT records by the same rules, without a cache: for work that wants to know what DNS says now. */
export function presentTxt(current: () => Config): Dns['txt'] {
  return (name) => new Dns({ ...current().dns, cache_max_entries: 0 }).txt(name);
}
