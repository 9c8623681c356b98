/** Chance that its seed alone decides. */

/** Numbers in 0…1 (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Dice {
  readonly next: () => number;

  constructor(...seeds: number[]) {
    let mixed = 0;
    for (const seed of seeds) mixed = Math.imul((mixed ^ seed) + 0x9e3779b9, 0x85ebca6b);
    this.next = random(mixed);
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T;
  }

  /** One of the branches of a grammar, each as likely as its weight. */
  branch<T>(...branches: readonly [weight: number, make: () => T][]): T {
    let left = this.next() * branches.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, make] of branches) {
      left -= weight;
      if (left < 0) return make();
    }
    return (branches.at(-1) as (typeof branches)[number])[1]();
  }

  times<T>(count: number, make: (i: number) => T): T[] {
    return Array.from({ length: count }, (_, i) => make(i));
  }

  /** Any octets, as latin1. */
  octets(most: number): string {
    return this.times(this.below(most + 1), () => String.fromCharCode(this.below(256))).join('');
  }

  base64(most: number): string {
    return Buffer.from(this.octets(most), 'latin1').toString('base64');
  }
}
