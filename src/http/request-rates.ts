/** How many requests each client made in the last minute; the oldest clients are forgotten beyond a bound. */
import { mostRecent } from '../base/most-recent.ts';

const MINUTE_MS = 60_000;
const MAX_CLIENTS = 20_000;

interface Count {
  minute: number;
  now: number;
  before: number;
}

export class RequestRates {
  readonly #perMin: number;
  readonly #counts = mostRecent<Count>(MAX_CLIENTS);

  constructor(perMin: number) {
    this.#perMin = perMin;
  }

  /**
   * Counts a request, unless there were too many. What was counted in the minute before weighs by the part of it that is
   * still within the last 60 s, as if it had been spread evenly.
   * @returns the seconds to wait; 0: it is counted.
   */
  take(client: string, steadyMs: number): number {
    const count = this.#countOf(client, Math.floor(steadyMs / MINUTE_MS));
    const left = 1 - (steadyMs % MINUTE_MS) / MINUTE_MS;
    if (count.now + count.before * left + 1 > this.#perMin)
      return Math.max(1, Math.ceil(this.#waitS(count, left)));
    count.now++;
    return 0;
  }

  #waitS({ now, before }: Count, left: number): number {
    const over = now + before * left + 1 - this.#perMin;
    // Within this minute what was before fades; where that is not enough, the next one begins.
    return before > 0 && over / before <= left ? (over / before) * 60 : left * 60;
  }

  #countOf(client: string, minute: number): Count {
    const known = this.#counts.get(client);
    if (known === undefined) {
      const count = { minute, now: 0, before: 0 };
      this.#counts.set(client, count);
      return count;
    }
    if (known.minute !== minute) {
      known.before = known.minute === minute - 1 ? known.now : 0;
      known.now = 0;
      known.minute = minute;
    }
    return known;
  }
}
