/**
 * Group commit into the journal: everything that arrived while the last append ran goes into the next one. A message
 * gets exactly one verdict. If its session gives up while the message is written, a record of its own in the next
 * append voids it.
 */
import { RelayError } from '../base/errors.ts';
import type { Message } from '../mail/message.ts';
import { recordOf } from '../mail/message-record.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import { encodeMeta } from './format.ts';
import type { Appended, AppendTask } from './tasks.ts';

/** Bounds of one append. Clients wait for it, and a batch twice as large gains nothing. */
const MAX_MESSAGES = 500;
const MAX_BYTES = 8 * 1024 * 1024;
/** How long the journal counts as failing after an append that failed, unless one succeeds. */
const FAILURE_MEMORY_MS = 1000;
/** The relay counts as busy when appends are under way for at least this share of the time. */
const BUSY_SHARE = 0.5;
const NEWEST_WEIGHT = 0.05;
/** After this long without an append the relay does not count as busy. */
const IDLE_MS = 100;
/** Index of the content's handle in a message's wire; it has no meaning in another life. */
const CONTENT_AT = 2;

export type InboundOutcome = 'committed' | 'withdrawn' | 'abandoned';

export interface InboundPorts<E extends { message: Message }> {
  append(task: AppendTask): Promise<Appended>;
  /** Entries in order of their numbers, which begin at `appended.firstSeq`. */
  journaled(entries: E[], outcomes: InboundOutcome[], appended: Appended): void;
  failed(entries: E[], error: RelayError): void;
  now(): number;
}

export class Inbound<E extends { message: Message }> {
  readonly #ports: InboundPorts<E>;
  #queue: E[] = [];
  /** Records to void, as pairs of number and shard. */
  #withdrawals: number[] = [];
  #sinceMs: number | null = null;
  /** When the last append ended, and the mean share of the time in which one was under way. */
  #endedMs = 0;
  #load = 0;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  #scheduled = false;
  #drained: (() => void)[] = [];

  constructor(ports: InboundPorts<E>) {
    this.#ports = ports;
  }

  /** Takes messages to append, in order. Admission bounds them (persist_max_inflight_mails). */
  submit(entries: E[]): void {
    for (const entry of entries) this.#queue.push(entry);
    this.#schedule();
  }

  /** Age of the append under way; 0 when there is none. */
  get ageMs(): number {
    return this.#sinceMs === null ? 0 : this.#ports.now() - this.#sinceMs;
  }

  /** Whether new mail keeps this relay busy: appends follow one another with hardly a pause. */
  get busy(): boolean {
    return this.#load > BUSY_SHARE && this.#ports.now() - this.#endedMs < IDLE_MS;
  }

  #measure(sinceMs: number): void {
    const nowMs = this.#ports.now();
    const share = Math.min(1, (nowMs - sinceMs) / Math.max(1, nowMs - this.#endedMs));
    this.#load += (share - this.#load) * NEWEST_WEIGHT;
    this.#endedMs = nowMs;
  }

  /** Whether an append failed within the last second and none succeeded since. */
  get failing(): boolean {
    const sinceMs = this.#ports.now() - this.#failedAtMs;
    return sinceMs >= 0 && sinceMs < FAILURE_MEMORY_MS;
  }

  /** Resolves when nothing is queued or under way. */
  drain(): Promise<void> {
    if (this.#isIdle()) return Promise.resolve();
    this.#schedule();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  #isIdle(): boolean {
    return this.#sinceMs === null && this.#queue.length + this.#withdrawals.length === 0;
  }

  /** Begins an append once per turn of the event loop, so that what several threads send in one turn shares it. */
  #schedule(): void {
    if (this.#scheduled || this.#sinceMs !== null) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.#sinceMs === null) this.#next();
    });
  }

  #next(): void {
    if (this.#queue.length + this.#withdrawals.length === 0) {
      for (const resolve of this.#drained.splice(0)) resolve();
      return;
    }
    const entries = this.#take();
    const task: AppendTask = {
      kind: 'append',
      metas: [],
      contents: [],
      shards: [],
      withdrawals: this.#withdrawals,
    };
    this.#withdrawals = [];
    for (const { message } of entries) {
      const record = recordOf(message);
      record[CONTENT_AT] = 0;
      task.metas.push(encodeMeta(record));
      task.contents.push(message.content);
      task.shards.push(shardOfQueueId(message.queueId));
    }
    this.#sinceMs = this.#ports.now();
    this.#ports.append(task).then(
      (appended) => this.#succeeded(entries, task, appended),
      (error: unknown) => this.#broke(entries, task, error),
    );
  }

  #take(): E[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#queue.length && count < MAX_MESSAGES) {
      bytes += (this.#queue[count] as E).message.sizeBytes;
      if (count > 0 && bytes > MAX_BYTES) break;
      count++;
    }
    if (count === this.#queue.length) {
      const all = this.#queue;
      this.#queue = [];
      return all;
    }
    return this.#queue.splice(0, count);
  }

  #succeeded(entries: E[], { shards }: AppendTask, appended: Appended): void {
    this.#measure(this.#sinceMs ?? this.#endedMs);
    this.#sinceMs = null;
    this.#failedAtMs = Number.NEGATIVE_INFINITY;
    const outcomes: InboundOutcome[] = new Array(entries.length).fill('committed');
    for (const i of appended.withdrawn) outcomes[i] = 'withdrawn';
    for (const i of appended.abandoned) {
      outcomes[i] = 'abandoned';
      this.#withdrawals.push(appended.firstSeq + i, shards[i] as number);
    }
    // The next append runs while the ports look at this one.
    this.#next();
    if (entries.length > 0) this.#ports.journaled(entries, outcomes, appended);
  }

  #broke(entries: E[], { withdrawals }: AppendTask, thrown: unknown): void {
    const error =
      thrown instanceof RelayError ? thrown : new RelayError('storage_failed', String(thrown), thrown);
    this.#sinceMs = null;
    // A journal that is full is no sign of a fault.
    if (error.code !== 'storage_full') this.#failedAtMs = this.#ports.now();
    this.#withdrawals = withdrawals.concat(this.#withdrawals);
    if (entries.length > 0) {
      this.#next();
      this.#ports.failed(entries, error);
    } else setTimeout(() => this.#schedule(), FAILURE_MEMORY_MS).unref();
  }
}
