/** Counts over a sliding window of 60 slots. Time that goes back counts into the newest slot; one that jumps ahead empties all. */
const SLOTS = 60;

export class SlidingWindow {
  readonly #slotMs: number;
  readonly #matched = new Uint32Array(SLOTS);
  readonly #of = new Uint32Array(SLOTS);
  #newest = Number.NaN;
  matched = 0;
  of = 0;

  constructor(windowS: number) {
    this.#slotMs = (windowS * 1000) / SLOTS;
  }

  add(matched: number, of: number, nowMs: number): void {
    this.#moveTo(Math.floor(nowMs / this.#slotMs));
    const at = this.#newest % SLOTS;
    this.#matched[at] = (this.#matched[at] as number) + matched;
    this.#of[at] = (this.#of[at] as number) + of;
    this.matched += matched;
    this.of += of;
  }

  clear(): void {
    this.#matched.fill(0);
    this.#of.fill(0);
    this.matched = this.of = 0;
  }

  #moveTo(slot: number): void {
    if (Number.isNaN(this.#newest)) this.#newest = slot;
    if (slot <= this.#newest) return;
    if (slot - this.#newest >= SLOTS) {
      this.clear();
      this.#newest = slot;
      return;
    }
    while (this.#newest < slot) {
      const at = ++this.#newest % SLOTS;
      this.matched -= this.#matched[at] as number;
      this.of -= this.#of[at] as number;
      this.#matched[at] = this.#of[at] = 0;
    }
  }
}
