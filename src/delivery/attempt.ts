/**
 * A job while it is being attempted: which recipients are still to be offered, and what became of the others.
 * Owns the promise that every recipient meets exactly one outcome per attempt (I2).
 */
import type { MailClass } from '../mail/attributes.ts';
import type { Job } from '../mail/job.ts';
import type { Outcome, OutcomeGroup, PeerReply } from '../mail/outcome.ts';
import type { TlsUse } from '../mail/tls-use.ts';

/**
 * Fate of a recipient within the attempt: none yet, final, or postponed (its host did not take it, but another may).
 */
const OPEN = 0;
const DECIDED = 1;
const POSTPONED = 2;

const NONE: readonly string[] = [];

export class Attempt {
  readonly job: Job;
  /** Positions within job.recipients in the order to offer; those a peer calls too many are appended again. */
  readonly todo: number[];
  /** Index of the first entry of `todo` that is in no transaction yet. */
  cursor = 0;
  readonly groups: OutcomeGroup[] = [];
  /** Header fields of this attempt, which go before the trace; each ends in CRLF, all are ASCII. */
  fields = '';
  /** Whether this counts as an attempt: a peer or a connection was tried. */
  counted = false;
  /** Addresses of hosts that were tried, and took what they could. */
  tried = NONE;
  /** Number of hosts among those tried to which the message was offered, because it fits what they support. */
  visits = 0;
  /** Whether it was offered to the present host. */
  offered = false;
  /** How often it was put back because its connection ended, without fault of its own. */
  returns = 0;
  /** When it began to wait for a connection. */
  readyAtMs = 0;
  /** When its first command was sent; 0 before. */
  startedAtMs = 0;
  /** How long its first connection took to open; 0 when an open one was used. */
  connectMs = 0;
  /** TLS of the connection on which it began; null when it was in the clear, or there was none. */
  tls: TlsUse | null = null;
  /** Retry no earlier than this, in steady time (a suspended destination). */
  notBeforeMs = 0;
  /** The site of the lane that it is in, and the source; '' where there is none, and for the default one. */
  site = '';
  source = '';
  /** Domains that sign it; null: nobody has looked. */
  dkimDomains: readonly string[] | null = null;
  /** The class that rules gave it; '': that of its message. */
  class: MailClass | '' = '';
  /** Delays before its retries, where its site has its own; null: those of the config. */
  retryDelaysMs: readonly number[] | null = null;
  /** The session that works on it; null while it waits. */
  holder: object | null = null;
  /** Its result is on its way, or its job was given back: nothing may be done with it any more. */
  ended = false;
  /** Whether the content has bytes above 127; undefined until that was looked up. */
  eightBit: boolean | undefined;
  /** The slot in which it is noted as begun (mail/begun-slots.ts); -1: none. */
  slot = -1;
  #decided = 0;
  #open: number;
  readonly #fates: Uint8Array | null;
  /** The fate, when there is one recipient. */
  #fate = OPEN;
  #byReply: Map<string, { outcome: Outcome; group: OutcomeGroup | null }> | null = null;
  /** Its source could not take it, so it went to the overflow pool. */
  diverted = false;
  /** Outcomes of recipients that are postponed; that of the last host counts. */
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

  /** Whether nothing is left for the present host: every recipient is decided or postponed. */
  get over(): boolean {
    return this.#open === 0;
  }

  /** True while nothing was tried or decided: the job can still be given back as it came. */
  get untouched(): boolean {
    return this.#decided === 0 && this.#postponed === null && !this.counted;
  }

  /** True when recipients wait that are in no transaction. */
  get hasMore(): boolean {
    return this.cursor < this.todo.length;
  }

  /** Gives recipients a final outcome; those that have one keep it. */
  decide(positions: readonly number[], outcome: Outcome): void {
    const seqs: number[] = [];
    for (const position of positions) if (this.#mark(position, DECIDED)) seqs.push(this.#seq(position));
    if (seqs.length > 0) this.groups.push({ seqs, outcome });
  }

  /** Gives recipients a final outcome before anybody was asked: they are not offered. */
  withdraw(positions: readonly number[], outcome: Outcome): void {
    this.decide(positions, outcome);
    const open = this.#inState(OPEN);
    this.todo.splice(0, this.todo.length, ...open);
  }

  /** Gives recipients the outcome of the present host. A deferral is postponed where another host may take them. */
  apply(positions: readonly number[], outcome: Outcome): void {
    if (isForOthers(outcome)) this.postpone(positions, outcome);
    else this.decide(positions, outcome);
  }

  /** Like `apply`, for every recipient that has no outcome. */
  applyRest(outcome: Outcome): void {
    this.apply(this.#inState(OPEN), outcome);
    this.cursor = this.todo.length;
  }

  /** The same, for those that are in no transaction yet. */
  applyWaiting(outcome: Outcome): void {
    const waiting = this.todo.slice(this.cursor);
    this.cursor = this.todo.length;
    this.apply(waiting, outcome);
  }

  /** Keeps an outcome that counts unless another host takes the recipient. A bounce never replaces a deferral. */
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

  /** Gives a final outcome to every recipient that has none. */
  decideRest(outcome: Outcome): void {
    this.decide(this.#inState(OPEN), outcome);
    this.settle((postponed) => postponed);
    this.cursor = this.todo.length;
  }

  /** Puts the postponed recipients into `todo` for another host. */
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

  /** No other host is tried: makes the postponed outcomes final. @param final may change an outcome. */
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

  /** Puts recipients of a failed transaction back into `todo`, before the others. */
  again(positions: readonly number[]): void {
    const rest = this.todo.slice(this.cursor);
    // Recipients that the peer called too many are in the rest already.
    const there = new Set(rest);
    this.todo.length = 0;
    for (const position of positions)
      if (this.#state(position) === OPEN && !there.has(position)) this.todo.push(position);
    for (const position of rest) this.todo.push(position);
    this.cursor = 0;
  }

  /**
   * Gives one recipient the outcome of its own reply. Recipients with equal replies share a group.
   * @param make is called when there is no such group yet.
   */
  applyByReply(position: number, reply: PeerReply, make: (reply: PeerReply) => Outcome): void {
    this.#byReply ??= new Map();
    const key = `${reply.peer.address} ${reply.code} ${reply.enhanced} ${reply.text}`;
    let same = this.#byReply.get(key);
    if (same === undefined) {
      same = { outcome: make(reply), group: null };
      this.#byReply.set(key, same);
    }
    if (isForOthers(same.outcome)) {
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

/** Whether another host is to be asked: not where we are told to send less, which holds for all of them. */
const isForOthers = (outcome: Outcome): boolean =>
  outcome.kind === 'deferred' && outcome.verdict?.move !== 'slow_down';
