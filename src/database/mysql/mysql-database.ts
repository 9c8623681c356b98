/**
 * A queue on one MariaDB or MySQL server. Promises that a commit is all or nothing and, once it resolves, durable as
 * the server is configured (I1), whatever happens to the connection meanwhile. Shared by many nodes: every row being
 * sent is leased to one of them. Content lies with a storage provider, never in the tables.
 */
import type { Connection } from 'mariadb';
import { RelayError } from '../../base/errors.ts';
import { steadyMs } from '../../base/steady.ts';
import type { BegunRow } from '../../mail/begun-slots.ts';
import { fingerprint, type RouteTable } from '../../mail/destination.ts';
import type { Message } from '../../mail/message.ts';
import { type ActionName, nameOf } from '../../mail/operator-action.ts';
import type { CountKey, CountSlice } from '../../mail/queue-counts.ts';
import type { StatsSlice } from '../../mail/queue-stats.ts';
import type { SuppressionAnswer, SuppressionAsk } from '../../mail/suppression.ts';
import type { SuspensionRule } from '../../mail/suspension.ts';
import type { SuspectMark } from '../../mail/suspicion.ts';
import { type Arena, CHUNK_BYTES, CONTENT_STATE } from '../../native.ts';
import type { ContentRef, Storage } from '../../storage/storage.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
  CommitMessage,
  CommitResult,
  DestinationBacklog,
  JournalMark,
  KeepTimes,
  LeasedKey,
  MailDetail,
  NodeSlot,
  OperateAction,
  QueueFilter,
  Recovered,
  ReleasedRow,
  RulesAnswer,
  Selection,
  SuppressionNotes,
  SuspectedRow,
} from '../database.ts';
import type { FailedLimits, FailedMark, FailedSlice } from '../kept-failed.ts';
import { Pace, type PaceOptions } from '../pace.ts';
import type { QueueDatabase } from '../queue-database.ts';
import type { ListSlice } from '../select-rows.ts';
import type { OperateSlice } from '../slices.ts';
import { type Leased, type LeasedRow, leaseRows, unclaim } from './claim.ts';
import { statsSlice } from './count.ts';
import { isDuplicate, isLocked, isLost, mysqlError, RowsChanged } from './errors.ts';
import { type Insertion, insertMessages } from './insert.ts';
import { backlog, countSlice, linesSlice, showMail } from './inspect.ts';
import { isNewTransfer, journalMark, writeMark } from './journals.ts';
import { dueDestinations, releaseOwned, releaseRows, renewLeases, setAside, unlease } from './leases.ts';
import { type Loaded, loadContents, RESERVE_SHARE } from './load.ts';
import { enroll, fateOf, newestQueueId, probe, shardsOfUsers, storedRoutes, storeRoutes } from './nodes.ts';
import { ObjectCollector } from './objects.ts';
import { operateSlice } from './operate.ts';
import { failedPart, purgeMails, unreferenced } from './purge.ts';
import { rekeySlice } from './rekey.ts';
import { SettleBatch } from './settle.ts';
import { contentRef, MAIL_FACTS, type MailFacts } from './sql.ts';
import { answerSuppression, changesSuppressions } from './suppressions.ts';
import { markSuspects, suspectRows } from './suspect.ts';
import { exchangeRules } from './suspensions.ts';
import { CommitInDoubt, type CommitName, type Transactions } from './transaction.ts';
import { withdraw } from './withdraw.ts';

/** Pause before a row is tried again whose content could not be read. */
const UNREADABLE_RETRY_MS = 60_000;

/** Mail does not wait for what others have locked, only for the server's time. */
const PACE: PaceOptions = { targetMs: 150, leastRows: 1000 };
/**
 * An action that waited for a lock in vain takes on a tenth, and so on: the fewer rows, the less it meets of what others do. With this
 * many tries it outlasts the locks of a node that hangs.
 */
const LOCKED_SHARE = 10;
const SLICE_TRIES = 8;

