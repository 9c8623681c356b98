/**
 * Transfers what the journal holds for one shard to it, in order and exactly once: the shard notes in the same
 * transaction how far it is (I6). Messages stay in memory while there is room for them; from the first that has no
 * room on, they are read back when their turn comes. A message that the shard refuses even alone is set aside and
 * tried now and then; it holds up no other.
 */
import { randomBytes } from 'node:crypto';
import { RelayError } from '../base/errors.ts';
import type { CommitBatch, JournalMark } from '../database/database.ts';
import type { Message } from '../mail/message.ts';
import { readRecord } from '../mail/message-record.ts';
import { decodeMeta } from './format.ts';
import type { Draining, LaneOptions, LanePorts } from './lane-ports.ts';
import type { Position, ReadBack } from './tasks.ts';

/** Number of the lane in the database; group commits of the shard use lower ones, and go on beside it. */
const DRAIN_LANE = 64;
const MAX_MESSAGES = 500;
const MAX_BYTES = 8 * 1024 * 1024;
const MAX_RECIPIENTS = 20_000;
/** Fewer messages than this wait LINGER_MS for more, because the cost of a transaction is paid once for all of them. */
const WORTH_A_TRANSACTION = 250;
const LINGER_MS = 50;
/** Longest pause after a transfer for the sake of new mail. */
const LONGEST_PACE_MS = 250;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5000;
/** A commit that takes longer is reported as a failure: its server may have gone away in the middle of it. */
const LATE_COMMIT_MS = 5000;
/** Most messages set aside; if there were more, the fault would not be in the messages. */
const MAX_ASIDE = 100;
const ASIDE_RETRY_MS = 60_000;

/** This many messages are read back however little room there is: only their transfer makes room. */
const MIN_READ = 16;

/** Whether one of the messages may have caused the error. */
const isOwnFault = ({ code }: RelayError): boolean =>
  code === 'database_refused' || code === 'storage_failed' || code === 'content_missing';

export class DrainLane {
  readonly #ports: LanePorts;
  readonly #options: LaneOptions;
  readonly #life = randomBytes(4).toString('hex');
  #begun = false;
  #mark: JournalMark = { seq: 0, pending: [] };
  /** The next messages in turn, in memory. */
  #window: Draining[] = [];
  /** Every record up to this number has been in the window, or does not have to be. */
  #taken = 0;
  /** Number of the newest record. */
  #newest = 0;
  /** Messages follow that are not in the window, and have to be read back from the journal. */
  #behind = true;
  /** How many windows were given up: tells a read that began before. */
  #epoch = 0;
  #from: Position | null = null;
  /** Numbers that were pending at the start, and were not read yet. */
  #unread: number[] = [];
  readonly #aside = new Map<number, { entry: Draining; retryAtMs: number }>();
  #depth: number;
  #oldestMs: number | null;
  #committing = false;
  #reading = false;
  #resting = false;
  #lingering = false;
  #lingered = false;
  /** The arena had no room for more messages than the window has. */
  #short = false;
  #hurry = false;
  #stopped = false;
  #limit = MAX_MESSAGES;
  #retryDelayMs = FIRST_RETRY_MS;
  #failingSinceMs: number | null = null;
  #lastError = '';
  #commits = 0;
  #idle: (() => void)[] = [];

  constructor(ports: LanePorts, options: LaneOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#depth = options.waiting.records;
    this.#oldestMs = options.waiting.oldestMs;
  }

  get shard(): number {
    return this.#options.shard;
  }

  /** null until the shard has said how far it is. */
  get mark(): JournalMark | null {
    return this.#begun ? this.#mark : null;
  }

  /** Number of messages that wait, including those set aside. */
  get depth(): number {
    return this.#depth;
  }

  get stats() {
    return {
      shard: this.#options.shard,
      name: this.#options.name,
      waiting: this.#depth,
      aside: this.#aside.size,
      oldestMs: this.#depth === 0 ? null : (this.#window[0]?.message.receivedAtMs ?? this.#oldestMs),
      error: this.#failingSinceMs === null ? null : this.#lastError,
    };
  }

