/** Loads the contents of rows just leased, several at a time: a remote provider answers each after a round trip. */
import { RelayError } from '../../base/errors.ts';
import type { Job } from '../../mail/job.ts';
import { type Arena, NO_CONTENT } from '../../native.ts';
import type { Storage } from '../../storage/storage.ts';
import type { LeasedRow } from './claim.ts';
import { contentRef } from './sql.ts';

const LOADS_AT_ONCE = 8;
/** A claim leaves 1/n of the memory for content free. */
export const RESERVE_SHARE = 8;

export interface Unread {
  row: LeasedRow;
  detail: string;
  /** Whether a later try may find the content. */
  temporary: boolean;
}

export interface Loaded {
  jobs: Job[];
  /** Rows for which there is no room now. */
  unloaded: LeasedRow[];
  unread: Unread[];
  short: boolean;
  /** The error that stopped the loading, unless it concerns a single content only. */
  failure: unknown;
}

export async function loadContents(
  rows: readonly LeasedRow[],
  storage: Pick<Storage, 'load'>,
  arena: Pick<Arena, 'freeBytes' | 'totalBytes'>,
): Promise<Loaded> {
  const loaded: Loaded = { jobs: [], unloaded: [], unread: [], short: false, failure: null };
  const reserve = arena.totalBytes / RESERVE_SHARE;
  let at = 0;
  const work = async (): Promise<void> => {
    for (let i = at++; i < rows.length; i = at++) {
      const row = rows[i] as LeasedRow;
      // The rest of the memory is for new mail; but one message is always loaded.
      if (i > 0 && arena.freeBytes() < reserve) loaded.short = true;
      if (loaded.short || loaded.failure !== null) {
        loaded.unloaded.push(row);
        continue;
      }
      try {
        row.job.content = await storage.load(contentRef(row.mail));
        if (row.job.content !== NO_CONTENT) continue;
        loaded.short = true;
        loaded.unloaded.push(row);
      } catch (error) {
        note(loaded, row, error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(LOADS_AT_ONCE, rows.length) }, work));
  const lost = new Set([...loaded.unloaded, ...loaded.unread.map(({ row }) => row)]);
  for (const row of rows) if (!lost.has(row)) loaded.jobs.push(row.job);
  // The storage as a whole may be in trouble: a pause before more rows are put off.
  if (loaded.jobs.length === 0 && loaded.unread.length > 0) loaded.short = true;
  return loaded;
}

/** Notes a content that cannot be read, and goes on: it must not keep everything queued behind it. */
function note(loaded: Loaded, row: LeasedRow, error: unknown): void {
  if (error instanceof RelayError && (!error.temporary || error.code === 'storage_unavailable'))
    loaded.unread.push({ row, detail: error.message, temporary: error.temporary });
  else {
    loaded.failure = error;
    loaded.unloaded.push(row);
  }
}
