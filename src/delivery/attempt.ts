/**
 * A job while it is being attempted: which recipients are still to be offered, and what became of the others.
 * Owns the promise that every recipient meets exactly one outcome per attempt (I2).
 */
import type { Job } from '../mail/job.ts';
import type { Outcome, OutcomeGroup, PeerReply } from '../mail/outcome.ts';
import type { TlsUse } from '../mail/tls-use.ts';

export class Attempt {
  readonly job: Job;
  /** Positions within job.recipients in the order to offer; those a peer calls too many are appended again. */
  readonly todo: number[];
  /** First entry of `todo` that no transaction carries yet. */
  cursor = 0;
  readonly groups: OutcomeGroup[] = [];
  /** A peer or a connection was tried: this counts as an attempt. */
  counted = false;
  /** Times it was put back because its connection ended, without fault of its own. */
  returns = 0;
  /** Since when it waits for a connection. */
  readyAtMs = 0;
  /** When its first command was sent; 0 before. */
  startedAtMs = 0;
  /** Time its first connection took, 0 when an open one was used. */
  connectMs = 0;
  /** Of the connection it began on; null: in the clear, or none. */
  tls: TlsUse | null = null;
  /** Retry no earlier than this, in steady time (a suspended destination). */
  notBeforeMs = 0;
  /** The session that has it; null while it waits. */
  holder: object | null = null;
  /** Its result is on its way, or it went back: nothing may be done with it any more. */
  ended = false;
  /** Whether the content has bytes above 127; undefined until someone had to know. */
  eightBit: boolean | undefined;
  /** Where it is noted as begun (mail/begun-slots.ts); -1: nowhere. */
  slot = -1;
  #decided = 0;
  readonly #fates: Uint8Array | null;
  #byReply: Map<string, OutcomeGroup> | null = null;

  constructor(job: Job) {
    this.job = job;
    const count = job.recipients.length;
    this.todo = count === 1 ? [0] : Array.from({ length: count }, (_, i) => i);
    // One recipient is the common case and needs no table.
    this.#fates = count === 1 ? null : new Uint8Array(count);
  }

  get done(): boolean {
    return this.#decided === this.job.recipients.length;
  }

  /** True while nothing was decided: the job can still go back as it came. */
  get untouched(): boolean {
    return this.#decided === 0 && !this.counted;
  }

  /** True when recipients wait that no transaction carries. */
  get hasMore(): boolean {
    return this.cursor < this.todo.length;
  }

  /** One outcome for the given positions; those decided before keep theirs. */
  decide(positions: readonly number[], outcome: Outcome): void {
    const seqs: number[] = [];
    for (const position of positions) if (this.#mark(position)) seqs.push(this.#seq(position));
    if (seqs.length > 0) this.groups.push({ seqs, outcome });
  }

  /** One outcome for every recipient that has none. */
  decideRest(outcome: Outcome): void {
    if (this.#fates === null) this.decide([0], outcome);
    else this.decide(this.undecided(), outcome);
    this.cursor = this.todo.length;
  }

  /**
   * The outcome of one recipient that its own reply says; equal replies share a group.
   * @param make called when no such group exists yet.
   */
  decideByReply(position: number, reply: PeerReply, make: (reply: PeerReply) => Outcome): void {
    if (!this.#mark(position)) return;
    this.#byReply ??= new Map();
    const key = `${reply.code} ${reply.enhanced} ${reply.text}`;
    let group = this.#byReply.get(key);
    if (group === undefined) {
      group = { seqs: [], outcome: make(reply) };
      this.#byReply.set(key, group);
      this.groups.push(group);
    }
    group.seqs.push(this.#seq(position));
  }

  undecided(): number[] {
    const positions: number[] = [];
    for (let i = 0; i < this.job.recipients.length; i++) if (!this.#isDecided(i)) positions.push(i);
    return positions;
  }

  #isDecided(position: number): boolean {
    return this.#fates === null ? this.#decided === 1 : this.#fates[position] === 1;
  }

  #mark(position: number): boolean {
    if (this.#isDecided(position)) return false;
    if (this.#fates !== null) this.#fates[position] = 1;
    this.#decided++;
    return true;
  }

  #seq(position: number): number {
    return (this.job.recipients[position] as { seq: number }).seq;
  }
}