  /** Asks the shard how far it is until it answers, then begins to drain. */
  start(): void {
    void this.#begin();
  }

  /** Asks the shard once. @throws RelayError when it cannot be asked, or is another than before. */
  async tryBegin(): Promise<void> {
    const { shard, firstSeq } = this.#options;
    const { mark, queue } = await this.#ports.mark(shard);
    if (mark.seq >= firstSeq)
      throw new RelayError(
        'database_refused',
        `shard ${this.#options.name} has later records of journal ${this.#options.journal} than there are: the journal's folder is an old copy; move it away and restart`,
      );
    const { records, oldestMs } = await this.#ports.begin(shard, mark, queue);
    this.#mark = { seq: mark.seq, pending: [...mark.pending] };
    this.#unread = [...mark.pending];
    this.#taken = mark.seq;
    this.#depth = records;
    this.#oldestMs = oldestMs;
    this.#begun = true;
    this.#recovered();
  }

  async #begin(): Promise<void> {
    while (!this.#begun && !this.#stopped) {
      try {
        await this.tryBegin();
      } catch (error) {
        this.#fails(error);
        await new Promise<void>((resolve) => this.#ports.setTimer(resolve, this.#pauseMs()));
      }
    }
    this.#next();
  }

  /** Takes a message that is in the journal now, and the reference on its content. */
  add(seq: number, message: Message, position: Position): void {
    this.#newest = seq;
    if (!this.#behind && seq <= this.#taken) {
      this.#ports.release(message.content); // a read has found it already
      return;
    }
    this.#depth++;
    this.#oldestMs ??= message.receivedAtMs;
    if (!this.#behind && this.#ports.room() > 0) {
      this.#keep(seq, message);
      this.#taken = seq;
      this.#next();
      return;
    }
    if (!this.#behind) this.#from = position;
    this.#behind = true;
    this.#ports.release(message.content);
    if (this.#window.length === 0) this.#next();
  }

  #keep(seq: number, message: Message): void {
    this.#ports.kept(message);
    this.#window.push({ seq, message, plan: [] });
  }

  /** From now on small batches do not wait for more. */
  hurry(): void {
    this.#hurry = true;
    this.#next();
  }

  /** Resolves when no message waits except those set aside. */
  drained(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Whether no message waits except those set aside. */
  get isIdle(): boolean {
    return !this.#committing && this.#depth <= this.#aside.size;
  }

  /** Begins nothing more. Resolves when work under way is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (!this.#committing && !this.#reading) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #settle(): void {
    if (this.isIdle || (this.#stopped && !this.#committing && !this.#reading))
      for (const resolve of this.#idle.splice(0)) resolve();
  }

  #next(): void {
    this.#settle();
    if (this.#stopped || !this.#begun || this.#resting) return;
    if (this.#behind && this.#window.length < MAX_MESSAGES / 2 && !this.#reading) void this.#read();
    if (this.#committing || this.#window.length === 0 || !this.#isWorthIt()) return;
    void this.#commit(this.#take());
  }

  #isWorthIt(): boolean {
    const isFull = this.#window.length >= Math.min(WORTH_A_TRANSACTION, this.#limit);
    if (isFull || this.#short || this.#hurry || this.#lingered) {
      this.#lingered = false;
      return true;
    }
    if (this.#lingering) return false;
    this.#lingering = true;
    this.#ports.setTimer(() => {
      this.#lingering = false;
      this.#lingered = true;
      this.#next();
    }, LINGER_MS);
    return false;
  }

  #take(): Draining[] {
    let bytes = 0;
    let recipients = 0;
    let count = 0;
    while (count < this.#window.length && count < this.#limit) {
      const { message } = this.#window[count] as Draining;
      bytes += message.sizeBytes;
      recipients += message.envelope.recipients.length;
      if (count > 0 && (bytes > MAX_BYTES || recipients > MAX_RECIPIENTS)) break;
      count++;
    }
    return this.#window.splice(0, count);
  }

  async #read(): Promise<void> {
    this.#reading = true;
    const { shard } = this.#options;
    const epoch = this.#epoch;
    try {
      const back = await this.#ports.read({
        kind: 'read',
        shard,
        after: this.#taken,
        pending: this.#unread,
        from: this.#from,
        limit: Math.max(MIN_READ, Math.min(MAX_MESSAGES, this.#ports.room())),
        maxBytes: MAX_BYTES,
      });
      // If the window was given up meanwhile, these messages are not next in turn any more.
      if (epoch === this.#epoch) this.#takeBack(back);
      else for (const { content } of back.entries) this.#ports.release(content);
    } catch (error) {
      this.#fails(error);
      this.#rest();
    }
    this.#reading = false;
    this.#next();
  }

  #takeBack({ entries, passed, lost, upTo, next, end, short }: ReadBack): void {
    for (const { segment, at, bytes, queueId, reversePath } of lost)
      this.#options.log.error('journal.record_lost', {
        queue_id: queueId,
        sender: reversePath,
        segment,
        offset_bytes: at,
        bytes,
        advice: 'the disk gave back other bytes than were written; the segment is kept as *.damaged',
      });
    for (const { seq, meta, content } of entries) {
      const message = readRecord(decodeMeta(meta));
      message.content = content;
      if (this.#aside.has(seq)) this.#ports.release(content);
      else this.#keep(seq, message);
    }
    const seen = new Set([...passed, ...entries.map(({ seq }) => seq)]);
    this.#unread = this.#unread.filter((seq) => !seen.has(seq));
    this.#mark.pending = this.#mark.pending.filter((seq) => !passed.includes(seq));
    this.#taken = Math.max(this.#taken, upTo);
    this.#from = next;
    // More may have come since the read was asked for.
    if (end && this.#newest <= this.#taken) {
      this.#behind = false;
      this.#depth = this.#window.length + this.#aside.size + this.#inCommit;
      this.#unread = [];
    }
    this.#short = short;
    if (short && entries.length === 0 && this.#window.length === 0) this.#rest();
  }

  /** Number of messages in the commit under way. */
  #inCommit = 0;

  async #commit(entries: Draining[]): Promise<void> {
    this.#committing = true;
    this.#inCommit = entries.length;
    const last = entries.at(-1) as Draining;
    const inBatch = new Set(entries.map(({ seq }) => seq));
    const pending = [...this.#mark.pending, ...this.#unread, ...this.#aside.keys()].filter(
      (seq) => !inBatch.has(seq),
    );
    const mark = { seq: Math.max(this.#mark.seq, last.seq), pending: [...new Set(pending)] };
    const request = this.#request(entries, mark);
    this.#watchCommit(this.#commits);
    let restMs = 0;
    const sinceMs = this.#ports.steady();
    try {
      const { messages } = await this.#ports.commit(request);
      if (messages.some((outcome) => outcome !== 'committed'))
        throw new RelayError('database_refused', 'a message out of the journal was not taken');
      this.#mark = mark;
      restMs = (this.#ports.steady() - sinceMs) * this.#pace();
      this.#succeeded(entries, request.leaseUntilMs);
    } catch (error) {
      this.#broke(entries, error);
    }
    this.#committing = false;
    this.#inCommit = 0;
    if (restMs >= 1) this.#restFor(Math.min(LONGEST_PACE_MS, restMs));
    this.#next();
  }

  #watchCommit(number: number): void {
    this.#ports.setTimer(() => {
      if (this.#committing && this.#commits === number)
        this.#fails(new Error(`the commit has had no answer for ${LATE_COMMIT_MS} ms`));
    }, LATE_COMMIT_MS);
  }

  #request(entries: Draining[], mark: JournalMark): CommitBatch {
    const nowMs = this.#ports.now();
    for (const entry of entries) this.#ports.plan(entry);
    return {
      token: `${this.#life}-${++this.#commits}`,
      messages: entries.map(({ message, plan }) => ({ message, plan })),
      settlements: [],
      withdrawals: [],
      nowMs,
      leaseUntilMs: nowMs + this.#options.leaseMs,
      lane: DRAIN_LANE,
      journal: { journal: this.#options.journal, seqs: entries.map(({ seq }) => seq), mark },
    };
  }

  #succeeded(entries: Draining[], leaseUntilMs: number): void {
    this.#depth = Math.max(0, this.#depth - entries.length);
    this.#limit = Math.min(MAX_MESSAGES, this.#limit * 2);
    this.#recovered();
    for (const entry of entries) {
      this.#ports.drained(entry, leaseUntilMs);
      this.#letGo(entry.message);
    }
    if (this.#depth === 0) this.#oldestMs = null;
    this.#ports.passed(this.#options.shard);
  }

  #letGo(message: Message): void {
    this.#ports.gone(message);
    this.#ports.release(message.content);
  }

  #broke(entries: Draining[], thrown: unknown): void {
    for (const entry of entries) {
      this.#ports.cancel(entry.plan);
      entry.plan = [];
    }
    const error = thrown instanceof RelayError ? thrown : new RelayError('database_refused', String(thrown));
    if (isOwnFault(error) && entries.length > 1) {
      this.#limit = Math.ceil(entries.length / 2);
      this.#window = entries.concat(this.#window);
      return;
    }
    const only = entries[0] as Draining;
    if (isOwnFault(error) && this.#aside.size < MAX_ASIDE) {
      this.#setAside(only, error);
      return;
    }
    this.#window = entries.concat(this.#window);
    const again = this.#failingSinceMs !== null;
    this.#fails(error);
    if (again) this.#dropWindow();
    this.#rest();
  }

