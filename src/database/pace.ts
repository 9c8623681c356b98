/** How much one transaction of a long work takes on, so that mail which waits for it waits as long on any machine. */

const MOST_ROWS = 10_000;

export interface PaceOptions {
  /** A transaction shall take about so long. */
  targetMs: number;
  leastRows: number;
}

/** With SQLite mail waits for all of it. Measured: smaller ones write the pages of the index by destination more often. */
const ALONE: PaceOptions = { targetMs: 60, leastRows: 250 };

export class Pace {
  readonly #options: PaceOptions;
  #rows = 1000;

  constructor(options: PaceOptions = ALONE) {
    this.#options = options;
  }

  get rows(): number {
    return this.#rows;
  }

  /** To be told how long a transaction of so many rows took; of smaller ones nothing is learned. */
  took(ms: number): void {
    const { targetMs, leastRows } = this.#options;
    if (ms > targetMs) this.#rows = Math.max(leastRows, Math.floor(this.#rows / 2));
    else if (ms < targetMs / 2) this.#rows = Math.min(MOST_ROWS, this.#rows * 2);
  }
}
