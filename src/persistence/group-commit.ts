/**
 * Group commit: everything that arrived while the last commit ran goes into the next one. Promises that a message
 * gets exactly one verdict, that a settlement is written with the DSNs it called for or not at all (I3), and that
 * a settlement is never given up.
 *
 * One commit is under way at a time, or, where the database can do several at once, one in each lane. At most one of
 * them carries settlements and withdrawals, so that those of one row never overtake each other.
 */

import { randomBytes } from 'node:crypto';
import { RelayError } from '../base/errors.ts';
import { steadyMs } from '../base/steady.ts';
import type { CommitBatch, CommitResult, Database, OutboxPlan } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import { type Arena, CONTENT_STATE } from '../native.ts';
import { type Batch, CommitQueue } from './commit-queue.ts';
import type { Entry, SettleItem } from './entry.ts';
import { type WithdrawalPorts, Withdrawals } from './withdrawals.ts';

/** 'abandoned': committed, but its session had answered 451; GroupCommit itself queues the withdrawal. */
export type EntryOutcome = 'committed' | 'withdrawn' | 'abandoned';

export interface GroupCommitPorts extends WithdrawalPorts {
  /** Fills entry.plan just before its batch is sent. */
  plan(entry: Entry): void;
  /** The entries of a commit, DSNs included. The outcome of a DSN is 'withdrawn' when its settlement was rejected. */
  committed(entries: Entry[], outcomes: EntryOutcome[], leaseUntilMs: number): void;
  failed(entries: Entry[], error: RelayError): void;
  /** accepted[i] = false: the row was not ours any more, nothing was written. */
  settled(items: SettleItem[], accepted: boolean[]): void;
  /** The fencing number of our newest lease of the row, where it may change while the result waits. */
  fenceOf?(result: AttemptResult): number;
}

export interface GroupCommitOptions {
  arena: Pick<Arena, 'moveState'>;
  leaseMs: number;
  now?: () => number;
  /** Commits under way at the same time. */
  lanes?: number;
  /** How long settlements wait for more to come, where every batch of them costs several statements. Default 0. */
  settleLingerMs?: number;
  /**
   * Settlements go in a lane of their own, beside the others: rows that somebody else has locked may hold them up, and
   * must not hold up new mail.
   */
  settleApart?: boolean;
  /** setTimeout, unless the clock is moved by hand. */
  setTimer?: (fire: () => void, delayMs: number) => void;
}

export interface GroupCommitStats {
  queuedMessages: number;
  queuedSettlements: number;
  commits: number;
  committedMessages: number;
  settlements: number;
  /** Settlements that came too late, because the row's lease is another's by now; nothing was written for them. */
  rejected: number;
  failures: number;
  /** Age of the oldest commit under way; 0 when there is none. */
  commitAgeMs: number;
  /** A commit failed within the last second and none succeeded since. */
  failing: boolean;
}

const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 5000;
/** Pause before rows that another transaction has locked are tried again. */
const LOCKED_RETRY_MS = 200;
/** While one commit is under way, another begins only for at least this many messages. */
const MIN_PARALLEL_MESSAGES = 32;
/** Once this many settlements wait, they wait no longer for more to come. */
const FULL_SETTLEMENTS = 400;
/** How long the database counts as failing after a commit that failed, unless one succeeds. */
const FAILURE_MEMORY_MS = 1000;
/** Results that have been in a commit for this long count as waiting longer than usual (`unwritten`). */
const LATE_MS = 500;

/** Whether the batch itself may have caused the error: then its parts are tried one by one. */
function isOwnFault(error: RelayError): boolean {
  return (
    error.code === 'database_refused' || error.code === 'storage_failed' || error.code === 'content_missing'
  );
}

export class GroupCommit {
  readonly #database: Pick<Database, 'commit'>;
  readonly #arena: Pick<Arena, 'moveState'>;
  readonly #ports: GroupCommitPorts;
  readonly #leaseMs: number;
  readonly #now: () => number;
  /** The clock for durations. */
  readonly #steady: () => number;
  readonly #setTimer: (fire: () => void, delayMs: number) => void;
  readonly #life = randomBytes(4).toString('hex');

