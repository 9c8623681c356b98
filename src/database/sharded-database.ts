/**
 * Several queue databases as one. A message lives in the shard its queue id names; what concerns a destination is
 * asked of every shard. A shard that is down keeps its rows waiting and holds up nothing else.
 */
import { RelayError } from '../base/errors.ts';
import { PartCursor } from '../base/part-cursor.ts';
import { steadyMs } from '../base/steady.ts';
import type { BegunRow } from '../mail/begun-slots.ts';
import { type Counted, type CountKey, mergeCounts } from '../mail/queue-counts.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import { mergedLines, rowsOfLines } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { mergeStats } from '../mail/queue-stats.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
  CommitResult,
  Database,
  DestinationBacklog,
  JournalMark,
  LeasedKey,
  MailDetail,
  Missing,
  NodeSlot,
  OperateAction,
  OperateBounds,
  OperatePart,
  OperateResult,
  QueueFilter,
  Recovered,
  ReleasedRow,
  Selection,
  ShardBacklog,
  SuspectedRow,
} from './database.ts';
import { type FailedLimits, shareOf } from './kept-failed.ts';
import { ShardClaim } from './shard-claim.ts';
import { claimInTurn } from './shard-claims.ts';
import { ShardHealth } from './shard-health.ts';
import { answered, concerns, merged, mergedOperation, selectionOn } from './shard-merge.ts';
import type { ShardClient, ShardedOptions, ShardReport, ShardSetup } from './shard-setup.ts';
import { TimedClient } from './timed-client.ts';

interface Shard extends ShardSetup {
  health: ShardHealth;
  /** Whether rows of our earlier life were given back. */
  recovered: boolean;
  node: ShardClaim;
  /** From this steady time on, leases that ended are taken over. */
  takeOverAtMs: number;
}

const LOOK_MS = 200;
const SWEEP_INTERVAL_MS = 6 * 3_600_000;

export class ShardedDatabase implements Database {
  readonly #shards: Shard[];
  readonly #options: ShardedOptions;
  readonly #now: () => number;
  readonly #steady: () => number;
  #timer: NodeJS.Timeout | null = null;
  /** Determines with which shard the next claim begins. */
  #turn = 0;
  #slot: Omit<NodeSlot, 'nowMs' | 'staleBeforeMs'> | null = null;
  #sweepAtMs = 0;

