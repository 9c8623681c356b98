/** How much of what failed is kept: the newest, as far as `queue.keep_failed_messages` and `keep_failed_mb` go. */

/** Looked at in one go; takes a few milliseconds. */
export const KEPT_FAILED_ROWS = 2000;

export interface FailedLimits {
  messages: number;
  bytes: number;
}

/** A failed message by its place in the order in which they failed. */
export interface FailedMark {
  settledAtMs: number;
  queueId: string;
}

/** Later than all. */
export const NEWEST: FailedMark = { settledAtMs: Number.MAX_SAFE_INTEGER, queueId: '~' };

/** The later of the two. */
export function later(one: FailedMark, other: FailedMark | null): FailedMark {
  if (other === null || one.settledAtMs > other.settledAtMs) return one;
  return one.settledAtMs === other.settledAtMs && one.queueId > other.queueId ? one : other;
}

export interface FailedSlice {
  /** Room for older ones. */
  left: FailedLimits;
  /** The newest that has no room: it goes, with all that are older. */
  cut: FailedMark | null;
  /** Ask again from here; null when done. */
  next: FailedMark | null;
}

/** One part of the walk. @param rows failed messages from the newest on, at most KEPT_FAILED_ROWS. */
export function failedSlice(
  rows: readonly { id: string; settledAtMs: number; sizeBytes: number }[],
  { messages, bytes }: FailedLimits,
): FailedSlice {
  const left = { messages, bytes };
  for (const { id, settledAtMs, sizeBytes } of rows) {
    left.messages--;
    left.bytes -= sizeBytes;
    const mark = { settledAtMs, queueId: id };
    if (left.messages < 0 || left.bytes < 0) return { left, cut: mark, next: null };
    if (rows.length === KEPT_FAILED_ROWS && id === rows.at(-1)?.id) return { left, cut: null, next: mark };
  }
  return { left, cut: null, next: null };
}

/** What each of so many parts of a queue keeps. */
export const shareOf = ({ messages, bytes }: FailedLimits, parts: number): FailedLimits => ({
  messages: Math.ceil(messages / parts),
  bytes: Math.ceil(bytes / parts),
});