  readonly #queue = new CommitQueue();
  /** What each lane has under way; null where it is free. */
  readonly #lanes: ({ batch: Batch; sinceMs: number } | null)[];
  readonly #settleLingerMs: number;
  readonly #settleApart: boolean;
  readonly #messageLanes: number;
  /** Settlements of rows that another transaction has locked: they wait for their next try. */
  #locked: SettleItem[] = [];
  /** When each of these settlements was tried first. */
  readonly #lockedSince = new WeakMap<SettleItem, number>();
  readonly #withdrawals: Withdrawals;
  #waitsForLocked = false;
  /** Settlements have waited for each other long enough. */
  #lingered = true;
  #lingering = false;
  #scheduled = false;
  /**
   * Settlements and withdrawals pause after a failure; new messages do not. A timer ends the pause: a clock may step
   * back.
   */
  #resting = false;
  #retryDelayMs = FIRST_RETRY_MS;
  /** The last commit with settlements failed: until one succeeds they go without messages. */
  #failing = false;
  /** A settlement that fails even alone was just tried: others like it wait; messages do not. */
  #suspectsRest = false;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  #drained: (() => void)[] = [];
  #commits = 0;
  #failures = 0;
  #committedMessages = 0;
  #settlements = 0;
  #rejected = 0;

