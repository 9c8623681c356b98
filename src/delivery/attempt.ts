/**
 * A job while it is being attempted: which recipients are still to be offered, and what became of the others.
 * Owns the promise that every recipient meets exactly one outcome per attempt (I2).
 */
import type { Job } from '../mail/job.ts';
import type { Outcome, OutcomeGroup, PeerReply } from '../mail/outcome.ts';
import type { TlsUse } from '../mail/tls-use.ts';

/** Fate of a recipient within the attempt: none yet, final, or what the host just tried said (another may do better). */
const OPEN = 0;
const DECIDED = 1;
const POSTPONED = 2;

const NONE: readonly string[] = [];

export class Attempt {
  readonly job: Job;
  /** Positions within job.recipients in the order to offer; those a peer calls too many are appended again. */
  readonly todo: number[];
  /** First entry of `todo` that no transaction carries yet. */
  cursor = 0;
  readonly groups: OutcomeGroup[] = [];
  /** A peer or a connection was tried: this counts as an attempt. */
  counted = false;
  /** Addresses of hosts that made of it what they could. */
  tried = NONE;
  /** Of those tried, how many it was offered to: their offers fit it. */
  visits = 0;
  /** The host at hand is one. */
  offered = false;
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
  #open: number;
  readonly #fates: Uint8Array | null;
  /** Of one recipient. */
  #fate = OPEN;
  #byReply: Map<string, { outcome: Outcome; group: OutcomeGroup | null }> | null = null;
  /** What hosts said that deferred; the last one's word counts. */
  #postponed: Map<number, Outcome> | null = null;

  constructor(job: Job) {
    this.job = job;
    const count = job.recipients.length;
    this.todo = count === 1 ? [0] : Array.from({ length: count }, (_, i) => i);
    this.#open = count;
    // One recipient is the common case and needs no table.
    this.#fates = count === 1 ? null : new Uint8Array(count);
  }

  get done(): boolean {
    return this.#decided === this.job.recipients.length;
  }

  /** Done as far as the host at hand goes: what it deferred may be tried elsewhere, or is settled. */
  get over(): boolean {
    return this.#open === 0;
  }

  /** True while nothing was decided: the job can still go back as it came. */
  get untouched(): boolean {
    return this.#decided === 0 && this.#postponed === null && !this.counted;
  }

  /** True when recipients wait that no transaction carries. */
  get hasMore(): boolean {
    return this.cursor < this.todo.length;
  }

  /** One outcome for the given positions; those that have one keep theirs. */
  decide(positions: readonly number[], outcome: Outcome): void {
    const seqs: number[] = [];
    for (const position of positions) if (this.#mark(position, DECIDED)) seqs.push(this.#seq(position));
    if (seqs.length > 0) this.groups.push({ seqs, outcome });
  }

  /** What the host at hand said of these positions: final, or a deferral that another host may do better than. */
  apply(positions: readonly number[], outcome: Outcome): void {
    if (outcome.kind === 'deferred') this.postpone(positions, outcome);
    else this.decide(positions, outcome);
  }

  /** As `apply`, of every recipient that has no outcome. */
  applyRest(outcome: Outcome): void {
    this.apply(this.#inState(OPEN), outcome);
    this.cursor = this.todo.length;
  }

  /** The outcome unless another host does better. What is not to be had here ends nothing that can be had later. */
  postpone(positions: readonly number[], outcome: Outcome): void {
    this.#postponed ??= new Map();
    for (const position of positions) {
      if (!this.#mark(position, POSTPONED)) continue;
      if (outcome.kind === 'bounced' && this.#postponed.get(position)?.kind === 'deferred') continue;
      this.#postponed.set(position, outcome);
    }
  }

  postponeRest(outcome: Outcome): void {
    this.postpone(this.#inState(OPEN), outcome);
    this.cursor = this.todo.length;
  }

  /** One outcome for every recipient that has none. */
  decideRest(outcome: Outcome): void {
    this.decide(this.#inState(OPEN), outcome);
    this.settle((postponed) => postponed);
    this.cursor = this.todo.length;
  }

  /** What was postponed waits for another host. */
  tryElsewhere(): void {
    this.#byReply = null;
    this.todo.length = 0;
    for (const position of this.#inState(POSTPONED)) {
      this.#setState(position, OPEN);
      this.#open++;
      this.todo.push(position);
    }
    this.cursor = 0;
  }

  /** No other host is tried: what was postponed is the outcome, as `final` puts it. */
  settle(final: (outcome: Outcome) => Outcome): void {
    if (this.#postponed === null) return;
    const byOutcome = new Map<Outcome, number[]>();
    for (const [position, outcome] of this.#postponed) {
      const same = byOutcome.get(outcome);
      if (same === undefined) byOutcome.set(outcome, [position]);
      else same.push(position);
      if (this.#state(position) === POSTPONED) {
        this.#setState(position, OPEN);
        this.#open++;
      }
    }
    this.#postponed = null;
    for (const [outcome, positions] of byOutcome) this.decide(positions, final(outcome));
  }

  /** Recipients of a transaction that came to nothing: offered again, before the others. */
  again(positions: readonly number[]): void {
    const rest = this.todo.slice(this.cursor);
    // Those called too many are in the rest already.
    const there = new Set(rest);
    this.todo.length = 0;
    for (const position of positions)
      if (this.#state(position) === OPEN && !there.has(position)) this.todo.push(position);
    for (const position of rest) this.todo.push(position);
    this.cursor = 0;
  }

  /**
   * The outcome of one recipient that its own reply says; equal replies share a group.
   * @param make called when no such group exists yet.
   */
  applyByReply(position: number, reply: PeerReply, make: (reply: PeerReply) => Outcome): void {
    this.#byReply ??= new Map();
    const key = `${reply.peer} ${reply.code} ${reply.enhanced} ${reply.text}`;
    let same = this.#byReply.get(key);
    if (same === undefined) {
      same = { outcome: make(reply), group: null };
      this.#byReply.set(key, same);
    }
    if (same.outcome.kind === 'deferred') {
      this.postpone([position], same.outcome);
      return;
    }
    if (!this.#mark(position, DECIDED)) return;
    if (same.group === null) {
      same.group = { seqs: [], outcome: same.outcome };
      this.groups.push(same.group);
    }
    same.group.seqs.push(this.#seq(position));
  }

  #inState(state: number): number[] {
    const positions: number[] = [];
    for (let i = 0; i < this.job.recipients.length; i++) if (this.#state(i) === state) positions.push(i);
    return positions;
  }

  #state(position: number): number {
    return this.#fates === null ? this.#fate : (this.#fates[position] as number);
  }

  #setState(position: number, state: number): void {
    if (this.#fates === null) this.#fate = state;
    else this.#fates[position] = state;
  }

  #mark(position: number, state: number): boolean {
    if (this.#state(position) !== OPEN) return false;
    this.#setState(position, state);
    this.#open--;
    if (state === DECIDED) {
      this.#decided++;
      this.#postponed?.delete(position);
    }
    return true;
  }

  #seq(position: number): number {
    return (this.job.recipients[position] as { seq: number }).seq;
  }
}