  constructor(setups: ShardSetup[], options: ShardedOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#steady = options.steady ?? options.now ?? steadyMs;
    this.#shards = setups.map((setup) => {
      const claim = setup.claim ?? null;
      const shard = { ...setup, recovered: false, takeOverAtMs: 0 } as Shard;
      if (claim !== null) shard.client = new TimedClient(setup.client, claim.clock);
      shard.node = new ShardClaim({
        shard: setup.name,
        claim,
        renewMs: setup.renewClaimMs ?? 0,
        warnOffsetMs: Infinity,
        maxOffsetMs: Infinity,
        ...options.clocks,
        log: options.log,
        now: this.#steady,
        changed: () => this.#tellUsable(),
      });
      shard.health = new ShardHealth({
        name: setup.name,
        silenceMs: setup.silenceMs,
        retryDelayMs: options.retryDelayMs,
        maxRetryDelayMs: options.maxRetryDelayMs,
        log: options.log,
        now: this.#steady,
        wall: this.#now,
        probe: () => this.#probe(shard),
        changed: () => {
          this.#tellUsable();
          if (shard.health.usable) this.#isBack(shard);
        },
      });
      this.#pauseTakeOver(shard);
      return shard;
    });
    this.#tellUsable();
  }

  #isBack(shard: Shard): void {
    this.#pauseTakeOver(shard);
    this.#options.returned?.(shard.id);
  }

  #pauseTakeOver(shard: Shard): void {
    shard.takeOverAtMs = this.#steady() + (this.#options.takeOverPauseMs ?? 0);
  }

  /** Begins to look after the shards. */
  start(): void {
    this.#timer = setInterval(() => this.look(), LOOK_MS);
    this.#timer.unref();
  }

  /** Finds silent shards, and tries those that are down when their pause is over. */
  look(): void {
    for (const { health, node } of this.#shards) {
      health.look();
      if (health.usable) node.look((work) => health.watch(work));
    }
  }

  /** Number of free connections of the shard that has most; 0 when no shard can be used. */
  get freeConnections(): number {
    let free = 0;
    for (const shard of this.#usable()) free = Math.max(free, freeOf(shard));
    return free;
  }

  /** Whether new mail may go to the shard: not where another has our node id, and makes the same queue ids. */
  isUp(shard: number): boolean {
    return this.#shards.some(({ id, health }) => id === shard && health.usable);
  }

  #usable(): Shard[] {
    return this.#shards.filter(({ health, node }) => health.usable && !node.lost);
  }

  #tellUsable(): void {
    const up = this.#usable();
    const taking = up.filter(({ weight }) => weight > 0);
    let mask = 0;
    for (const { id } of taking.length > 0 ? taking : up) mask |= 1 << id;
    this.#options.usable(mask);
  }

  async #probe(shard: Shard): Promise<void> {
    await shard.client.ping();
    if (!shard.recovered) await this.#recoverOne(shard, this.#now(), false);
    else await shard.node.renew();
  }

  async #recoverOne(shard: Shard, nowMs: number, fresh: boolean): Promise<Recovered> {
    // The rows of the earlier life are about to be given back, so that life must be over.
    await shard.node.take();
    const { begun, kept } = this.#options;
    await kept?.replay(shard.id, (batch) => shard.client.commit(batch));
    const rows = begun?.of(shard.id) ?? [];
    if (rows.length > 0) begun?.marked(shard.id, await shard.client.suspect(rows, nowMs));
    const recovered = await shard.client.recover(nowMs, fresh);
    shard.recovered = true;
    return recovered;
  }

  #of(queueId: string): Shard {
    const id = shardOfQueueId(queueId);
    const shard = this.#shards.find((one) => one.id === id);
    if (shard === undefined)
      throw new RelayError('database_refused', `message ${queueId}: no shard has the number ${id}`);
    return shard;
  }

  #parts<T extends { queueId: string }>(rows: readonly T[]): [Shard, T[]][] {
    return [...Map.groupBy(rows, ({ queueId }) => this.#of(queueId))];
  }

  #on<T>(shard: Shard, work: (client: ShardClient) => Promise<T>): Promise<T> {
    return shard.health.watch(() => work(shard.client));
  }

  /** For looks at the whole queue, which may take long. */
  #onLong<T>(shard: Shard, work: (client: ShardClient) => Promise<T>): Promise<T> {
    return shard.health.watch(() => work(shard.client), true);
  }

  /**
   * The answers of all shards that gave one. @throws the last error when none did.
   * @param strict only shards that are down may be left out, which `missing` names; any other error is thrown.
   */
  async #onAll<T>(
    work: (client: ShardClient, shard: number) => Promise<T>,
    strict = false,
    concerns: (shard: Shard) => boolean = () => true,
  ): Promise<T[]> {
    const answers = await Promise.allSettled(
      this.#shards.filter(concerns).map((shard) => this.#onLong(shard, (client) => work(client, shard.id))),
    );
    return answered(answers, strict);
  }

  async commit(batch: CommitBatch): Promise<CommitResult> {
    const queueId =
      batch.messages[0]?.message.queueId ?? batch.settlements[0]?.queueId ?? batch.withdrawals[0] ?? '';
    const shard = this.#of(queueId);
    // A commit of results alone may go through without the claim: results are fenced.
    if (batch.messages.some(({ settlement }) => settlement === undefined)) shard.node.checkNewMail();
    return this.#on(shard, (client) => client.commit(batch));
  }

  async fate(token: string): Promise<CommitResult | null> {
    const found = await this.#onAll((client) => client.fate(token));
    return found.find((fate) => fate !== null) ?? null;
  }

  /** Asks shard after shard until it has enough; each claim begins with another shard. */
  claim(request: ClaimRequest): Promise<ClaimResult> {
    const { shards: mask = -1 } = request;
    const asked = this.#shards.filter(({ id }) => (mask & (1 << id)) !== 0);
    const first = this.#turn++ % Math.max(1, asked.length);
    const inTurn = [...asked.slice(first), ...asked.slice(0, first)];
    return claimInTurn(inTurn, request, {
      retryAtMs: request.nowMs + this.#options.maxRetryDelayMs,
      mayFail: this.#shards.length > 1,
      isOpen: ({ node }) => node.held,
      claim: async (shard, part) => {
        const takeOver = this.#steady() >= shard.takeOverAtMs;
        const claimed = await this.#on(shard, (client) => client.claim({ ...part, takeOver }));
        if (claimed.held !== undefined) this.#options.begun?.held(claimed.held);
        return claimed;
      },
    });
  }

  /** Waiting work by destination and shard; a shard that does not answer is left out. */
  async backlogByShard(): Promise<ShardBacklog[]> {
    const parts = await this.#onAll(async (client, shard) =>
      (await client.backlog()).map((backlog) => ({ ...backlog, shard })),
    );
    return parts.flat();
  }

  async backlog(): Promise<DestinationBacklog[]> {
    return merged(await this.#onAll((client) => client.backlog()));
  }

  async due(nowMs: number): Promise<DestinationBacklog[]> {
    return merged(await this.#onAll((client) => client.due(nowMs)));
  }

  /**
   * Recovers the shards. One that cannot be reached now is recovered when it comes back.
   * @throws RelayError when no shard answers, or one has tables we do not know.
   */
  async recover(nowMs: number): Promise<Recovered> {
    const sum: Recovered = { released: 0, rekeyed: 0, newestQueueId: null };
    let unreachable: RelayError | null = null;
    let answered = 0;
    let fresh = true;
    for (const shard of this.#shards) {
      try {
        const { released, rekeyed, newestQueueId } = await this.#recoverOne(shard, nowMs, fresh);
        answered++;
        sum.released += released;
        sum.rekeyed += rekeyed;
        if (newestQueueId !== null && newestQueueId > (sum.newestQueueId ?? ''))
          sum.newestQueueId = newestQueueId;
      } catch (error) {
        if (!(error instanceof RelayError) || error.code !== 'database_unavailable') throw error;
        unreachable = error;
        shard.health.startDown(error.message);
      }
      fresh = false;
    }
    if (answered === 0 && unreachable !== null) throw unreachable;
    return sum;
  }

  async suspect(rows: BegunRow[], nowMs: number): Promise<SuspectedRow[]> {
    const suspected = await Promise.all(
      this.#parts(rows).map(([shard, part]) => this.#onLong(shard, (client) => client.suspect(part, nowMs))),
    );
    return suspected.flat();
  }

  async markSuspects(rows: SuspectMark[]): Promise<void> {
    const marked = await Promise.allSettled(
      this.#parts(rows).map(([shard, part]) => this.#on(shard, (client) => client.markSuspects(part))),
    );
    const failed = marked.find((one) => one.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** Takes a number for this process that no other has on any shard; false when another has it. */
  async enroll(slot: NodeSlot): Promise<boolean> {
    const taken = await this.#onAll((client) => client.enroll(slot));
    this.#slot = { slot: slot.slot, node: slot.node };
    return taken.every((ours) => ours);
  }

  async shardsOfUsers(users: string[], table: string | null): Promise<(number | null)[]> {
    const shard = this.#shards.find(({ name }) => name === table) ?? (this.#shards[0] as Shard);
    const names = await this.#on(shard, (client) => client.shardsOfUsers(users));
    return names.map((name) => this.#shards.find((one) => one.name === name)?.id ?? null);
  }

  /** How far a shard has taken over a journal, and the name of its queue. */
  journalMark(id: number, journal: string): Promise<{ mark: JournalMark; queue: string }> {
    return this.ask(id, (client) => client.journalMark(journal));
  }

  /** Asks the shard with this number. */
  async ask<T>(id: number, work: (client: ShardClient) => Promise<T>): Promise<T> {
    const shard = this.#shards.find((one) => one.id === id);
    if (shard === undefined) throw new RelayError('database_refused', `no shard has the number ${id}`);
    return this.#on(shard, work);
  }

  /** The shards by number and name. */
  get names(): { id: number; name: string }[] {
    return this.#shards.map(({ id, name }) => ({ id, name }));
  }

  /** Keeps the number of the last life, when no shard could be asked. */
  keepSlot(slot: number, node: string): void {
    this.#slot = { slot, node };
  }

  async renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number> {
    const renewed = await Promise.all(
      this.#parts(rows).map(([shard, part]) => this.#on(shard, (client) => client.renew(part, leaseUntilMs))),
    );
    return renewed.reduce((sum, n) => sum + n, 0);
  }

  async release(rows: ReleasedRow[], nowMs: number): Promise<void> {
    await Promise.allSettled(
      this.#parts(rows).map(([shard, part]) => this.#on(shard, (client) => client.release(part, nowMs))),
    );
  }

  /**
   * Purges all shards. Also tells the others that this process still runs, and sweeps orphaned objects now and then.
   */
  async purge(nowMs: number, limit: number, keep?: FailedLimits): Promise<number> {
    const share = keep && shareOf(keep, this.#shards.length);
    const purged = await this.#onAll((client) => client.purge(nowMs, limit, share));
    const steady = this.#steady();
    // A shard that does not answer may hold the mails of what looks like an orphan.
    if (steady >= this.#sweepAtMs && this.#usable().length === this.#shards.length) {
      this.#sweepAtMs = steady + SWEEP_INTERVAL_MS;
      await this.#options.sweep();
    }
    return purged.reduce((sum, n) => sum + n, 0);
  }

  /** Tells the others again that this process has its number. @returns false when another has it by now. */
  async stillEnrolled(nowMs: number, staleBeforeMs: number): Promise<boolean> {
    const slot = this.#slot;
    if (slot === null) return true;
    const ours = await this.#onAll((client) => client.enroll({ ...slot, nowMs, staleBeforeMs }));
    return ours.every((is) => is);
  }

  async list(filter: QueueFilter): Promise<QueueRow[]> {
    return rowsOfLines(await this.lines(filter));
  }

  async lines(filter: QueueFilter): Promise<string[]> {
    const { selection = {} } = filter;
    const parts = await this.#onAll(
      (client, shard) => client.lines({ ...filter, selection: selectionOn(shard, selection) }),
      true,
      ({ id }) => concerns(id, selection),
    );
    return mergedLines(parts, filter.limit);
  }

  async count(selection: Selection, by: CountKey | null): Promise<Counted> {
    const count = (client: ShardClient, shard: number) => client.count(selectionOn(shard, selection), by);
    return mergeCounts(await this.#onAll(count, true, ({ id }) => concerns(id, selection)));
  }

  async show(queueId: string): Promise<MailDetail | null> {
    return this.#on(this.#of(queueId), (client) => client.show(queueId));
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    return this.#on(this.#of(queueId), (client) => client.content(queueId, offset, maxBytes));
  }

  async stats(): Promise<QueueStats> {
    const parts = await this.#onAll((client) => client.stats(), true);
    return mergeStats(parts);
  }

  async operate(
    action: OperateAction,
    selection: Selection,
    nowMs: number,
    done?: (part: OperatePart) => void,
    bounds?: OperateBounds,
  ): Promise<OperateResult> {
    const from = new PartCursor(bounds?.after ?? '');
    const parts = await this.#onAll(
      async (client, shard) => {
        const own = bounds && { ...bounds, after: from.of(shard) as string };
        return { shard, ...(await client.operate(action, selectionOn(shard, selection), nowMs, done, own)) };
      },
      true,
      ({ id }) => concerns(id, selection) && from.of(id) !== null,
    );
    return mergedOperation(parts);
  }

  /** Shards that are down. */
  missing(): Missing[] {
    return this.#shards
      .filter(({ health }) => !health.usable)
      .map(({ id, name, health }) => ({
        kind: 'shard',
        name,
        detail: `is down: ${health.stats().lastError}`,
        shards: [id],
      }));
  }

  states(): { name: string; up: boolean; error: string }[] {
    return this.#shards.map(({ name, health }) => ({
      name,
      up: health.usable,
      error: health.stats().lastError,
    }));
  }

  /** State, depth, latency and errors of each shard. */
  report(): Promise<ShardReport[]> {
    return Promise.all(this.#shards.map((shard) => this.#reportOf(shard)));
  }

  async #reportOf(shard: Shard): Promise<ShardReport> {
    const { id, name, weight } = shard;
    // The report says what is wrong with a shard that does not answer.
    const queue = await this.#onLong(shard, (client) => client.stats()).catch(() => null);
    const mails = queue?.mails ?? null;
    const waitingRows = queue === null ? null : queue.rows.PENDING + queue.rows.RETRY;
    return { id, name, weight, ...shard.health.stats(), freeConnections: freeOf(shard), mails, waitingRows };
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    try {
      await this.#options.close();
    } finally {
      await Promise.all(this.#shards.map(({ node }) => node.release()));
    }
  }
}

const freeOf = ({ maxConnections, client, health }: Shard): number =>
  health.usable ? Math.max(0, maxConnections - client.running) : 0;
