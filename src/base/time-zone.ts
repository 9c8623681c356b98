/** Days and hours of a place: which day it is there, and when an hour of it comes, over changes of summer time. By Intl, which has the rules. */

const DAY_MS = 86_400_000;

export class TimeZone {
  readonly #format: Intl.DateTimeFormat;

  /** @throws RangeError for a zone that nobody knows. */
  constructor(name: string) {
    this.#format = new Intl.DateTimeFormat('en-US', {
      timeZone: name,
      hourCycle: 'h23',
      ...{
        year: 'numeric',
        month: '2-digit',
        day: '2-digit',
        hour: '2-digit',
        minute: '2-digit',
        second: '2-digit',
      },
    });
  }

  /** What clocks there show, as if it were UTC. */
  #shown(atMs: number): number {
    const parts: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(atMs)) parts[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
    return Date.UTC(year, month - 1, day, hour, minute, second) + (((atMs % 1000) + 1000) % 1000);
  }

  #offset(atMs: number): number {
    return this.#shown(atMs) - atMs;
  }

  /** '2027-03-28' */
  dayOf(atMs: number): string {
    return new Date(this.#shown(atMs)).toISOString().slice(0, 10);
  }

  /**
   * When clocks there show this minute of the day. @param minute 0…1440, the last of which is the beginning of the next day.
   * One that is left out (summer time begins) comes when the clocks are put forward; of two (it ends) the first or the `last` counts.
   */
  at(day: string, minute: number, which: 'first' | 'last' = 'first'): number {
    const shown = Date.parse(`${day}T00:00:00Z`) + minute * 60_000;
    const [before, after] = [this.#offset(shown - DAY_MS), this.#offset(shown + DAY_MS)];
    const found = [shown - before, shown - after].filter((atMs) => this.#shown(atMs) === shown);
    if (found.length > 0) return which === 'first' ? Math.min(...found) : Math.max(...found);
    return this.#change(shown - Math.max(before, after), shown - Math.min(before, after));
  }

  /** The moment between these two at which the clocks are changed. */
  #change(fromMs: number, toMs: number): number {
    let [low, high] = [fromMs, toMs];
    const offset = this.#offset(low);
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.#offset(middle) === offset) low = middle;
      else high = middle;
    }
    return high;
  }
}

export const isTimeZone = (name: string): boolean => {
  try {
    new TimeZone(name);
    return true;
  } catch {
    return false;
  }
};

/** The day that is so many days later. */
export const dayAfter = (day: string, days = 1): string =>
  new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);

export const daysBetween = (from: string, to: string): number =>
  Math.round((Date.parse(`${to}T00:00:00Z`) - Date.parse(`${from}T00:00:00Z`)) / DAY_MS);
