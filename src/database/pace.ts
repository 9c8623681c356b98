/** How much one transaction of a long work takes on, so that mail which waits for it waits as long on any machine. */

/** A transaction shall take about so long. Measured: smaller ones write the pages of the index by destination more often. */
const TARGET_MS = 60;
const LEAST_ROWS = 250;
const MOST_ROWS = 10_000;

export class Pace {
  #rows = 1000;

  get rows(): number {
    return this.#rows;
  }

  /** To be told how long a transaction of so many rows took; of smaller ones nothing is learned. */
  took(ms: number): void {
    if (ms > TARGET_MS) this.#rows = Math.max(LEAST_ROWS, this.#rows / 2);
    else if (ms < TARGET_MS / 2) this.#rows = Math.min(MOST_ROWS, this.#rows * 2);
  }
}
