/**
 * One cut of a rate, as all processes that share it know it: what each of them sent when the peer refused, and what part of the sum is
 * left. Whoever hears of it adds its own, in whatever order: all come to the same rate.
 */

/** What one process sent, and what was accepted of that since the cut before; messages per second. */
export type Offer = readonly [process: string, offeredPerS: number, sustainedPerS: number];

/** Processes beyond are not counted. */
export const MAX_OFFERS = 1000;

export class Cut {
  /** What is left of the rate that was refused. */
  factor: number;
  /** The middle of what was refused and what was accepted, if that is less. */
  isMean: boolean;
  readonly #offers = new Map<string, readonly [number, number]>();

  constructor(factor: number, isMean: boolean, offers: readonly Offer[]) {
    this.factor = factor;
    this.isMean = isMean;
    for (const offer of offers) this.add(offer);
  }

  /** What another process has of the same cut; of two made in the same moment the deeper one holds. @returns whether it is another rate now. */
  join(factor: number, isMean: boolean, offers: readonly Offer[]): boolean {
    const before = this.perS;
    if (factor > 0) this.factor = this.factor === 0 ? factor : Math.min(this.factor, factor);
    this.isMean ||= isMean;
    for (const offer of offers) this.add(offer);
    return this.perS !== before;
  }

  add([process, offered, sustained]: Offer): void {
    if (this.#offers.size < MAX_OFFERS && !this.#offers.has(process))
      this.#offers.set(process, [offered, sustained]);
  }

  of(process: string): Offer | null {
    const known = this.#offers.get(process);
    return known === undefined ? null : [process, ...known];
  }

  get offers(): Offer[] {
    return [...this.#offers].map(([process, offer]) => [process, ...offer]);
  }

  /** The rate that is left. Summed in one order by all, so that it is the same to the last bit. */
  get perS(): number {
    let [offered, sustained] = [0, 0];
    for (const [, one, other] of this.offers.sort(byProcess)) {
      offered += one;
      sustained += other;
    }
    const cut = this.factor * offered;
    return this.isMean ? Math.min(cut, Math.sqrt(offered * sustained)) : cut;
  }
}

const byProcess = ([one]: Offer, [other]: Offer): number => (one < other ? -1 : 1);