  #setAside(entry: Draining, error: RelayError): void {
    const { queueId } = entry.message;
    this.#options.log.error('journal.message_refused', {
      queue_id: queueId,
      shard: this.#options.name,
      error: error.message,
      advice: 'it stays in the journal and is tried again now and then',
    });
    this.#aside.set(entry.seq, { entry, retryAtMs: this.#ports.now() + ASIDE_RETRY_MS });
    // The mark notes it as pending, so the mark can pass it.
    this.#ports.setTimer(() => {
      if (!this.#aside.delete(entry.seq) || this.#stopped) return;
      this.#window.unshift(entry);
      this.#limit = 1;
      this.#next();
    }, ASIDE_RETRY_MS);
  }

  /** The shard is away: its messages give up their memory to others, and are read back later. */
  #dropWindow(): void {
    const [first] = this.#window;
    if (first === undefined) return;
    this.#oldestMs = first.message.receivedAtMs;
    for (const { message } of this.#window) this.#letGo(message);
    this.#window = [];
    this.#epoch++;
    this.#behind = true;
    this.#from = null;
    this.#taken = this.#mark.seq;
    this.#unread = this.#mark.pending.filter((seq) => !this.#aside.has(seq));
  }

  #pace(): number {
    if (this.#hurry) return 0;
    return this.#ports.pace(this.#window[0]?.message.receivedAtMs ?? this.#oldestMs);
  }

  #rest(): void {
    this.#restFor(this.#pauseMs());
  }

  #restFor(ms: number): void {
    if (this.#resting) return;
    this.#resting = true;
    this.#ports.setTimer(() => {
      this.#resting = false;
      this.#next();
    }, ms);
  }

  #pauseMs(): number {
    const ms = this.#retryDelayMs;
    this.#retryDelayMs = Math.min(LONGEST_RETRY_MS, ms * 2);
    return ms;
  }

  #fails(thrown: unknown): void {
    const { message } = thrown as Error;
    this.#lastError = message;
    if (this.#failingSinceMs !== null) return;
    this.#failingSinceMs = this.#ports.steady();
    const { name } = this.#options;
    this.#options.log.warn('journal.cannot_drain', { shard: name, waiting: this.#depth, error: message });
  }

  #recovered(): void {
    this.#retryDelayMs = FIRST_RETRY_MS;
    if (this.#failingSinceMs === null) return;
    const afterMs = this.#ports.steady() - this.#failingSinceMs;
    this.#failingSinceMs = null;
    const { name } = this.#options;
    this.#options.log.info('journal.drains', { shard: name, waiting: this.#depth, down_ms: afterMs });
  }
}
