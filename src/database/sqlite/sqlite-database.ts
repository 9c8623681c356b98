/**
 * The embedded queue database: one sqlite file, one writer. Promises that a commit is all or nothing and, once it
 * resolves, on stable storage (I1). Lives on the persistence thread; every call here blocks that thread and no other.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { RelayError } from '../../base/errors.ts';
import type { BegunRow } from '../../mail/begun-slots.ts';
import type { RouteTable } from '../../mail/destination.ts';
import type { Message } from '../../mail/message.ts';
import { type Counted, type CountKey, type CountSlice, countBySlices } from '../../mail/queue-counts.ts';
import { rowsOfLines } from '../../mail/queue-lines.ts';
import type { QueueRow } from '../../mail/queue-row.ts';
import type { QueueFile, QueueStats, StatsSlice } from '../../mail/queue-stats.ts';
import type { SuppressionAnswer, SuppressionAsk } from '../../mail/suppression.ts';
import type { SuspectMark } from '../../mail/suspicion.ts';
import { type Arena, CONTENT_STATE } from '../../native.ts';
import type { ContentRef, Storage, StorageItem } from '../../storage/storage.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
  CommitMessage,
  CommitResult,
  Database,
  DestinationBacklog,
  KeepTimes,
  LeasedKey,
  MailDetail,
  OperateAction,
  OperateBounds,
  OperatePart,
  OperateResult,
  QueueFilter,
  Recovered,
  ReleasedRow,
  Selection,
  SuppressionNotes,
  SuspectedRow,
} from '../database.ts';
import type { FailedLimits, FailedMark, FailedSlice } from '../kept-failed.ts';
import type { QueueDatabase } from '../queue-database.ts';
import type { ListSlice } from '../select-rows.ts';
import { listBySlices, type OperateSlice, operateBySlices, statsBySlices } from '../slices.ts';
import { Claimer } from './claim.ts';
import { Compactor } from './compact.ts';
import { Counter } from './count.ts';
import { addFunctions } from './dialect.ts';
import { contentRef, MAIL_FACTS, MailEraser, type MailFacts } from './erase.ts';
import { sqliteError } from './errors.ts';
import { MessageInserter } from './insert.ts';
import { Inspector } from './inspect.ts';
import { LastCommit } from './last-commit.ts';
import { Operator } from './operate.ts';
import { Purger } from './purge.ts';
import { Recovery } from './recover.ts';
import { Settler } from './settle.ts';
import { markSuspects, suspectRows } from './suspect.ts';

/** Estimates of what goes to the log: for a commit the pages that every commit touches, and for each recipient. */
const COMMIT_BYTES = 6 * 8192;
const RECIPIENT_BYTES = 700;
const SWEEP_INTERVAL_MS = 6 * 3_600_000;

export interface SqliteOptions extends KeepTimes {
  /** For messages to the operator. */
  file: string;
  nodeId: string;
  routes: RouteTable;
  /** Most messages held; null: as many as the disk takes. */
  maxMessages: number | null;
  suppressed?: SuppressionNotes;
}

export class SqliteDatabase implements Omit<Database, 'purge'>, QueueDatabase {
  readonly #db: DatabaseSync;
  readonly #storage: Storage;
  readonly #arena: Arena;
  readonly #options: SqliteOptions;
  readonly #eraser: MailEraser;
  readonly #inserter: MessageInserter;
  readonly #settler: Settler;
  readonly #claimer: Claimer;
  readonly #inspector: Inspector;
  readonly #counter: Counter;
  readonly #compactor: Compactor;
  readonly #operator: Operator;
  readonly #recovery: Recovery;
  readonly #purger: Purger;
  readonly #lastCommit: LastCommit;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #mailFacts: StatementSync;
  readonly #release: StatementSync;
  readonly #newest: StatementSync;
  #mails = 0;
  #logBytes = 0;
  #sweepAtMs = 0;

