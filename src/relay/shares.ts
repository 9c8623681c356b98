/**
 * The memory and disk that clients share, as the main thread accounts for it: how much there is, and what commits give
 * back. Part of the composition root.
 */
import type { Config } from '../config/schema.ts';
import { type Arena, mapSharedMemory } from '../native.ts';
import type { Accounts } from '../policy/accounts.ts';
import { ContentAccount } from '../policy/content-account.ts';
import { openPolicyMemory } from '../policy/host-memory.ts';
import { limitShares, limitSpill } from '../policy/share-limits.ts';
import { type ProcessPlace, threadCount } from './place.ts';

/** Content in memory is written twice: to the log of the database, then to its place. */
const WRITTEN_TIMES = 2;

interface Kept {
  whose: { client: number; network: number };
  kib: number;
}

export class RelayShares {
  /** null where no client can connect. */
  readonly #accounts: Accounts | null;
  readonly contentAccount: ContentAccount | null;
  /** Spilled content that was committed since the last look at the free space. It is given back two looks later. */
  #committed: Kept[] = [];
  #committedBefore: Kept[] = [];
  /** KiB in spill files when the free space was asked for whose answer `diskRoom` gets next. */
  #spilledKib = 0;

  constructor({ policy, accepts }: ProcessPlace, arena: Arena) {
    this.#accounts = accepts ? openPolicyMemory(policy, mapSharedMemory).accounts : null;
    const kept = (whose: Kept['whose'], kib: number): void => void this.#committed.push({ whose, kib });
    this.contentAccount = this.#accounts === null ? null : new ContentAccount(this.#accounts, arena, kept);
  }

  reconfigure(config: Config): void {
    if (this.#accounts !== null) limitShares(this.#accounts, config, threadCount(config.session_threads));
  }

  /** Bytes taken in that are still to be written somewhere. */
  unwrittenBytes(): number {
    const accounts = this.#accounts;
    if (accounts === null) return 0;
    return (accounts.total('content') * WRITTEN_TIMES + accounts.total('spill')) * 1024;
  }

  /** Sets the limits anew. @param bytes how much may still be written until the disk is as full as it may be. */
  diskRoom(bytes: number, config: Config): void {
    const accounts = this.#accounts;
    if (accounts === null) return;
    limitSpill(accounts, config, bytes, this.#spilledKib);
    // What was committed waits one round more, because `bytes` answers the question of the round before.
    for (const { whose, kib } of this.#committedBefore) accounts.give(whose, 'spill', kib);
    this.#committedBefore = this.#committed;
    this.#committed = [];
    this.#spilledKib = accounts.total('spill');
  }
}
