/**
 * The journal of one relay process: mail is acknowledged once it is durable here (I1: on this node's disk), and then
 * transferred to the shards, by a lane for each. Bounded by `journal.max_mb` on disk, and in memory by a share of the
 * content arena (I5).
 */

import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { CommitBatch, CommitResult, JournalMark, OutboxPlan } from '../database/database.ts';
import type { Message } from '../mail/message.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import { type Arena, CHUNK_BYTES, CONTENT_UNIT_BYTES } from '../native.ts';
import { DrainLane } from './drain-lane.ts';
import { Inbound, type InboundOutcome } from './inbound.ts';
import type { JournalClient } from './journal-client.ts';
import type { Draining, LanePorts } from './lane-ports.ts';
import type { JournalState } from './state-file.ts';
import type { Appended, Opened } from './tasks.ts';

export interface JournalPorts<E> {
  mark(shard: number, journal: string): Promise<{ mark: JournalMark; queue: string }>;
  commit(batch: CommitBatch): Promise<CommitResult>;
  plan(entry: Draining): void;
  /** The message is in its shard. The journal keeps its reference on the content. */
  drained(entry: Draining, leaseUntilMs: number): void;
  cancel(plan: OutboxPlan[]): void;
  /**
   * @param isDurable true: the message is in the journal, which has its own reference on the content; false: its
   *   session gave up before.
   */
  answered(entry: E, isDurable: boolean): void;
  failed(entries: E[], error: RelayError): void;
  /** Says whether new mail has to be refused, because the journal is full. */
  full(isFull: boolean): void;
}

export interface JournalOptions {
  folder: string;
  /** The shards in the configuration. */
  shards: readonly { id: number; name: string }[];
  maxBytes: number;
  /** Once a message has waited this long, its transfer no longer makes way for new mail. */
  maxDelayMs: number;
  arena: Pick<Arena, 'totalBytes' | 'freeBytes' | 'retain' | 'release' | 'file'>;
  leaseMs: number;
  log: Log;
  now?: () => number;
}

export interface JournalStats {
  bytes: number;
  maxBytes: number;
  /** Messages not taken over yet. */
  waiting: number;
  /** When the oldest of them was received. */
  oldestMs: number | null;
  shards: DrainLane['stats'][];
}

/** Messages that wait for their shard may take this share of the arena, and must leave FREE_SHARE of it free. */
const MEMORY_SHARE = 1 / 2;
const FREE_SHARE = 1 / 4;
/** Content in an open file counts as this much memory: descriptors are scarce, too. */
const FILE_BYTES = 16 * CHUNK_BYTES;
/**
 * New mail is refused when less than this share of the journal is free: it is for mail that is on its way in already.
 */
const RESERVE_SHARE = 1 / 16;
/** Least time between two messages to the journal's thread about marks; and between two that save them. */
const TELL_MARKS_MS = 100;
const SAVE_MARKS_MS = 5000;
/** While new mail keeps the relay busy, a lane rests this many times as long as a transfer took. */
const YIELD_REST = 4;
/** It does not rest when more than this share of the journal is full. */
const YIELD_SHARE = 1 / 2;
const COMPACT_PAUSE_MS = 5;

export class Journal<E extends { message: Message }> {
  readonly #client: JournalClient;
  readonly #ports: JournalPorts<E>;
  readonly #options: JournalOptions;
  readonly #now: () => number;
  /** The clock for durations. */
  readonly #steady: () => number;
  readonly #inbound: Inbound<E>;
  readonly #lanes = new Map<number, DrainLane>();
  #state: JournalState | null = null;
  #bytes = 0;
  #heldBytes = 0;
  #full = false;
  #told: Promise<void> | null = null;
  /** Marks have moved, and the thread was not told yet. */
  #untold = false;
  #tellPauseMs = TELL_MARKS_MS;
  #savedAtMs = 0;
  #compacting = false;
  #stopped = false;

