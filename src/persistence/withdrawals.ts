/**
 * Messages that leave the queue again, because their session answered 451 while they were being committed. Promises
 * that a withdrawal is asked for only when no new attempt of the message can begin, and is tried again while somebody
 * has a row of it.
 */

export interface WithdrawalPorts {
  /**
   * A message is about to be withdrawn: resolves when no new attempt of it can begin; those that are on their way to a
   * peer go on. Never rejects.
   */
  withdrawing?(queueId: string): Promise<void>;
  /**
   * The end of it. @param isGone from the queue; false: somebody has a row of it for so long that the message stays.
   */
  withdrawn?(queueId: string, isGone: boolean): void;
}

/** While somebody is sending a row of a message, its withdrawal is tried again for this long, in lease times. */
const PATIENCE_LEASES = 2;
const DRAIN_PATIENCE_MS = 1000;

export interface WithdrawalsOptions {
  ports: WithdrawalPorts;
  leaseMs: number;
  steady(): number;
  /** Puts the message into the next commit that carries withdrawals. */
  add(queueId: string): void;
}

export class Withdrawals {
  readonly #options: WithdrawalsOptions;
  /** Number of messages whose jobs are being taken back. */
  #takingBack = 0;
  /** Messages to be tried again. */
  #later: string[] = [];
  /** When each message that did not go at once was tried first. */
  readonly #since = new Map<string, number>();

  constructor(options: WithdrawalsOptions) {
    this.#options = options;
  }

  /** Number of withdrawals that are neither queued nor in a commit. */
  get waiting(): number {
    return this.#takingBack + this.#later.length;
  }

  async begin(queueId: string): Promise<void> {
    this.#takingBack++;
    await this.#options.ports.withdrawing?.(queueId);
    this.#takingBack--;
    this.#options.add(queueId);
  }

  /** A commit carried these withdrawals. @param later messages that stay, because somebody has a row of them. */
  answered(withdrawals: readonly string[], later: readonly string[], isDraining: boolean): void {
    for (const queueId of withdrawals) if (!later.includes(queueId)) this.#end(queueId, true);
    const { leaseMs, steady } = this.#options;
    const patienceMs = isDraining ? DRAIN_PATIENCE_MS : leaseMs * PATIENCE_LEASES;
    for (const queueId of later) {
      const sinceMs = this.#since.get(queueId) ?? steady();
      this.#since.set(queueId, sinceMs);
      if (steady() - sinceMs < patienceMs) this.#later.push(queueId);
      else this.#end(queueId, false);
    }
  }

  #end(queueId: string, isGone: boolean): void {
    this.#since.delete(queueId);
    this.#options.ports.withdrawn?.(queueId, isGone);
  }

  /** Called when the pause before the next try is over. */
  again(): void {
    for (const queueId of this.#later.splice(0)) this.#options.add(queueId);
  }
}
