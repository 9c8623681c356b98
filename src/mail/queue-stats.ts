/**
 * What waits in a queue, by destination and age. Memory stays bounded whatever the number of destinations: beyond MOST_KEPT
 * the smallest are added up as `other`.
 */
import { shownDestination } from './operator-keys.ts';
import type { OutboxState } from './outbox-state.ts';
import { queueIdFrom } from './queue-id.ts';

/** Upper ends of the columns of ages, in minutes (as qshape has them); what is older is in one more. */
export const AGE_MINUTES = [5, 10, 20, 40, 80, 160, 320, 640, 1280] as const;
/** States in which recipients wait. */
export const WAITING_STATES = ['PENDING', 'SENDING', 'RETRY', 'HELD'] as const satisfies OutboxState[];
/** Most destinations of one answer. */
export const MOST_DESTINATIONS = 1000;
/** Destinations in memory at a time: half of them stay when they are too many. */
const MOST_KEPT = 40_000;

const MINUTE_MS = 60_000;

export interface WaitingCounts {
  entries: number;
  recipients: number;
  /** Recipients by state, as WAITING_STATES. */
  states: number[];
  /** Recipients by the age of their message, as AGE_MINUTES and one more. */
  ages: number[];
}

export interface DestinationCounts extends WaitingCounts {
  destination: string;
  /** When the first of them is due; null: none waits for a time. */
  nextDueMs: number | null;
}

export interface OtherCounts extends WaitingCounts {
  /** One that was added up several times counts as often. */
  destinations: number;
  /** Any destination named may lack so many recipients, which are in `other`. */
  mayLack: number;
}

/** The file of a queue. */
export interface QueueFile {
  bytes: number;
  /** Of these: free, to be used again. */
  freeBytes: number;
}

/** With what its config allows. */
export interface LimitedFile extends QueueFile {
  /** database.max_mb, of one relay process; 0: no limit but the disk’s. */
  maxMb: number;
}

export interface QueueStats {
  /** Entries, messages and recipients by state; recipients that were delivered are not counted. */
  rows: Record<OutboxState, number>;
  messages: Record<OutboxState, number>;
  recipients: Record<OutboxState, number>;
  mails: number;
  contentBytes: number;
  /** When the oldest message that waits was received. */
  oldestMs: number | null;
  /** Those with most recipients, the biggest first. */
  destinations: DestinationCounts[];
  other: OtherCounts;
  /** Absent: it is on servers. */
  file?: QueueFile;
  /** Number of held rows that are suspected of ending the process. */
  suspectedPoison: number;
  /** Why the counts are not known: then they are all 0. */
  unavailable?: string;
}

/** What a bounded part of the queue adds to its sums. */
export interface StatsSlice extends Omit<QueueStats, 'destinations' | 'other' | 'unavailable'> {
  /** The column of AGE_MINUTES for all its messages. */
  age: number;
  /** Destinations, each a line; one stands as often as it has entries in different states. */
  names: string;
  /** For each of these lines: index of WAITING_STATES, entries, recipients, when the first is due (0: none). */
  figures: number[];
  next: string | null;
}

/** Sums over the entries of one state. */
export interface StateSums {
  state: OutboxState;
  entries: number;
  messages: number;
  waiting: number;
  bounced: number;
  suspected: number;
}

const FIGURES = 4;

/** Entries that wait at one destination in one state. */
export interface StateRow {
  destination: string;
  state: OutboxState;
  entries: number;
  recipients: number;
  dueMs: number | null;
}

export const noSlice = (): StatsSlice => ({
  rows: noStates(),
  messages: noStates(),
  recipients: noStates(),
  mails: 0,
  contentBytes: 0,
  oldestMs: null,
  suspectedPoison: 0,
  age: 0,
  names: '',
  figures: [],
  next: null,
});

export function addStates(slice: StatsSlice, sums: readonly StateSums[]): void {
  for (const { state, entries, messages, waiting, bounced, suspected } of sums) {
    slice.rows[state] = Number(entries);
    slice.messages[state] = Number(messages);
    slice.recipients[state] = Number(state === 'DEAD' ? bounced : waiting);
    if (state === 'HELD') slice.suspectedPoison = Number(suspected);
  }
}

/** Packs rows for the way between threads. */
export function packed(rows: readonly StateRow[]): Pick<StatsSlice, 'names' | 'figures'> {
  const figures: number[] = [];
  const names: string[] = [];
  for (const { destination, state, entries, recipients, dueMs } of rows) {
    const index = (WAITING_STATES as readonly string[]).indexOf(state);
    if (index < 0) continue;
    names.push(shownDestination(destination));
    figures.push(index, Number(entries), Number(recipients), Number(dueMs ?? 0));
  }
  return { names: names.join('\n'), figures };
}

/** The column of ages that a message is in, and the id before which those of the column end; null: there is no end. */
export function ageColumn(queueId: string, nowMs: number): { age: number; until: string | null } {
  let until: string | null = null;
  for (const [age, minutes] of AGE_MINUTES.entries()) {
    const from = queueIdFrom(nowMs - minutes * MINUTE_MS);
    if (queueId >= from) return { age, until };
    until = from;
  }
  return { age: AGE_MINUTES.length, until };
}

export const noStates = (): Record<OutboxState, number> => ({
  PENDING: 0,
  SENDING: 0,
  SENT: 0,
  RETRY: 0,
  DEAD: 0,
  HELD: 0,
});