  /** @param db from openConnection; is closed with this database. */
  constructor(db: DatabaseSync, storage: Storage, arena: Arena, options: SqliteOptions) {
    this.#db = db;
    this.#storage = storage;
    this.#arena = arena;
    this.#options = options;
    addFunctions(db);
    this.#eraser = new MailEraser(db, storage);
    this.#inserter = new MessageInserter(db, options.nodeId);
    this.#settler = new Settler(db, this.#eraser, options);
    this.#claimer = new Claimer(db, storage, arena);
    this.#inspector = new Inspector(db);
    this.#counter = new Counter(db);
    this.#operator = new Operator(db, this.#eraser, options.routes);
    this.#recovery = new Recovery(db);
    this.#purger = new Purger(db, this.#eraser, options);
    this.#lastCommit = new LastCommit(db);
    this.#compactor = new Compactor(db);
    this.#begin = db.prepare('BEGIN IMMEDIATE');
    this.#commit = db.prepare('COMMIT');
    this.#mailFacts = db.prepare(`SELECT ${MAIL_FACTS}, m.trace FROM mails m WHERE id = ?`);
    this.#release = db.prepare(
      `UPDATE mail_outbox SET state = 'PENDING', due_at = ?, lease_owner = NULL, lease_until = NULL, reason = ?, detail = ''
       WHERE mail_id = ? AND destination = ? AND fence = ? AND state = 'SENDING'`,
    );
    this.#newest = db.prepare('SELECT max(id) AS id FROM mails');
    if (options.maxMessages !== null)
      this.#mails = db.prepare('SELECT count(*) AS n FROM mails').get()?.n as number;
  }

  /** Number of messages held now; counted only where maxMessages limits it. */
  get mails(): number {
    return this.#mails;
  }

  /** About how many bytes were written to the log since the last checkpoint; content in bundles does not go there. */
  get logBytes(): number {
    return this.#logBytes;
  }

  #account(refs: ContentRef[], included: CommitMessage[], { settlements }: CommitBatch): void {
    let bytes = COMMIT_BYTES;
    for (const { parts, lengthBytes } of refs) if (parts > 0) bytes += lengthBytes;
    for (const { message } of included) bytes += RECIPIENT_BYTES * message.envelope.recipients.length;
    for (const { groups } of settlements)
      for (const { seqs } of groups) bytes += RECIPIENT_BYTES * seqs.length;
    this.#logBytes += bytes;
  }

  async commit(batch: CommitBatch): Promise<CommitResult> {
    const included: CommitMessage[] = [];
    const places: number[] = [];
    const result: CommitResult = {
      messages: new Array(batch.messages.length).fill('withdrawn'),
      settlements: [],
    };
    for (let i = 0; i < batch.messages.length; i++) {
      const entry = batch.messages[i] as CommitMessage;
      if (!this.#takes(entry)) continue;
      this.#checkLength(entry.message);
      included.push(entry);
      places.push(i);
    }
    this.#checkRoom(included);
    const items = included.map(({ message }) => ({
      queueId: message.queueId,
      content: message.content,
      lengthBytes: message.sizeBytes,
    }));
    const refs = items.length === 0 ? [] : await this.#storage.put(items);
    let skipped = 0;
    this.#eraser.begin();
    try {
      this.#begin.run();
      for (const settlement of batch.settlements)
        result.settlements.push(this.#settler.settle(settlement, batch.nowMs));
      for (let i = 0; i < included.length; i++) {
        const entry = included[i] as CommitMessage;
        const ref = refs[i] as ContentRef;
        // A DSN speaks for its settlement: without that it must not exist (I3).
        if (entry.settlement !== undefined && !result.settlements[entry.settlement]) {
          skipped++;
          this.#eraser.mayOrphan(ref.object);
          continue;
        }
        this.#inserter.insert(entry, ref, batch.nowMs, batch.leaseUntilMs);
        this.#storage.insert(items[i] as StorageItem, ref);
        result.messages[places[i] as number] = 'committed';
      }
      const later = batch.withdrawals.filter((queueId) => !this.#settler.withdraw(queueId));
      if (later.length > 0) result.withdrawLater = later;
      this.#lastCommit.write(batch.token, result);
      this.#commit.run();
    } catch (error) {
      this.#rollback();
      await this.#storage.discard(refs);
      throw this.#mapped(error);
    }
    this.#account(refs, included, batch);
    if (this.#options.maxMessages !== null) this.#mails += included.length - skipped - this.#eraser.erased;
    await this.#eraser.removeObjects();
    await this.#withdrawAbandoned(batch, included, places, result);
    return result;
  }

  /**
   * Removes the messages whose sessions answered 451 meanwhile, before a claim can lease and send them. From here on no
   * session can give up. Where this fails, the result says 'committed', and the group commit withdraws the message.
   */
  async #withdrawAbandoned(
    { token }: CommitBatch,
    included: CommitMessage[],
    places: number[],
    result: CommitResult,
  ): Promise<void> {
    const { committing, committed } = CONTENT_STATE;
    const abandoned: number[] = [];
    for (let i = 0; i < included.length; i++) {
      const { content } = (included[i] as CommitMessage).message;
      const place = places[i] as number;
      if (result.messages[place] !== 'committed' || this.#arena.moveState(content, committing, committed))
        continue;
      abandoned.push(i);
    }
    if (abandoned.length === 0) return;
    const after: CommitResult = { messages: [...result.messages], settlements: result.settlements };
    for (const i of abandoned) after.messages[places[i] as number] = 'withdrawn';
    this.#eraser.begin();
    try {
      this.#begin.run();
      for (const i of abandoned) this.#settler.withdraw((included[i] as CommitMessage).message.queueId);
      this.#lastCommit.write(token, after);
      this.#commit.run();
    } catch {
      this.#rollback();
      return;
    }
    result.messages = after.messages;
    if (this.#options.maxMessages !== null) this.#mails -= this.#eraser.erased;
    await this.#eraser.removeObjects();
  }

  /**
   * Whether the message takes part in the commit: not if its session gave up before and answered 451. A message that
   * is `committing` already belongs to a batch that is tried again.
   */
  #takes({ message }: CommitMessage): boolean {
    const { waiting, committing } = CONTENT_STATE;
    return (
      this.#arena.moveState(message.content, waiting, committing) ||
      this.#arena.moveState(message.content, committing, committing)
    );
  }

  /** Contents are cut out of bundles by their length: a wrong one is better refused now than unreadable later. */
  #checkLength({ queueId, content, sizeBytes }: Message): void {
    const lengthBytes = this.#arena.lengthBytes(content);
    if (lengthBytes === sizeBytes) return;
    throw new RelayError(
      'database_refused',
      `message ${queueId}: content of ${lengthBytes} bytes, said to be ${sizeBytes}`,
    );
  }

  /**
   * @throws RelayError when messages do not fit. DSNs always do: refusing them would hold up the settlements that make
   *   room.
   */
  #checkRoom(included: CommitMessage[]): void {
    const limit = this.#options.maxMessages;
    if (limit === null) return;
    let more = 0;
    for (const { message } of included) if (message.client.address !== 'internal') more++;
    if (more > 0 && this.#mails + more > limit)
      throw new RelayError(
        'database_full',
        `the in-memory queue holds ${this.#mails} messages, its limit is ${limit} (database.max_messages)`,
      );
  }

  async fate(token: string): Promise<CommitResult | null> {
    return this.#guard(() => this.#lastCommit.read(token));
  }

  async claim(request: ClaimRequest, owner: string = this.#options.nodeId): Promise<ClaimResult> {
    try {
      return await this.#claimer.claim(request, owner);
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  /** Gives back the rows that a claim leased as `owner`, when its answer was lost. */
  releaseLeases(owner: string, nowMs: number): number {
    return this.#guard(() => this.#recovery.releaseLeases(nowMs, owner));
  }

  async backlog(): Promise<DestinationBacklog[]> {
    return this.#guard(() => this.#inspector.backlog());
  }

  async recover(nowMs: number): Promise<Recovered> {
    try {
      const released = this.#recovery.releaseLeases(nowMs);
      const rekeyed = this.#recovery.rekey(this.#options.routes);
      await this.#sweep(nowMs);
      return { released, rekeyed, newestQueueId: (this.#newest.get()?.id as string | null) ?? null };
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  async suspect(rows: BegunRow[]): Promise<SuspectedRow[]> {
    return this.#guard(() => {
      this.#begin.run();
      const suspected = suspectRows(this.#db, rows);
      this.#commit.run();
      return suspected;
    });
  }

  async markSuspects(rows: SuspectMark[]): Promise<void> {
    this.#guard(() => {
      this.#begin.run();
      markSuspects(this.#db, rows);
      this.#commit.run();
    });
  }

  /** Nobody else writes this file: every number is free. */
  async enroll(): Promise<boolean> {
    return true;
  }

  /** @throws RelayError always: nothing is drained into a file that is as quick as a journal. */
  async journalMark(): Promise<never> {
    throw new RelayError('database_refused', 'a sqlite queue takes nothing over from a journal');
  }

  /** @throws RelayError always: its rules are in files of the host alone. */
  async exchangeRules(): Promise<never> {
    throw new RelayError('database_refused', 'a sqlite queue keeps no rules of operators');
  }

  suppression(ask: SuppressionAsk): SuppressionAnswer {
    return this.#guard(() => this.#settler.suppressions.answer(ask));
  }

  async shardsOfUsers(users: string[]): Promise<null[]> {
    return users.map(() => null);
  }

  /** If a lease ended while this process lives, it lost track of the row: such rows wait again. */
  async due(nowMs: number): Promise<DestinationBacklog[]> {
    return this.#guard(() =>
      this.#recovery.releaseExpired(nowMs).map((destination) => this.#inspector.backlogOf(destination)),
    );
  }

  async renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number> {
    return this.#guard(() => this.#recovery.renewLeases(rows, leaseUntilMs));
  }

  async isReferenced(object: string): Promise<boolean> {
    return this.#guard(() => this.#eraser.isReferenced(object));
  }

  /** Nothing to ask: a file that is open answers. */
  async ping(): Promise<void> {}

  async release(rows: ReleasedRow[], nowMs: number): Promise<void> {
    this.#guard(() => {
      this.#begin.run();
      for (const row of rows) this.#release.run(nowMs, row.reason, row.queueId, row.destination, row.fence);
      this.#commit.run();
    });
  }

  failedSlice(left: FailedLimits, before: FailedMark | null): FailedSlice {
    return this.#guard(() => this.#purger.failedSlice(left, before));
  }

  async purge(nowMs: number, limit: number, cut: FailedMark | null): Promise<number> {
    if (this.#guard(() => this.#storage.eraseLeft?.(limit) ?? 0) >= limit) return limit;
    const purged = this.#guard(() => this.#purger.purge(nowMs, limit, cut));
    if (this.#options.maxMessages !== null) this.#mails -= purged;
    await this.#eraser.removeObjects();
    if (nowMs >= this.#sweepAtMs) await this.#sweep(nowMs);
    return purged;
  }

  /** Deletes objects without a mail: left by a crash between put and commit, or because an earlier deletion failed. */
  async #sweep(nowMs: number): Promise<void> {
    this.#sweepAtMs = nowMs + SWEEP_INTERVAL_MS;
    await this.#storage.sweep(this.#eraser.isReferenced);
  }

  linesSlice(filter: QueueFilter): ListSlice<string> {
    return this.#guard(() => this.#inspector.linesSlice(filter));
  }

  countSlice(selection: Selection, by: CountKey | null, after: string): CountSlice {
    return this.#guard(() => this.#inspector.countSlice(selection, by, after));
  }

  count(selection: Selection, by: CountKey | null): Promise<Counted> {
    return countBySlices(async (after) => this.countSlice(selection, by, after));
  }

  async list(filter: QueueFilter): Promise<QueueRow[]> {
    return rowsOfLines(await this.lines(filter));
  }

  async lines(filter: QueueFilter): Promise<string[]> {
    return listBySlices(filter, async (part) => this.linesSlice(part));
  }

  async show(queueId: string): Promise<MailDetail | null> {
    return this.#guard(() => this.#inspector.show(queueId));
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    const mail = this.#guard(() => this.#mailFacts.get(queueId)) as unknown as
      | (MailFacts & { trace: string })
      | undefined;
    if (mail === undefined) return null;
    const trace = Buffer.from(mail.trace, 'utf8');
    if (offset < trace.length) return trace.subarray(offset, offset + maxBytes);
    try {
      return await this.#storage.read(contentRef(mail), offset - trace.length, maxBytes);
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  statsSlice(after: string, nowMs: number): StatsSlice {
    return this.#guard(() => this.#counter.slice(after, nowMs));
  }

  async stats(): Promise<QueueStats> {
    const nowMs = Date.now();
    const stats = await statsBySlices(async (after) => this.statsSlice(after, nowMs));
    return { ...stats, file: this.file };
  }

  async operateSlice(...args: Parameters<Operator['slice']>): Promise<OperateSlice> {
    const slice = this.#guard(() => this.#operator.slice(...args));
    if (this.#options.maxMessages !== null) this.#mails -= this.#eraser.erased;
    await this.#eraser.removeObjects();
    return slice;
  }

  async operate(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    done?: (part: OperatePart) => void,
    bounds?: OperateBounds,
  ): Promise<OperateResult> {
    const slice = (after: string, within: Parameters<Operator['slice']>[4]): Promise<OperateSlice> =>
      this.operateSlice(action, selection, nowMs, after, within);
    return operateBySlices(slice, done, bounds);
  }

  get file(): QueueFile {
    return this.#compactor.file;
  }

  compact(): boolean {
    return this.#guard(() => this.#compactor.compact());
  }

  /** Copies the write-ahead log into the database file, as far as no reader needs it, so that the log starts anew. */
  checkpoint(): void {
    this.#logBytes = 0;
    this.#guard(() => this.#compactor.checkpoint());
  }

  async close(): Promise<void> {
    await this.#storage.close();
    if (this.#db.isOpen) this.#db.close();
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.#rollback();
      throw this.#mapped(error);
    }
  }

  /** sqlite rolls back by itself after some errors (disk full), not after others. */
  #rollback(): void {
    if (this.#db.isOpen && this.#db.isTransaction) this.#db.exec('ROLLBACK');
  }

  #mapped(error: unknown): RelayError {
    return sqliteError(error, this.#options.file);
  }
}
