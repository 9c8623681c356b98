/** Sending days of a warm-up: each has a window of hours in its time zone; a window may go past midnight, and belongs to the day it begins on. */
import { dayAfter, TimeZone } from '../../base/time-zone.ts';

export interface SendingDay {
  /** '2027-01-04' */
  day: string;
  fromMs: number;
  toMs: number;
}

const WINDOW = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$/;

/** Minutes of the day from and to; null: not a window. */
export function windowOf(text: string): [number, number] | null {
  const match = WINDOW.exec(text);
  if (match === null) return null;
  const [fromH = 0, fromM = 0, toH = 0, toM = 0] = match.slice(1).map(Number);
  const [from, to] = [fromH * 60 + fromM, toH * 60 + toM];
  return to > 1440 || from === to ? null : [from, to];
}

export class SendingDays {
  readonly #zone: TimeZone;
  readonly #from: number;
  readonly #to: number;
  #last: SendingDay | null = null;

  /** @throws RangeError for a zone or window that is none. */
  constructor(timeZone: string, window: string) {
    this.#zone = new TimeZone(timeZone);
    const minutes = windowOf(window);
    if (minutes === null) throw new RangeError(`not a window of hours: ${window}`);
    [this.#from, this.#to] = minutes;
  }

  /** The sending day whose window is open, or else the next one. */
  at(nowMs: number): SendingDay {
    const last = this.#last;
    if (last !== null && last.fromMs <= nowMs && nowMs < last.toMs) return last;
    let day = dayAfter(this.#zone.dayOf(nowMs), -1);
    // A day can be without a window: summer time that begins within it leaves out all of it.
    for (let i = 0; i < 5; i++, day = dayAfter(day)) {
      const one = this.#windowOn(day);
      if (one.toMs > nowMs && one.toMs > one.fromMs) {
        this.#last = one;
        return one;
      }
    }
    throw new RangeError('no window within four days');
  }

  /** The first one that begins on this day or later. */
  from(day: string): SendingDay {
    const one = this.#windowOn(day);
    return one.toMs > one.fromMs ? one : this.#windowOn(dayAfter(day));
  }

  #windowOn(day: string): SendingDay {
    const ends = this.#to > this.#from ? day : dayAfter(day);
    return { day, fromMs: this.#zone.at(day, this.#from), toMs: this.#zone.at(ends, this.#to, 'last') };
  }
}
