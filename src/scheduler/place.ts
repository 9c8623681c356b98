/** What the embedded scheduler keeps of a destination. */
import type { Scheduler } from './scheduler.ts';

/** How many suspended destinations are named to operators. */
const MOST_SUSPENDED = 1000;

export const NEVER = Number.POSITIVE_INFINITY;

/** Nobody takes longer than this to tell of rows that were changed in the queue. */
const TOLD_WITHIN_MS = 60_000;

/** The places of one site. */
export interface SiteGroup {
  readonly site: string;
  /** Rows with delivery, of all its places. */
  inFlight: number;
  places: number;
  /** Rows handed over since the window began. */
  handed: number;
  windowMs: number;
}

export interface Place {
  readonly destination: string;
  /**
   * Rows that were told, less those that claims took. Claims and tellings may overtake each other, so for a moment it may be
   * below zero.
   */
  waitingRows: number;
  /** Since when the queue has no rows behind this count and nobody has told of any, as a time of day; NEVER: it may have. */
  doubtedMs: number;
  nextDueMs: number;
  inFlight: number;
  /** The places of its site; null while that is not known. */
  group: SiteGroup | null;
  /** When delivery found its site last, or was given a row to find it, in steady time. */
  siteMs: number;
  suspendedUntilMs: number;
  /** When that began, in steady time. */
  suspendedSinceMs: number;
  suspendedReason: string;
  /** While a rule holds it: when rows that are too old are looked for; NEVER else. */
  oldLookMs: number;
  claiming: boolean;
  claimedMs: number;
  /** Whether it is in `ready`. */
  queued: boolean;
  /** The time under which it is in the heap; NEVER when it is not. */
  heapMs: number;
  /** Earliest due time of rows that were added during a claim: the claim's answer may not know them. */
  addedDueMs: number;
}

export const newPlace = (destination: string): Place => ({
  destination,
  waitingRows: 0,
  doubtedMs: NEVER,
  nextDueMs: NEVER,
  inFlight: 0,
  group: null,
  siteMs: 0,
  suspendedUntilMs: 0,
  suspendedSinceMs: 0,
  suspendedReason: '',
  oldLookMs: NEVER,
  claiming: false,
  claimedMs: 0,
  queued: false,
  heapMs: NEVER,
  addedDueMs: NEVER,
});

/** What operators are told. @param aheadMs the time of day minus steady time. */
export function countsOf(
  all: Iterable<Place>,
  steadyMs: number,
  aheadMs: number,
): Pick<ReturnType<Scheduler['stats']>, 'waitingRows' | 'suspended' | 'suspendedDestinations'> {
  let waitingRows = 0;
  const places: Place[] = [];
  for (const place of all) {
    waitingRows += Math.max(0, place.waitingRows);
    if (place.suspendedUntilMs > steadyMs) places.push(place);
  }
  if (places.length > MOST_SUSPENDED) places.sort((a, b) => b.waitingRows - a.waitingRows);
  return {
    waitingRows,
    suspended: places.slice(0, MOST_SUSPENDED).map((place) => ({
      destination: place.destination,
      untilMs: place.suspendedUntilMs + aheadMs,
      reason: place.suspendedReason,
    })),
    suspendedDestinations: places.length,
  };
}

/** Counts rows that wait, or wait no more. */
export function addWaiting(place: Place, rows: number): void {
  place.waitingRows += rows;
  place.doubtedMs = NEVER;
}

/**
 * Of a queue that nobody else takes rows from: a claim found that nothing waits. Where the count says something else, a
 * telling may be on its way; if none comes, it is the count that is wrong.
 * @returns when to look again; NEVER: all is well.
 */
export function foundEmpty(place: Place, nowMs: number): number {
  if (place.waitingRows === 0) return NEVER;
  if (place.doubtedMs === NEVER || place.inFlight > 0) place.doubtedMs = nowMs;
  const againMs = place.doubtedMs + TOLD_WITHIN_MS;
  if (nowMs < againMs) return againMs;
  addWaiting(place, -place.waitingRows);
  return NEVER;
}

/**
 * Of a queue whose rows others add and take as well: at least one waits where more is due, and after a full claim perhaps as
 * many again.
 */
export function guessWaiting(place: Place, claimed: number, isFull: boolean): void {
  if (place.nextDueMs === NEVER) place.waitingRows = 0;
  else if (place.waitingRows <= 0) place.waitingRows = isFull ? claimed : 1;
}

/** Counts rows that go to delivery, or come back. */
export function addInFlight(place: Place, rows: number): void {
  place.inFlight += rows;
  if (place.group === null) return;
  place.group.inFlight += rows;
  if (rows > 0) place.group.handed += rows;
}

/** Rows with delivery of all that share limits with the place. */
export const sharedInFlight = ({ inFlight, group }: Place): number => group?.inFlight ?? inFlight;