  constructor(database: Pick<Database, 'commit'>, ports: GroupCommitPorts, options: GroupCommitOptions) {
    this.#database = database;
    this.#ports = ports;
    this.#arena = options.arena;
    this.#leaseMs = options.leaseMs;
    this.#settleApart = options.settleApart ?? false;
    this.#messageLanes = options.lanes ?? 1;
    this.#lanes = new Array(this.#messageLanes + (this.#settleApart ? 1 : 0)).fill(null);
    this.#settleLingerMs = options.settleLingerMs ?? 0;
    this.#now = options.now ?? Date.now;
    this.#steady = options.now ?? steadyMs;
    this.#withdrawals = new Withdrawals({
      ports,
      leaseMs: options.leaseMs,
      steady: this.#steady,
      add: (queueId) => {
        this.#queue.addWithdrawal(queueId);
        this.#schedule();
      },
    });
    this.#setTimer = options.setTimer ?? ((fire, delayMs) => void setTimeout(fire, delayMs));
  }

  /** Takes messages to commit, in order. Admission bounds them (persist_max_inflight_mails). */
  submit(entries: Entry[]): void {
    this.#queue.addEntries(entries);
    this.#schedule();
  }

  /** Takes results to write down. They are bounded by the places with delivery, which only `settled` frees. */
  settle(items: SettleItem[]): void {
    this.#queue.addItems(items);
    this.#schedule();
  }

  /** The database is back: results that pause since it failed are written now. */
  wake(): void {
    this.#resting = false;
    this.#retryDelayMs = FIRST_RETRY_MS;
    this.#lingered = true;
    this.#schedule();
  }

  /** Results that are not written down yet. @param all or only those that wait longer than usual. */
  unwritten(all: boolean): SettleItem[] {
    const running = this.#lanes.filter((one) => one !== null && one.batch.items.length > 0);
    const isLate = (sinceMs: number): boolean => this.#steady() - sinceMs >= LATE_MS;
    if (!all && !this.#failing && !running.some((one) => one !== null && isLate(one.sinceMs))) {
      const late = this.#locked.filter((item) => isLate(this.#lockedSince.get(item) ?? 0));
      return [...late, ...this.#queue.suspectItems()];
    }
    return [...running.flatMap((one) => one?.batch.items ?? []), ...this.#locked, ...this.#queue.items()];
  }

  /** Resolves when nothing is queued or under way. */
  drain(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    const drained = new Promise<void>((resolve) => this.#drained.push(resolve));
    this.#schedule();
    return drained;
  }

  stats(): GroupCommitStats {
    return {
      queuedMessages: this.#queue.entries,
      queuedSettlements: this.#queue.settlements + this.#locked.length,
      commits: this.#commits,
      committedMessages: this.#committedMessages,
      settlements: this.#settlements,
      rejected: this.#rejected,
      failures: this.#failures,
      commitAgeMs: this.#commitAgeMs(),
      failing: this.#failedLately(),
    };
  }

  #commitAgeMs(): number {
    let sinceMs = this.#steady();
    for (const running of this.#lanes)
      if (running !== null && running.sinceMs < sinceMs) sinceMs = running.sinceMs;
    return this.#steady() - sinceMs;
  }

  #failedLately(): boolean {
    const sinceMs = this.#steady() - this.#failedAtMs;
    return sinceMs >= 0 && sinceMs < FAILURE_MEMORY_MS;
  }

  /** Whether new messages are queued or under way. */
  get holdsMail(): boolean {
    return this.#queue.entries > 0 || this.#lanes.some((running) => (running?.batch.entries.length ?? 0) > 0);
  }

  /** Whether nothing is queued or under way. */
  get isIdle(): boolean {
    const waits = this.#locked.length + this.#withdrawals.waiting;
    return waits === 0 && this.#queue.isEmpty && this.#lanes.every((running) => running === null);
  }

  /** Begins commits once per turn of the event loop, so that what several threads send in one turn shares a batch. */
  #schedule(): void {
    if (this.#scheduled || !this.#lanes.includes(null)) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#next();
    });
  }

  #next(): void {
    for (let lane = this.#lanes.indexOf(null); lane >= 0; lane = this.#lanes.indexOf(null)) {
      const batch = this.#take();
      if (batch === null) {
        if (this.isIdle) for (const resolve of this.#drained.splice(0)) resolve();
        return;
      }
      this.#lanes[lane] = { batch, sinceMs: this.#steady() };
      const request = this.#request(batch, lane);
      this.#database.commit(request).then(
        (result) => this.#succeeded(batch, lane, request, result),
        (error: unknown) => this.#broke(batch, lane, error),
      );
    }
  }

  #take(): Batch | null {
    let others = 0;
    let settling = false;
    for (const running of this.#lanes) {
      if (running === null) continue;
      others++;
      settling ||= running.batch.items.length + running.batch.withdrawals.length > 0;
    }
    const suspect = settling ? null : this.#queue.takeSuspect(!this.#suspectsRest);
    if (suspect !== null) return suspect;
    const settle = !this.#resting && !settling && this.#settlementsAreReady();
    // More comes while a commit is under way, so another commit beside it must be large enough to be worth it.
    const settles = settle && this.#queue.settlements + this.#queue.withdrawals > 0;
    if (this.#settleApart) {
      if (settles) return this.#queue.take(true, true);
      const running = settling ? others - 1 : others;
      if (running >= this.#messageLanes) return null;
      if (running > 0 && this.#queue.entries < MIN_PARALLEL_MESSAGES) return null;
      return this.#queue.take(false, true);
    }
    if (others > 0 && !settles && this.#queue.entries < MIN_PARALLEL_MESSAGES) return null;
    return this.#queue.take(settle, this.#failing);
  }

  /** Whether settlements have gathered for long enough: their statements cost the same for one as for hundreds. */
  #settlementsAreReady(): boolean {
    const waiting = this.#queue.settlements;
    if (this.#settleLingerMs === 0 || waiting === 0 || waiting >= FULL_SETTLEMENTS) return true;
    if (this.#lingered || this.#drained.length > 0) {
      this.#lingered = false;
      return true;
    }
    if (!this.#lingering) {
      this.#lingering = true;
      this.#setTimer(() => {
        this.#lingering = false;
        this.#lingered = true;
        this.#schedule();
      }, this.#settleLingerMs);
    }
    return false;
  }

  #request({ entries, items, withdrawals }: Batch, lane: number): CommitBatch {
    const nowMs = this.#now();
    const request: CommitBatch = {
      token: `${this.#life}-${++this.#commits}`,
      messages: [],
      settlements: [],
      withdrawals,
      nowMs,
      leaseUntilMs: nowMs + this.#leaseMs,
      lane,
    };
    for (const entry of entries) request.messages.push({ message: entry.message, plan: this.#plan(entry) });
    for (let i = 0; i < items.length; i++) {
      const { settlement, dsns } = items[i] as SettleItem;
      settlement.fence = this.#fenceOf(items[i] as SettleItem);
      request.settlements.push(settlement);
      for (const dsn of dsns)
        request.messages.push({ message: dsn.message, plan: this.#plan(dsn), settlement: i });
    }
    return request;
  }

  /** The entry's plan. A DSN that is tried again keeps its plan, and the place reserved by it. */
  #plan(entry: Entry): OutboxPlan[] {
    if (entry.plan.length === 0) this.#ports.plan(entry);
    return entry.plan;
  }

  #succeeded(batch: Batch, lane: number, request: CommitBatch, result: CommitResult): void {
    this.#lanes[lane] = null;
    this.#failedAtMs = Number.NEGATIVE_INFINITY;
    if (batch.items.length + batch.withdrawals.length > 0) {
      this.#failing = false;
      this.#retryDelayMs = FIRST_RETRY_MS;
    }
    const { items, settlements, entries, committed } = this.#answers(batch, result);
    this.#withdrawals.answered(batch.withdrawals, result.withdrawLater ?? [], this.#drained.length > 0);
    this.#tryLater();
    const outcomes = entries.map((entry, i) => this.#outcome(entry, committed[i] === true));
    this.#settlements += items.length;
    for (const accepted of settlements) if (!accepted) this.#rejected++;
    // The next commit runs while the ports look at this one.
    this.#next();
    if (entries.length > 0) this.#ports.committed(entries, outcomes, request.leaseUntilMs);
    if (items.length > 0) this.#ports.settled(items, settlements);
  }

  /**
   * The parts of the batch that have an answer. Results of locked rows wait for another try. A result that was rejected
   * because this process itself leased the row again meanwhile is written once more, under the new lease.
   */
  #answers(batch: Batch, result: CommitResult) {
    const answers = {
      items: [] as SettleItem[],
      settlements: [] as boolean[],
      entries: batch.entries.slice(),
      committed: batch.entries.map((_, i) => result.messages[i] === 'committed'),
    };
    let at = batch.entries.length;
    batch.items.forEach((item, i) => {
      const accepted = result.settlements[i] === true;
      const dsnsFrom = at;
      at += item.dsns.length;
      if (result.settlements[i] === null) {
        this.#locked.push(item);
        if (!this.#lockedSince.has(item)) this.#lockedSince.set(item, this.#steady());
        return;
      }
      if (!accepted && this.#fenceOf(item) !== item.settlement.fence) {
        this.#queue.addItems([item]);
        return;
      }
      answers.items.push(item);
      answers.settlements.push(accepted);
      item.dsns.forEach((dsn, j) => {
        answers.entries.push(dsn);
        answers.committed.push(result.messages[dsnsFrom + j] === 'committed');
      });
    });
    return answers;
  }

  /** After a pause, tries again what another transaction has locked. */
  #tryLater(): void {
    if (this.#locked.length + this.#withdrawals.waiting === 0 || this.#waitsForLocked) return;
    this.#waitsForLocked = true;
    this.#setTimer(() => {
      this.#waitsForLocked = false;
      this.#queue.addItems(this.#locked.splice(0));
      this.#withdrawals.again();
      this.#schedule();
    }, LOCKED_RETRY_MS);
  }

  #fenceOf({ settlement, result }: SettleItem): number {
    return this.#ports.fenceOf?.(result) ?? settlement.fence;
  }

  /** From here on the session cannot give up any more. If it gave up before, the message must leave the queue again. */
  #outcome({ message }: Entry, committed: boolean): EntryOutcome {
    if (!committed) return 'withdrawn';
    this.#committedMessages++;
    const { committing, committed: done } = CONTENT_STATE;
    const { content } = message;
    // The database may have made this move already, before it did anything else with the rows.
    if (this.#arena.moveState(content, committing, done) || this.#arena.moveState(content, done, done))
      return 'committed';
    void this.#withdrawals.begin(message.queueId);
    return 'abandoned';
  }

  #broke(batch: Batch, lane: number, thrown: unknown): void {
    const error =
      thrown instanceof RelayError
        ? thrown
        : new RelayError(
            'database_refused',
            thrown instanceof Error ? thrown.message : String(thrown),
            thrown,
          );
    this.#lanes[lane] = null;
    this.#failures++;
    if (isOwnFault(error) && batch.entries.length + batch.items.length > 1) {
      // One of them may be to blame: the others must not fail with it.
      this.#queue.suspect([...batch.entries, ...batch.items]);
      this.#queue.putBack({ items: [], withdrawals: batch.withdrawals });
      this.#next();
      return;
    }
    if (!isOwnFault(error)) this.#failedAtMs = this.#steady();
    if (batch.items.length > 0 && (batch.alone || isOwnFault(error))) this.#setAside(batch);
    else this.#putBack(batch);
    this.#next();
    if (batch.entries.length > 0) this.#ports.failed(batch.entries, error);
  }

  /** Settlements that fail even alone are tried again now and then, away from the others. */
  #setAside({ items, withdrawals }: Batch): void {
    this.#queue.suspect(items);
    this.#queue.putBack({ items: [], withdrawals });
    this.#suspectsRest = true;
    this.#setTimer(() => {
      this.#suspectsRest = false;
      this.#schedule();
    }, LONGEST_RETRY_MS);
  }

  #putBack(batch: Batch): void {
    if (batch.items.length + batch.withdrawals.length === 0) return;
    this.#queue.putBack(batch);
    // Settlements may have failed because of the messages with them (queue full): they are tried at once without these.
    const atOnce = batch.entries.length > 0 && !this.#failing;
    this.#failing = true;
    if (atOnce) return;
    const delayMs = this.#retryDelayMs;
    this.#retryDelayMs = Math.min(LONGEST_RETRY_MS, delayMs * 2);
    this.#resting = true;
    this.#setTimer(() => {
      this.#resting = false;
      this.#schedule();
    }, delayMs);
  }
}
