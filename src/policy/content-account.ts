/** Gives back what a content holds on its client's account, once it is committed or refused. */
import { type Arena, HELD } from '../native.ts';
import type { Account, Accounts } from './accounts.ts';

export class ContentAccount {
  readonly #accounts: Accounts;
  readonly #arena: Pick<Arena, 'takeHeld' | 'holdEnvelope'>;
  readonly #held = new Int32Array(5);
  readonly #whose = { client: 0, network: 0 };

  readonly #spillKept: ((whose: { client: number; network: number }, kib: number) => void) | null;

  /** @param spillKept takes over what lay in a spill file and gives it back later, where the file stays on the disk. */
  constructor(
    accounts: Accounts,
    arena: Pick<Arena, 'takeHeld' | 'holdEnvelope'>,
    spillKept: ((whose: { client: number; network: number }, kib: number) => void) | null = null,
  ) {
    this.#accounts = accounts;
    this.#arena = arena;
    this.#spillKept = spillKept;
  }

  /** From here on the envelope is held as long as its content. */
  withEnvelope(content: number, { client, network }: Account, kib: number): void {
    this.#arena.holdEnvelope(content, client, network, kib);
  }

  /** Gives back once, however often it is called. To be called before the reference is released. */
  giveBack(content: number): void {
    const held = this.#held;
    if (!this.#arena.takeHeld(content, held)) return;
    const whose = this.#whose;
    whose.client = held[HELD.client] as number;
    whose.network = held[HELD.network] as number;
    this.#give('content', held[HELD.content] as number);
    const spill = held[HELD.spill] as number;
    if (this.#spillKept === null) this.#give('spill', spill);
    else if (spill > 0) this.#spillKept({ ...whose }, spill);
    this.#give('envelopes', held[HELD.envelope] as number);
  }

  #give(resource: 'content' | 'spill' | 'envelopes', kib: number): void {
    if (kib > 0) this.#accounts.give(this.#whose, resource, kib);
  }
}
