/**
 * A flood of clients must not become a flood of log lines. Of an event that clients can cause at will, a limited number of
 * lines is written each second, and one more line says how many were left out, of which kinds. Nothing goes uncounted.
 */

import type { AnyLog, Log, LogEvent } from './log.ts';
import { steadyMs } from './steady.ts';

const SECOND_MS = 1000;

/** Counts lines of one event: whether another may be written, and how many were left out, by kind. */
export class LineBudget {
  readonly #perSecond: number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #written = 0;
  #leftOut = 0;
  #kinds: Record<string, number> = {};

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether a line may be written now; if not, it is counted. Call `leftOut` first. */
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

  /** What was left out in the second that is over, told only once; null when nothing was. */
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
  event: LogEvent;
  linesPerSecond: number;
  /** Name of the field with the kind; it has few values. */
  kind: string;
}

type Level = 'info' | 'warn' | 'error';

interface Watched extends Calmed {
  budget: LineBudget;
  /** Level of the last line, which the line about those left out gets too. */
  level: Level;
}

/** Passes everything on, except what is too much of the events in `calmed`; `log.left_out` counts that. */
export class CalmLog implements Log {
  readonly #log: AnyLog;
  readonly #now: () => number;
  readonly #watched: ReadonlyMap<string, Watched>;
  /** Runs while lines were left out, so that those at the end of a flood are told too. */
  #timer: NodeJS.Timeout | null = null;

  constructor(log: Log, calmed: readonly Calmed[], now: () => number = steadyMs) {
    this.#log = log as AnyLog;
    this.#now = now;
    this.#watched = new Map(
      calmed.map((one) => [one.event, { ...one, budget: new LineBudget(one.linesPerSecond), level: 'info' }]),
    );
  }

  debug(event: string, fields?: object): void {
    this.#log.debug(event, fields);
  }

  info(event: string, fields?: object): void {
    if (this.#admits('info', event, fields)) this.#log.info(event, fields);
  }

  warn(event: string, fields?: object): void {
    if (this.#admits('warn', event, fields)) this.#log.warn(event, fields);
  }

  error(event: string, fields?: object): void {
    if (this.#admits('error', event, fields)) this.#log.error(event, fields);
  }

  #admits(level: Level, event: string, fields?: object): boolean {
    const watched = this.#watched.get(event);
    if (watched === undefined) return true;
    const nowMs = this.#now();
    watched.level = level;
    this.#tell(watched, nowMs);
    if (watched.budget.admit(String((fields as Record<string, unknown>)?.[watched.kind]), nowMs)) return true;
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

  #tell({ event, budget, level }: Watched, nowMs: number): void {
    const leftOut = budget.leftOut(nowMs);
    if (leftOut !== null) this.#log[level]('log.left_out', { of: event, ...leftOut });
    if (budget.hasLeftOut) this.#tellLater();
  }
}
