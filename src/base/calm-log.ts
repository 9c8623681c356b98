/**
 * A flood of clients must not become one of log lines: of events that clients can cause at will so many lines a second
 * are written, and of the rest one line a second says how many there were of each kind. Nothing goes uncounted.
 */

import type { Log } from './log.ts';
import { steadyMs } from './steady.ts';

const SECOND_MS = 1000;

/** How many lines may still be written, and what was left out, by kind. */
export class LineBudget {
  readonly #perSecond: number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #written = 0;
  #leftOut = 0;
  #kinds: Record<string, number> = {};

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether a line may be written now; else it is counted. To be asked after `leftOut`. */
  admit(kind: string, nowMs: number): boolean {
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      this.#sinceMs = nowMs;
      this.#written = 0;
    }
    if (this.#written < this.#perSecond) {
      this.#written++;
      return true;
    }
    this.#leftOut++;
    this.#kinds[kind] = (this.#kinds[kind] ?? 0) + 1;
    return false;
  }

  get hasLeftOut(): boolean {
    return this.#leftOut > 0;
  }

  /** What was left out of the second that is over, told once; null when nothing was. */
  leftOut(nowMs: number): { lines: number; kinds: Record<string, number> } | null {
    if (this.#leftOut === 0 || nowMs - this.#sinceMs < SECOND_MS) return null;
    const told = { lines: this.#leftOut, kinds: this.#kinds };
    this.#leftOut = 0;
    this.#kinds = {};
    return told;
  }
}

/** An event that clients can cause at will. */
export interface Calmed {
  event: string;
  linesPerSecond: number;
  /** The field that says what kind it is; it has few values. */
  kind: string;
  /** The line about those left out, and its fields: how many, and how many of each kind. */
  rest: { event: string; lines: string; kinds: string };
}

type Level = 'info' | 'warn' | 'error';

interface Watched extends Calmed {
  budget: LineBudget;
  /** Of the last line: the one about those left out has the same. */
  level: Level;
}

/** Passes everything on but what is too much of the events it was told about. */
export class CalmLog implements Log {
  readonly #log: Log;
  readonly #now: () => number;
  readonly #watched: ReadonlyMap<string, Watched>;
  /** Runs while there is something to tell: the last lines of a flood are told too. */
  #timer: NodeJS.Timeout | null = null;

  constructor(log: Log, calmed: readonly Calmed[], now: () => number = steadyMs) {
    this.#log = log;
    this.#now = now;
    this.#watched = new Map(
      calmed.map((one) => [one.event, { ...one, budget: new LineBudget(one.linesPerSecond), level: 'info' }]),
    );
  }

  debug(event: string, fields?: Record<string, unknown>): void {
    this.#log.debug(event, fields);
  }

  info(event: string, fields?: Record<string, unknown>): void {
    if (this.#admits('info', event, fields)) this.#log.info(event, fields);
  }

  warn(event: string, fields?: Record<string, unknown>): void {
    if (this.#admits('warn', event, fields)) this.#log.warn(event, fields);
  }

  error(event: string, fields?: Record<string, unknown>): void {
    if (this.#admits('error', event, fields)) this.#log.error(event, fields);
  }

  #admits(level: Level, event: string, fields?: Record<string, unknown>): boolean {
    const watched = this.#watched.get(event);
    if (watched === undefined) return true;
    const nowMs = this.#now();
    watched.level = level;
    this.#tell(watched, nowMs);
    if (watched.budget.admit(String(fields?.[watched.kind]), nowMs)) return true;
    this.#tellLater();
    return false;
  }

  #tellLater(): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const nowMs = this.#now();
      for (const watched of this.#watched.values()) this.#tell(watched, nowMs);
    }, SECOND_MS);
    this.#timer.unref();
  }

  #tell({ budget, rest, level }: Watched, nowMs: number): void {
    const leftOut = budget.leftOut(nowMs);
    if (leftOut !== null)
      this.#log[level](rest.event, { [rest.lines]: leftOut.lines, [rest.kinds]: leftOut.kinds });
    if (budget.hasLeftOut) this.#tellLater();
  }
}
