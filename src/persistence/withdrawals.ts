/**
 * Messages that leave the queue again, because their session answered 451 while they were being committed. Promises that
 * a withdrawal is asked for when nothing of the message can go to a peer any more but what is on its way there, and is
 * tried again while somebody has a row of it.
 */

export interface WithdrawalPorts {
  /**
   * A message is about to be withdrawn: resolves when nothing of it can go to a peer any more but what is on its way
   * there. Never rejects.
   */
  withdrawing?(queueId: string): Promise<void>;
  /** It is gone from the queue; false: somebody is sending a row of it for so long that it stays. */
  withdrawn?(queueId: string, isGone: boolean): void;
}

/** A message of which somebody sends a row is withdrawn when that is over, if it takes no longer than this. */
const PATIENCE_LEASES = 2;
const DRAIN_PATIENCE_MS = 1000;

export interface WithdrawalsOptions {
  ports: WithdrawalPorts;
  leaseMs: number;
  steady(): number;
  /** Into the next commit that carries withdrawals. */
  add(queueId: string): void;
}

export class Withdrawals {
  readonly #options: WithdrawalsOptions;
  /** Their jobs are being taken back. */
  #takingBack = 0;
  /** To be tried again. */
  #later: string[] = [];
  /** Since when those are tried that did not go at once. */
  readonly #since = new Map<string, number>();

  constructor(options: WithdrawalsOptions) {
    this.#options = options;
  }

  /** Those that are neither queued nor in a commit. */
  get waiting(): number {
    return this.#takingBack + this.#later.length;
  }

  async begin(queueId: string): Promise<void> {
    this.#takingBack++;
    await this.#options.ports.withdrawing?.(queueId);
    this.#takingBack--;
    this.#options.add(queueId);
  }

  /** A commit carried them. @param later those of which somebody has a row. */
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

  /** The pause is over. */
  again(): void {
    for (const queueId of this.#later.splice(0)) this.#options.add(queueId);
  }
}
