/** The policy of MTA-STS as text (RFC 8461 §3.2), and what it allows. Pure. */

import type { TlsPolicyFacts } from '../../mail/tls-session.ts';

export interface StsPolicy {
  mode: 'enforce' | 'testing' | 'none';
  /** Names of exchangers in lower case; the `*` of `*.example.com` stands for one label. */
  mx: string[];
  maxAgeMs: number;
}

/** RFC 8461 §3.2: at most about a year. */
const MAX_AGE_S = 31_557_600;

/** Reads the text of a policy (RFC 8461 §3.2); null when it is none. */
export function parsePolicy(text: string): StsPolicy | null {
  const fields = new Map<string, string>();
  const mx: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [head, name] = /^([A-Za-z0-9_.-]{1,32})[ \t]*:/.exec(line) ?? [];
    if (head === undefined || name === undefined) continue;
    const value = line.slice(head.length).trim();
    // Only mx may occur more than once; of other fields the first counts.
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

/** The facts under which sessions are counted that fall under the policy; null: there is no policy. */
export function stsFacts(domain: string, sts: StsPolicy | null): TlsPolicyFacts {
  if (sts === null) return { domain, type: 'no-policy-found', strings: [], mx: [] };
  const { mode, mx, maxAgeMs } = sts;
  const names = mx.map((name) => `mx: ${name}`);
  const strings = ['version: STSv1', `mode: ${mode}`, ...names, `max_age: ${maxAgeMs / 1000}`];
  return { domain, type: 'sts', strings, mx };
}