export const noCounts = (): WaitingCounts => ({
  entries: 0,
  recipients: 0,
  states: WAITING_STATES.map(() => 0),
  ages: [...AGE_MINUTES, 0].map(() => 0),
});

const noOther = (): OtherCounts => ({ ...noCounts(), destinations: 0, mayLack: 0 });

export function addCounts(sum: WaitingCounts, part: WaitingCounts): void {
  sum.entries += part.entries;
  sum.recipients += part.recipients;
  addEach(sum.states, part.states);
  addEach(sum.ages, part.ages);
}

function addEach(sums: number[], more: readonly number[]): void {
  for (let i = 0; i < more.length; i++) sums[i] = (sums[i] ?? 0) + (more[i] as number);
}

/** Leaves the `most` biggest in the list and adds the others up, in `other`. */
export function biggest(
  destinations: DestinationCounts[],
  other: OtherCounts,
  most: number,
): DestinationCounts[] {
  destinations.sort((a, b) => b.recipients - a.recipients || (a.destination < b.destination ? -1 : 1));
  for (const one of destinations.slice(most)) addCounts(other, one);
  other.destinations += Math.max(0, destinations.length - most);
  return destinations.slice(0, most);
}

const earlier = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);

export class StatsSum {
  readonly #sum: Omit<QueueStats, 'destinations' | 'other'> = {
    rows: noStates(),
    messages: noStates(),
    recipients: noStates(),
    mails: 0,
    contentBytes: 0,
    oldestMs: null,
    suspectedPoison: 0,
  };
  readonly #other = noOther();
  #file: QueueFile | undefined;
  #destinations = new Map<string, DestinationCounts>();

  addSlice(slice: StatsSlice): void {
    this.#addFigures(slice);
    const { names, figures, age } = slice;
    if (names === '') return;
    let at = 0;
    for (const destination of names.split('\n')) {
      const [state, entries, recipients, due] = [
        figures[at],
        figures[at + 1],
        figures[at + 2],
        figures[at + 3],
      ] as [number, number, number, number];
      at += FIGURES;
      const one = this.#of(destination);
      one.entries += entries;
      one.recipients += recipients;
      one.states[state] = (one.states[state] ?? 0) + recipients;
      one.ages[age] = (one.ages[age] ?? 0) + recipients;
      if (due > 0) one.nextDueMs = earlier(one.nextDueMs, due);
    }
    this.#bound();
  }

  /** Destinations in memory. */
  get kept(): number {
    return this.#destinations.size;
  }

  /** Adds the sums of another queue. */
  add(part: QueueStats): void {
    this.#addFigures(part);
    if (part.unavailable !== undefined) this.#sum.unavailable = part.unavailable;
    if (part.file !== undefined)
      this.#file = {
        bytes: (this.#file?.bytes ?? 0) + part.file.bytes,
        freeBytes: (this.#file?.freeBytes ?? 0) + part.file.freeBytes,
      };
    for (const counts of part.destinations) {
      const one = this.#of(counts.destination);
      addCounts(one, counts);
      one.nextDueMs = earlier(one.nextDueMs, counts.nextDueMs);
    }
    addCounts(this.#other, part.other);
    this.#other.destinations += part.other.destinations;
    this.#other.mayLack += part.other.mayLack;
    this.#bound();
  }

  /** The biggest MOST_DESTINATIONS, and all others as one. */
  stats(): QueueStats {
    const other = { ...this.#other, states: [...this.#other.states], ages: [...this.#other.ages] };
    const all = [...this.#destinations.values()];
    const file = this.#file === undefined ? {} : { file: this.#file };
    return { ...this.#sum, destinations: biggest(all, other, MOST_DESTINATIONS), other, ...file };
  }

  #addFigures(part: Omit<QueueStats, 'destinations' | 'other'>): void {
    const sum = this.#sum;
    for (const state of Object.keys(sum.rows) as OutboxState[]) {
      sum.rows[state] += part.rows[state];
      sum.messages[state] += part.messages[state];
      sum.recipients[state] += part.recipients[state];
    }
    sum.mails += part.mails;
    sum.contentBytes += part.contentBytes;
    sum.suspectedPoison += part.suspectedPoison;
    sum.oldestMs = earlier(sum.oldestMs, part.oldestMs);
  }

  #of(destination: string): DestinationCounts {
    let one = this.#destinations.get(destination);
    if (one === undefined) {
      one = { destination, ...noCounts(), nextDueMs: null };
      this.#destinations.set(destination, one);
    }
    return one;
  }

  /** Adds the smaller half up, when there are too many. */
  #bound(): void {
    if (this.#destinations.size <= MOST_KEPT) return;
    const sizes = Float64Array.from(this.#destinations.values(), ({ recipients }) => recipients).sort();
    const least = sizes[sizes.length - MOST_KEPT / 2] as number;
    const kept = new Map<string, DestinationCounts>();
    for (const one of this.#destinations.values()) if (one.recipients > least) kept.set(one.destination, one);
    // Of those as small as the smallest that stay, some stay.
    let equal = MOST_KEPT / 2 - kept.size;
    for (const one of this.#destinations.values()) {
      if (one.recipients > least) continue;
      if (one.recipients === least && equal > 0) {
        equal--;
        kept.set(one.destination, one);
      } else {
        addCounts(this.#other, one);
        this.#other.destinations++;
      }
    }
    this.#other.mayLack += least;
    this.#destinations = kept;
  }
}

export function mergeStats(parts: readonly QueueStats[]): QueueStats {
  const sum = new StatsSum();
  for (const part of parts) sum.add(part);
  return sum.stats();
}