  constructor(client: JournalClient, ports: JournalPorts<E>, options: JournalOptions) {
    this.#client = client;
    this.#ports = ports;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#steady = options.now ?? steadyMs;
    this.#inbound = new Inbound<E>({
      append: (task) => client.run(task),
      journaled: (entries, outcomes, appended) => this.#journaled(entries, outcomes, appended),
      failed: (entries, error) => {
        ports.failed(entries, error);
      },
      now: this.#steady,
    });
  }

  /**
   * Reads what the life before left.
   * @throws RelayError when another version wrote it, or mail waits in it for a shard that the configuration does not
   *   have.
   */
  async open(): Promise<Opened> {
    const opened = await this.#client.run({ kind: 'open' });
    this.#state = opened.state;
    const { log, shards, folder } = this.#options;
    for (const [shard, { records }] of opened.waiting)
      if (records > 0 && shards.every(({ id }) => id !== shard))
        throw new RelayError(
          'config_invalid',
          `${records} messages in the journal ${folder} wait for shard ${shard}, which the config does not have: put the shard back (with "weight": 0 it gets nothing new) until they are drained`,
        );
    for (const { segment, at, bytes, records } of opened.lost)
      log.error('journal.damaged', {
        segment,
        offset_bytes: at,
        bytes,
        records,
        advice:
          'the disk gave back other bytes than were written; what can be read is drained, and the segment kept as *.damaged',
      });
    if (opened.tailBytes > 0) log.warn('journal.tail_cut', { bytes: opened.tailBytes });
    const waiting = new Map(opened.waiting);
    for (const { id, name } of shards) {
      const none = { records: 0, bytes: 0, oldestMs: null };
      const options = {
        shard: id,
        name,
        journal: opened.state.journal,
        firstSeq: opened.firstSeq,
        waiting: waiting.get(id) ?? none,
        leaseMs: this.#options.leaseMs,
        log,
      };
      this.#lanes.set(id, new DrainLane(this.#lanePorts(), options));
    }
    this.#measure(opened.bytes);
    if (this.waiting > 0) log.info('journal.replays', { waiting: this.waiting, bytes: opened.bytes });
    return opened;
  }

  #lanePorts(): LanePorts {
    const { arena } = this.#options;
    const { totalBytes } = arena;
    const bytesOf = ({ content, sizeBytes }: Message): number =>
      arena.file(content) === null ? Math.max(sizeBytes, CONTENT_UNIT_BYTES) : FILE_BYTES;
    return {
      mark: (shard) => this.#ports.mark(shard, (this.#state as JournalState).journal),
      begin: async (shard, mark, queue) => {
        await this.#checkQueue(shard, queue);
        return this.#client.run({ kind: 'begin', shard, mark });
      },
      read: (task) => this.#client.run(task),
      commit: (batch) => this.#ports.commit(batch),
      plan: (entry) => this.#ports.plan(entry),
      drained: (entry, leaseUntilMs) => this.#ports.drained(entry, leaseUntilMs),
      cancel: (plan) => this.#ports.cancel(plan),
      release: (content) => arena.release(content),
      room: () =>
        Math.floor(
          Math.min(totalBytes * MEMORY_SHARE - this.#heldBytes, arena.freeBytes() - totalBytes * FREE_SHARE) /
            CHUNK_BYTES,
        ),
      kept: (message) => {
        this.#heldBytes += bytesOf(message);
      },
      gone: (message) => {
        this.#heldBytes -= bytesOf(message);
      },
      pace: (oldestMs) => this.#pace(oldestMs),
      passed: () => this.#tellPassed(),
      now: this.#now,
      steady: this.#steady,
      setTimer: (fire, ms) => void setTimeout(fire, ms).unref(),
    };
  }

  /**
   * How long a lane rests after a transfer: new mail comes first, while there is room for it and nothing has waited
   * too long.
   */
  #pace(oldestMs: number | null): number {
    const { maxBytes, maxDelayMs } = this.#options;
    if (!this.#inbound.busy || this.#bytes > maxBytes * YIELD_SHARE) return 0;
    return oldestMs !== null && this.#now() - oldestMs > maxDelayMs ? 0 : YIELD_REST;
  }

  /** The rest of a shard's mail must go to the queue that has the first part of it. A lane without mail may go anywhere. */
  async #checkQueue(shard: number, queue: string): Promise<void> {
    const state = this.#state as JournalState;
    const before = state.queues[shard];
    if (before === queue) return;
    if (before !== undefined && (this.#lanes.get(shard)?.depth ?? 0) > 0)
      throw new RelayError(
        'config_invalid',
        `the journal ${this.#options.folder} holds mail for another queue than the one shard ${shard} has now (${before}, now ${queue}): point the shard at its old database until the journal is drained`,
      );
    const queues = { ...state.queues, [shard]: queue };
    await this.#client.run({ kind: 'remember', queues });
    state.queues = queues;
  }

  /**
   * Begins to drain. Shards that answer are asked first, so that a mistake ends the start.
   * @throws RelayError when a shard is not the one mail was drained to before.
   */
  async start(): Promise<void> {
    const errors = await Promise.all(
      [...this.#lanes.values()].map((lane) =>
        lane.tryBegin().then(
          () => null,
          (error: unknown) => error,
        ),
      ),
    );
    for (const error of errors)
      if (error instanceof RelayError && !error.temporary && error.code !== 'schema_unknown') throw error;
    for (const lane of this.#lanes.values()) lane.start();
  }

  /** Takes complete messages; each gets its verdict once. */
  submit(entries: E[]): void {
    this.#inbound.submit(entries);
  }

  get ageMs(): number {
    return this.#inbound.ageMs;
  }

  get failing(): boolean {
    return this.#inbound.failing;
  }

  get slot(): JournalState['slot'] {
    return this.#state?.slot ?? null;
  }

  /** Stores the number of this process, for a start while no server answers. */
  async rememberSlot(number: number): Promise<void> {
    const slot = { number, seenAtMs: this.#now() };
    await this.#client.run({ kind: 'remember', slot });
    if (this.#state !== null) this.#state.slot = slot;
  }

  /** Number of messages not taken over yet. */
  get waiting(): number {
    let sum = 0;
    for (const lane of this.#lanes.values()) sum += lane.depth;
    return sum;
  }

  stats(): JournalStats {
    const shards = [...this.#lanes.values()].map((lane) => lane.stats);
    const times = shards.flatMap(({ oldestMs }) => (oldestMs === null ? [] : [oldestMs]));
    return {
      bytes: this.#bytes,
      maxBytes: this.#options.maxBytes,
      waiting: this.waiting,
      oldestMs: times.length === 0 ? null : Math.min(...times),
      shards,
    };
  }

  #journaled(entries: E[], outcomes: InboundOutcome[], appended: Appended): void {
    const { arena } = this.#options;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as E;
      const { message } = entry;
      if (outcomes[i] !== 'committed') {
        this.#ports.answered(entry, false);
        continue;
      }
      arena.retain(message.content);
      this.#lanes
        .get(shardOfQueueId(message.queueId))
        ?.add(appended.firstSeq + i, message, appended.position);
      this.#ports.answered(entry, true);
    }
    this.#measure(appended.bytes);
  }

  #measure(bytes: number): void {
    this.#bytes = bytes;
    const { maxBytes, log } = this.#options;
    const isFull = bytes > maxBytes * (1 - RESERVE_SHARE);
    if (isFull === this.#full) return;
    this.#full = isFull;
    this.#ports.full(isFull);
    if (isFull) log.warn('journal.full', { bytes, waiting: this.waiting });
    else log.info('journal.has_room', { bytes, waiting: this.waiting });
  }

  /** Tells the thread, a little later and of all marks at once, so that it deletes segments that are not needed. */
  #tellPassed(): void {
    this.#untold = true;
    if (this.#told !== null || this.#stopped) return;
    this.#told = new Promise<void>((resolve) => void setTimeout(resolve, this.#tellPauseMs).unref())
      .then(() => {
        this.#untold = false;
        this.#tellPauseMs = TELL_MARKS_MS;
        return this.#passed();
      })
      .catch((error: unknown) => {
        this.#options.log.warn('journal.cannot_tidy', { error });
        this.#tellPauseMs = SAVE_MARKS_MS;
        this.#untold = true;
      })
      .finally(() => {
        this.#told = null;
        if (this.#untold) this.#tellPassed();
      });
  }

  async #passed(): Promise<void> {
    if (this.#stopped) return;
    const marks: [number, JournalMark][] = [];
    for (const { shard, mark } of this.#lanes.values()) if (mark !== null) marks.push([shard, mark]);
    const save = this.waiting === 0 && this.#steady() - this.#savedAtMs >= SAVE_MARKS_MS;
    if (save) this.#savedAtMs = this.#steady();
    const { bytes, compactable } = await this.#client.run({ kind: 'passed', marks, save });
    this.#measure(bytes);
    if (compactable && !this.#compacting) void this.#compact();
  }

  /** Compacts step by step, so that new mail is appended between the steps. */
  async #compact(): Promise<void> {
    this.#compacting = true;
    try {
      while (!this.#stopped && (await this.#client.run({ kind: 'compact' })))
        await new Promise((resolve) => setTimeout(resolve, COMPACT_PAUSE_MS).unref());
      if (!this.#stopped) await this.#passed();
    } catch (error) {
      this.#options.log.warn('journal.cannot_tidy', { error });
    }
    this.#compacting = false;
  }

  /** Resolves when everything submitted has its verdict. */
  settled(): Promise<void> {
    return this.#inbound.drain();
  }

  /** From now on small batches do not wait for more. */
  hurry(): void {
    for (const lane of this.#lanes.values()) lane.hurry();
  }

  /** Resolves when every shard has all its messages, except those it refuses. */
  async drained(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map((lane) => lane.drained()));
  }

  /** Shards that do not have all their messages yet. */
  busy(): number[] {
    return [...this.#lanes].flatMap(([shard, lane]) => (lane.isIdle ? [] : [shard]));
  }

  /** Begins no further transfer; resolves when those under way are over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#lanes.values()].map((lane) => lane.stop()));
  }

  /** Mail that waits stays for the next start. @param discard whether to delete a journal that is empty. */
  async close(discard: boolean): Promise<void> {
    this.#stopped = true;
    await this.#told;
    const marks: [number, JournalMark][] = [];
    for (const { shard, mark } of this.#lanes.values()) if (mark !== null) marks.push([shard, mark]);
    if (this.#state !== null)
      await this.#client.run({ kind: 'passed', marks, save: true }).catch((error: unknown) => {
        this.#options.log.warn('journal.cannot_tidy', { error });
      });
    await this.#client.close(discard && this.#state !== null && this.waiting === 0);
  }
}