export interface MysqlOptions extends KeepTimes {
  /** The name of this queue in storage that several share: made once, kept with the queue. */
  queue: string;
  /** For messages to the operator. */
  server: string;
  /** Name of the database on the server. */
  database: string;
  /** 'node#life' (no node's name has a '#'): written to leases and commits. */
  owner: string;
  routes: RouteTable;
  suppressed?: SuppressionNotes;
}

export class MysqlDatabase implements QueueDatabase {
  /** Nothing bounds the number of messages here. */
  readonly mails = 0;
  /** The server looks after its log itself. */
  readonly logBytes = 0;
  readonly #transactions: Transactions;
  readonly #storage: Storage;
  readonly #arena: Arena;
  readonly #options: MysqlOptions;
  readonly #objects: ObjectCollector;
  readonly #paces = new Map<ActionName, Pace>();
  #operations = 0;

  /** @param transactions is closed with this database; the storage is not. */
  constructor(transactions: Transactions, storage: Storage, arena: Arena, options: MysqlOptions) {
    this.#transactions = transactions;
    this.#storage = storage;
    this.#arena = arena;
    this.#options = options;
    this.#objects = new ObjectCollector(storage, (objects) => this.#read((c) => unreferenced(c, objects)));
  }

  async commit(batch: CommitBatch): Promise<CommitResult> {
    const places: number[] = [];
    for (let i = 0; i < batch.messages.length; i++) {
      const { message } = batch.messages[i] as CommitMessage;
      // Messages out of a journal were acknowledged long ago, so no session can give them up.
      if (batch.journal === undefined && !this.#takes(message)) continue;
      this.#checkLength(message);
      places.push(i);
    }
    const entries = places.map((place) => batch.messages[place] as CommitMessage);
    const refs = entries.length === 0 ? [] : await this.#storage.put(entries.map(itemOf));
    const insertions = entries.map((entry, i) => ({ entry, ref: refs[i] as ContentRef }));
    try {
      return await this.#commit(batch, insertions, places);
    } catch (error) {
      // While the commit is in doubt its rows may exist; then their content must exist, too.
      if (!(error instanceof CommitInDoubt)) await this.#storage.discard(refs);
      throw this.#mapped(error);
    }
  }

  async #commit(batch: CommitBatch, insertions: Insertion[], places: number[]): Promise<CommitResult> {
    const result: CommitResult = { messages: [], settlements: [] };
    const { nowMs, leaseUntilMs } = batch;
    const name = this.#name(`${batch.lane ?? 0}`, batch.token, nowMs, () => result);
    const orphans = await this.#transactions.run(async (connection) => {
      if (batch.journal !== undefined && !(await isNewTransfer(connection, batch.journal))) {
        result.messages = batch.messages.map(() => 'committed');
        return new Set(insertions.map(({ ref }) => ref.object));
      }
      const { accepted, erased } = await new SettleBatch(connection, this.#options, nowMs).settle(
        batch.settlements,
      );
      result.settlements = accepted;
      result.messages = new Array(batch.messages.length).fill('withdrawn');
      const kept: Insertion[] = [];
      const objects = new Set(erased.map(({ object }) => object));
      insertions.forEach((insertion, i) => {
        const { settlement } = insertion.entry;
        // A DSN speaks for its settlement: without that it must not exist (I3).
        if (settlement !== undefined && !accepted[settlement]) {
          objects.add(insertion.ref.object);
          return;
        }
        kept.push(insertion);
        result.messages[places[i] as number] = 'committed';
      });
      await insertMessages(connection, kept, { nowMs, leaseUntilMs, owner: this.#options.owner });
      const withdrawn = await withdraw(connection, batch.withdrawals, this.#options.owner, nowMs);
      for (const { object } of withdrawn.erased) objects.add(object);
      if (withdrawn.later.length > 0) result.withdrawLater = withdrawn.later;
      if (batch.journal !== undefined) await writeMark(connection, batch.journal, nowMs);
      return objects;
    }, name);
    this.#objects.add(orphans);
    if (batch.journal === undefined) await this.#withdrawAbandoned(insertions, places, result, nowMs);
    return result;
  }

  /**
   * Removes the messages whose sessions answered 451 meanwhile. From here on no session can give up. Where the removal
   * fails, or a claim was faster, the result says 'committed', and the group commit withdraws the message.
   */
  async #withdrawAbandoned(
    insertions: readonly Insertion[],
    places: readonly number[],
    result: CommitResult,
    nowMs: number,
  ): Promise<void> {
    const { committing, committed } = CONTENT_STATE;
    const abandoned: { queueId: string; place: number }[] = [];
    insertions.forEach(({ entry: { message } }, i) => {
      const place = places[i] as number;
      if (result.messages[place] !== 'committed') return;
      if (this.#arena.moveState(message.content, committing, committed)) return;
      abandoned.push({ queueId: message.queueId, place });
    });
    if (abandoned.length === 0) return;
    try {
      const ids = abandoned.map(({ queueId }) => queueId);
      const { erased, later } = await this.#run((connection) =>
        withdraw(connection, ids, this.#options.owner, nowMs),
      );
      this.#objects.add(erased.map(({ object }) => object));
      for (const { place, queueId } of abandoned)
        if (!later.includes(queueId)) result.messages[place] = 'withdrawn';
    } catch {
      // The group commit withdraws them.
    }
  }

  #name(lane: string, token: string, nowMs: number, result: () => CommitResult | null): CommitName {
    return { lane: `${this.#options.owner}:${lane}`, token, nowMs, result };
  }

