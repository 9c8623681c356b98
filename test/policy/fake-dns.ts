/** DNS of a test as a table; a name that is not there does not exist, one that is null never answers, 'fail' fails. */
import type { PolicyQueries } from '../../src/policy/dns.ts';

export type FakeNames = Record<string, string[] | null | 'fail'>;

/** Keys are `TYPE name`. `asked` gets every question. */
export function fakeDns(names: FakeNames, asked: string[] = []): PolicyQueries {
  const answer = async (key: string): Promise<string[]> => {
    asked.push(key);
    const found = names[key];
    if (found === null) return new Promise(() => {});
    if (found === undefined) throw Object.assign(new Error(key), { code: 'ENOTFOUND' });
    if (found === 'fail') throw Object.assign(new Error(key), { code: 'ESERVFAIL' });
    return found;
  };
  const addresses = async (key: string) => (await answer(key)).map((address) => ({ address, ttl: 60 }));
  return {
    resolve4: (name) => addresses(`A ${name}`),
    resolve6: (name) => addresses(`AAAA ${name}`),
    resolveMx: async (name) => (await answer(`MX ${name}`)).map((exchange) => ({ exchange })),
    resolvePtr: (name) => answer(`PTR ${name}`),
  };
}
