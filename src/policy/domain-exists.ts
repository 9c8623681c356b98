/** Whether a domain takes mail, by what DNS says: an MX that is not the null MX, or else an address (RFC 5321 §5.1). */
import type { PolicyDns, Records } from './dns.ts';

export type Existence = 'exists' | 'none' | 'null_mx' | 'unknown';

/** A promise only when DNS has to be asked. Address literals exist. */
export function domainExists(
  dns: PolicyDns,
  domain: string,
  timeoutMs: number,
): Existence | Promise<Existence> {
  if (domain.startsWith('[')) return 'exists';
  const mx = dns.ask('MX', domain, timeoutMs);
  return mx instanceof Promise
    ? mx.then((records) => afterMx(dns, domain, timeoutMs, records))
    : afterMx(dns, domain, timeoutMs, mx);
}

function afterMx(
  dns: PolicyDns,
  domain: string,
  timeoutMs: number,
  mx: Records | null,
): Existence | Promise<Existence> {
  if (mx === null) return 'unknown';
  if (mx.length > 0) return mx.every((exchange) => exchange === '') ? 'null_mx' : 'exists';
  const v4 = dns.ask('A', domain, timeoutMs);
  if (!(v4 instanceof Promise) && v4 !== null && v4.length > 0) return 'exists';
  const v6 = dns.ask('AAAA', domain, timeoutMs);
  if (v4 instanceof Promise || v6 instanceof Promise) return Promise.all([v4, v6]).then(byAddresses);
  return byAddresses([v4, v6]);
}

function byAddresses(answers: (Records | null)[]): Existence {
  if (answers.some((records) => records !== null && records.length > 0)) return 'exists';
  return answers.includes(null) ? 'unknown' : 'none';
}