  /**
   * Whether the message takes part in the commit: not if its session gave up before and answered 451. A message that
   * is `committing` already belongs to a batch that is tried again.
   */
  #takes({ content }: Message): boolean {
    const { waiting, committing } = CONTENT_STATE;
    return (
      this.#arena.moveState(content, waiting, committing) ||
      this.#arena.moveState(content, committing, committing)
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

  fate(token: string): Promise<CommitResult | null> {
    return this.#read((connection) => fateOf(connection, this.#options.owner, token));
  }

  async claim(request: ClaimRequest, owner: string): Promise<ClaimResult> {
    // Claims no more than there is room for: rows that cannot be loaded would have to be given back.
    const room = Math.floor((this.#arena.freeBytes() - this.#arena.totalBytes / RESERVE_SHARE) / CHUNK_BYTES);
    const limit = Math.max(1, Math.min(request.limit, room));
    const leaseOwner = `${this.#options.owner}-${owner}`;
    let leased: Leased;
    try {
      leased = await this.#transactions.run((connection) =>
        leaseRows(connection, this.#options.database, { ...request, limit }, leaseOwner),
      );
    } catch (error) {
      // Nobody knows whether the leases were written: they are given back if possible, or else end by themselves.
      if (isLost(error)) this.#read((connection) => unclaim(connection, request, leaseOwner)).catch(() => {});
      throw this.#mapped(error);
    }
    const { rows, held } = leased;
    const loaded = await loadContents(rows, this.#storage, this.#arena);
    const { jobs, failure } = loaded;
    if (jobs.length < rows.length) await this.#giveBack(loaded, request.nowMs);
    if (jobs.length === 0 && held.length === 0 && failure !== null) throw this.#mapped(failure);
    const short = loaded.short || (rows.length === limit && limit < request.limit);
    const nextDueMs = jobs.length < rows.length || short ? request.nowMs : leased.nextDueMs;
    return { jobs, nextDueMs, short, ...(held.length > 0 ? { held } : {}) };
  }

  /** Gives up the leases of rows that could not be loaded. */
  async #giveBack({ unloaded, unread }: Loaded, nowMs: number): Promise<void> {
    const keyOf = ({ job: { queueId, destination, fence } }: LeasedRow) => ({ queueId, destination, fence });
    const back = unloaded.map((row) => ({ ...keyOf(row), state: row.state, dueAt: row.dueAt }));
    const aside = unread.map(({ row, detail, temporary }) => {
      const dueAt = temporary ? nowMs + UNREADABLE_RETRY_MS : null;
      return { ...keyOf(row), detail, state: temporary ? row.state : 'HELD', dueAt };
    });
    // Should this fail, the leases end by themselves; the jobs that were loaded go out all the same.
    await this.#run((connection) =>
      Promise.all([unlease(connection, back), setAside(connection, aside)]),
    ).catch(() => {});
  }

  releaseLeases(owner: string, nowMs: number): Promise<number> {
    const like = `${this.#options.owner}-${owner}`;
    return this.#read((connection) => releaseOwned(connection, (found) => found === like, nowMs));
  }

  async journalMark(journal: string): Promise<{ mark: JournalMark; queue: string }> {
    const mark = await this.#read((connection) => journalMark(connection, journal));
    return { mark, queue: this.#options.queue };
  }

  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number> {
    return this.#read((connection) => renewLeases(connection, rows, leaseUntilMs, this.#options.owner));
  }

  async release(rows: ReleasedRow[], nowMs: number): Promise<void> {
    await this.#run((connection) => releaseRows(connection, rows, nowMs));
  }

  due(nowMs: number): Promise<DestinationBacklog[]> {
    return this.#read((connection) => dueDestinations(connection, nowMs));
  }

  backlog(): Promise<DestinationBacklog[]> {
    return this.#read(backlog);
  }

  async recover(nowMs: number): Promise<Recovered> {
    const released = await this.#read((connection) => releaseOwned(connection, this.#isEarlier, nowMs));
    const rekeyed = await this.#rekey();
    return { released, rekeyed, newestQueueId: await this.#read(newestQueueId) };
  }

  async suspect(rows: BegunRow[]): Promise<SuspectedRow[]> {
    return this.#run((connection) => suspectRows(connection, rows, this.#isEarlier));
  }

  async markSuspects(rows: SuspectMark[]): Promise<void> {
    await this.#run((connection) => markSuspects(connection, rows));
  }

  /** Whether the owner of a lease is an earlier life of this process. */
  readonly #isEarlier = (found: string): boolean => {
    const { owner } = this.#options;
    const node = owner.slice(0, owner.lastIndexOf('#') + 1);
    return found.startsWith(node) && !found.startsWith(owner);
  };

  /** Keys waiting rows by today's routes. Costs nothing when the route table is that of the last start. */
  async #rekey(): Promise<number> {
    const { routes } = this.#options;
    const wanted = fingerprint(routes);
    if ((await this.#read(storedRoutes)) === wanted) return 0;
    let rekeyed = 0;
    for (let after: string | null = ''; after !== null; ) {
      const from: string = after;
      const part = await this.#run((connection) => rekeySlice(connection, routes, from));
      rekeyed += part.rekeyed;
      after = part.next;
    }
    await this.#read((connection) => storeRoutes(connection, wanted));
    return rekeyed;
  }

  exchangeRules(news: SuspensionRule[], digest: string): Promise<RulesAnswer> {
    const exchange = (connection: Connection) => exchangeRules(connection, news, digest);
    return news.length === 0 ? this.#read(exchange) : this.#run(exchange);
  }

  suppression(ask: SuppressionAsk): Promise<SuppressionAnswer> {
    const { suppressed = null } = this.#options;
    const answer = (connection: Connection) => answerSuppression(connection, ask, suppressed);
    return changesSuppressions(ask) ? this.#run(answer) : this.#read(answer);
  }

  enroll(slot: NodeSlot): Promise<boolean> {
    return this.#read((connection) => enroll(connection, slot));
  }

  shardsOfUsers(users: string[]): Promise<(string | null)[]> {
    return this.#read((connection) => shardsOfUsers(connection, users));
  }

  failedSlice(left: FailedLimits, before: FailedMark | null): Promise<FailedSlice> {
    return this.#read((connection) => failedPart(connection, left, before));
  }

  async purge(nowMs: number, limit: number, cut: FailedMark | null): Promise<number> {
    const mails = await this.#run((connection) => purgeMails(connection, this.#options, nowMs, limit, cut));
    this.#objects.add(mails.map(({ object }) => object));
    return mails.length;
  }

  async isReferenced(object: string): Promise<boolean> {
    return (await this.#read((connection) => unreferenced(connection, [object]))).length === 0;
  }

  linesSlice(filter: QueueFilter): Promise<ListSlice<string>> {
    return this.#read((connection) => linesSlice(connection, filter));
  }

  countSlice(selection: Selection, by: CountKey | null, after: string): Promise<CountSlice> {
    return this.#read((connection) => countSlice(connection, selection, by, after));
  }

  show(queueId: string): Promise<MailDetail | null> {
    return this.#read((connection) => showMail(connection, queueId));
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    const [mail] = await this.#read((connection) =>
      connection.execute<(MailFacts & { trace: string })[]>(
        `SELECT ${MAIL_FACTS}, m.trace FROM mails m WHERE m.id = ?`,
        [queueId],
      ),
    );
    if (mail === undefined) return null;
    const trace = Buffer.from(mail.trace, 'utf8');
    if (offset < trace.length) return trace.subarray(offset, offset + maxBytes);
    return this.#storage.read(contentRef(mail), offset - trace.length, maxBytes);
  }

  statsSlice(after: string, nowMs: number): Promise<StatsSlice> {
    return this.#read((connection) => statsSlice(connection, after, nowMs));
  }

  async operateSlice(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    after: string,
  ): Promise<OperateSlice> {
    // The transaction has a name, so that its fate can be found out: only its result says who was removed.
    const number = ++this.#operations;
    const name = this.#name(`operate-${number}`, `${number}`, nowMs, () => null);
    const { routes } = this.#options;
    const pace = this.#paceOf(action);
    for (let most = pace.rows, byEntry = false, tries = 1; ; tries++) {
      const began = steadyMs();
      try {
        const { slice, erased } = await this.#transactions.run(
          (connection) =>
            operateSlice(connection, { action, selection, nowMs, after, most, byEntry }, routes),
          name,
        );
        if (slice.next !== null && selection.ids === undefined) pace.took(steadyMs() - began);
        this.#objects.add(erased.map(({ object }) => object));
        return slice;
      } catch (error) {
        const isMet = isLocked(error);
        const changed = error instanceof RowsChanged || isDuplicate(error);
        if (!(isMet || changed) || tries === SLICE_TRIES) throw this.#mapped(error);
        if (isMet) most = Math.ceil(most / LOCKED_SHARE);
        byEntry = true;
      }
    }
  }

  #paceOf(action: OperateAction): Pace {
    const name = nameOf(action);
    const pace = this.#paces.get(name) ?? new Pace(PACE);
    this.#paces.set(name, pace);
    return pace;
  }

  async ping(): Promise<void> {
    await this.#read((connection) => probe(connection, this.#options.owner));
  }

  checkpoint(): void {}

  readonly file = null;

  compact(): boolean {
    return false;
  }

  async close(): Promise<void> {
    await this.#objects.flush().catch(() => {}); // what stays is swept later
    await this.#transactions.close();
  }

  async #read<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      return await this.#transactions.read(work);
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  async #run<T>(work: (connection: Connection) => Promise<T>, name?: CommitName): Promise<T> {
    try {
      return await this.#transactions.run(work, name);
    } catch (error) {
      throw this.#mapped(error);
    }
  }

  #mapped(error: unknown): RelayError {
    return mysqlError(error, this.#options.server);
  }
}

const itemOf = ({ message: { queueId, content, sizeBytes } }: CommitMessage) => ({
  queueId,
  content,
  lengthBytes: sizeBytes,
});
