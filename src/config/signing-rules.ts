/** What the schema cannot say of DKIM. Pure. */
import { isDomainForm } from '../base/domain.ts';
import { nearest } from '../base/nearest.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

/** RFC 6376 §5.4: hosts on the way change them. */
const NEVER_SIGNED = ['return-path', 'received', 'dkim-signature'];
/** A message may lie this long in a queue before its signature is verified. */
const SHORT_S = 86_400;

export function checkSigning({ dkim }: Config, problem: Say, warning: Say): void {
  const { keys, also_sign, sign_headers, oversign_headers, expire_s } = dkim;
  const seen = new Map<string, number>();
  for (const [i, { domain, selector }] of keys.entries()) {
    const at = ['dkim', 'keys', i];
    if (!isDomainForm(domain)) problem([...at, 'domain'], `"${domain}" is no domain`);
    const name = `${selector}._domainkey.${domain}`;
    const first = seen.get(name);
    if (first !== undefined)
      problem(
        [...at, 'selector'],
        `${name} is dkim.keys[${first}] already: each key has a selector of its own`,
      );
    seen.set(name, i);
  }
  const domains = [...new Set(keys.map(({ domain }) => domain))];
  for (const domain of also_sign)
    if (!domains.includes(domain)) {
      const near = nearest(domain, domains);
      const mend = near === null ? undefined : `did you mean "${near}"?`;
      problem(['dkim', 'also_sign'], `"${domain}" has no key in dkim.keys`, mend);
    }
  const signed = sign_headers.map((name) => name.toLowerCase());
  for (const [i, name] of signed.entries()) {
    if (NEVER_SIGNED.includes(name))
      problem(['dkim', 'sign_headers', i], `${name} changes on the way: it cannot be signed`);
    if (signed.indexOf(name) < i) problem(['dkim', 'sign_headers', i], `${name} stands there twice`);
  }
  if (!signed.includes('from')) problem(['dkim', 'sign_headers'], 'needs "From" (RFC 6376 §5.4)');
  for (const [i, name] of oversign_headers.entries())
    if (!signed.includes(name.toLowerCase())) {
      const near = nearest(name, sign_headers);
      const mend = near === null ? 'add it there' : `did you mean "${near}"?`;
      problem(['dkim', 'oversign_headers', i], `${name} is not in dkim.sign_headers`, mend);
    }
  if (expire_s > 0 && expire_s < SHORT_S)
    warning(
      ['dkim', 'expire_s'],
      'mail that lies with a receiver for longer fails: a day is the least that is safe',
    );
}
