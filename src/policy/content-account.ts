/** Gives back what a content holds on its client's account: once it is committed, or refused. */
import { type Arena, HELD } from '../native.ts';
import type { Account, Accounts } from './accounts.ts';

export class ContentAccount {
  readonly #accounts: Accounts;
  readonly #arena: Pick<Arena, 'takeHeld' | 'holdEnvelope'>;
  readonly #held = new Int32Array(5);
  readonly #whose = { client: 0, network: 0 };

  constructor(accounts: Accounts, arena: Pick<Arena, 'takeHeld' | 'holdEnvelope'>) {
    this.#accounts = accounts;
    this.#arena = arena;
  }

  /** The envelope is held as long as its content from here on. */
  withEnvelope(content: number, { client, network }: Account, kib: number): void {
    this.#arena.holdEnvelope(content, client, network, kib);
  }

  /** Once, however often it is said. Before the reference is given up. */
  giveBack(content: number): void {
    const held = this.#held;
    if (!this.#arena.takeHeld(content, held)) return;
    const whose = this.#whose;
    whose.client = held[HELD.client] as number;
    whose.network = held[HELD.network] as number;
    this.#give('content', held[HELD.content] as number);
    this.#give('spill', held[HELD.spill] as number);
    this.#give('envelopes', held[HELD.envelope] as number);
  }

  #give(resource: 'content' | 'spill' | 'envelopes', kib: number): void {
    if (kib > 0) this.#accounts.give(this.#whose, resource, kib);
  }
}
