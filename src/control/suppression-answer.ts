/** An entry of the suppression list as operators read it. */
import type { Suppression } from '../mail/suppression.ts';

export interface SuppressionAnswer {
  /** An address, or a domain. */
  address: string;
  /** '': for all mail. */
  tenant: string;
  /** Of which mail it speaks: all, a class, or list:NAME. */
  scope: string;
  reason: string;
  source: string;
  detail: string;
  created_at: string;
  /** null: until it is removed. */
  ends_at: string | null;
}

export const suppressionAnswer = (entry: Suppression): SuppressionAnswer => ({
  address: entry.target,
  tenant: entry.tenant,
  scope: entry.scope,
  reason: entry.reason,
  source: entry.source,
  detail: entry.detail,
  created_at: new Date(entry.createdAtMs).toISOString(),
  ends_at: entry.expiresAtMs === null ? null : new Date(entry.expiresAtMs).toISOString(),
});
