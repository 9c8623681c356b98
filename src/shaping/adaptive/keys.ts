/** What a learned limit is kept for: a value of a scope, at one site. */

/** What of our mail is slowed. Where the value that a reply is about is not known, the source answers for it (scopes.ts). */
export const LIMIT_SCOPES = [
  'source',
  'netblock',
  'dkim_domain',
  'return_path_domain',
  'tenant',
  'campaign',
] as const;

export type LimitScope = (typeof LIMIT_SCOPES)[number];

export interface LimitKey {
  scope: LimitScope;
  /** Of the source: its name, '' for the default one. */
  value: string;
  /** A provider, or else a site or destination. */
  site: string;
}

/** As one text; no part can hold the character between them. */
export const keyText = ({ scope, value, site }: LimitKey): string => `${scope}\t${value}\t${site}`;

export function keyOf(text: string): LimitKey | null {
  const [scope, value, site, more] = text.split('\t');
  if (value === undefined || site === undefined || more !== undefined) return null;
  return LIMIT_SCOPES.includes(scope as LimitScope) ? { scope: scope as LimitScope, value, site } : null;
}
