/** The order of mail exchangers, without loops to ourselves (RFC 5321 §5.1). Pure. */
import type { MxRecord } from './dns.ts';

/** Whether the domain takes no mail: its only record has an empty exchange (RFC 7505). */
export function isNullMx(records: readonly MxRecord[]): boolean {
  return records.length > 0 && records.every(({ exchange }) => exchange === '');
}

/** Orders records by preference, equal ones at random. Drops empty exchanges beside real ones. */
export function orderMx(records: readonly MxRecord[], random: () => number): MxRecord[] {
  return records
    .filter(({ exchange }) => exchange !== '')
    .map((record) => ({ record, draw: random() }))
    .sort((a, b) => a.record.preference - b.record.preference || a.draw - b.draw)
    .map(({ record }) => record);
}

/**
 * Drops ourselves and every exchanger that is not better than ourselves: one of equal or worse preference would send
 * the mail back.
 */
export function cutAtOurselves<T extends { preference: number }>(
  records: readonly T[],
  isOurselves: (record: T) => boolean,
): T[] {
  let own = Number.POSITIVE_INFINITY;
  for (const record of records) if (isOurselves(record)) own = Math.min(own, record.preference);
  return records.filter(({ preference }) => preference < own);
}
