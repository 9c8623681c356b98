/** A shard's client whose callers go by this process's clock, while what is stored goes by the server's. */

import { lineTimed } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import type { SuppressionAnswers, SuppressionAsk } from '../mail/suppression.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { SuspectMark } from '../mail/suspicion.ts';
import type {
  ClaimRequest,
  ClaimResult,
  CommitBatch,
  CommitResult,
  DestinationBacklog,
  JournalMark,
  LeasedKey,
  MailDetail,
  NodeSlot,
  OperateResult,
  QueueFilter,
  Recovered,
  ReleasedRow,
  RulesAnswer,
} from './database.ts';
import type { ServerTime } from './server-clock.ts';
import type { ShardClient } from './shard-setup.ts';

export class TimedClient implements ShardClient {
  readonly #client: ShardClient;
  readonly #time: ServerTime;

  constructor(client: ShardClient, time: ServerTime) {
    this.#client = client;
    this.#time = time;
  }

  get running(): number {
    return this.#client.running;
  }

  commit(batch: CommitBatch): Promise<CommitResult> {
    const time = this.#time;
    return this.#client.commit({
      ...batch,
      nowMs: time.since(batch.nowMs),
      leaseUntilMs: time.until(batch.leaseUntilMs),
      settlements: batch.settlements.map((settlement) =>
        settlement.retryAtMs === null
          ? settlement
          : { ...settlement, retryAtMs: time.until(settlement.retryAtMs) },
      ),
    });
  }

  fate(token: string): Promise<CommitResult | null> {
    return this.#client.fate(token);
  }

  async claim(request: ClaimRequest): Promise<ClaimResult> {
    const time = this.#time;
    const { nowMs, leaseUntilMs } = request;
    const result = await this.#client.claim({
      ...request,
      nowMs: time.since(nowMs),
      leaseUntilMs: time.until(leaseUntilMs),
    });
    return { ...result, nextDueMs: result.nextDueMs === null ? null : time.here(result.nextDueMs) };
  }

  renew(rows: LeasedKey[], leaseUntilMs: number): Promise<number> {
    return this.#client.renew(rows, this.#time.until(leaseUntilMs));
  }

  release(rows: ReleasedRow[], nowMs: number): Promise<void> {
    return this.#client.release(rows, this.#time.since(nowMs));
  }

  async due(nowMs: number): Promise<DestinationBacklog[]> {
    return this.#here(await this.#client.due(this.#time.since(nowMs)));
  }

  async backlog(): Promise<DestinationBacklog[]> {
    return this.#here(await this.#client.backlog());
  }

  #here(backlog: DestinationBacklog[]): DestinationBacklog[] {
    return backlog.map((one) => ({ ...one, nextDueMs: this.#time.here(one.nextDueMs) }));
  }

  #rowHere(row: QueueRow): QueueRow {
    // 0: the row does not wait for a time.
    return row.nextAttemptMs === 0 ? row : { ...row, nextAttemptMs: this.#time.here(row.nextAttemptMs) };
  }

  suspect(...[rows, nowMs]: Parameters<ShardClient['suspect']>): ReturnType<ShardClient['suspect']> {
    return this.#client.suspect(rows, this.#time.since(nowMs));
  }

  markSuspects(rows: SuspectMark[]): Promise<void> {
    return this.#client.markSuspects(rows);
  }

  recover(nowMs: number, fresh: boolean): Promise<Recovered> {
    return this.#client.recover(this.#time.since(nowMs), fresh);
  }

  enroll(slot: NodeSlot): Promise<boolean> {
    const { nowMs, staleBeforeMs } = slot;
    const time = this.#time;
    return this.#client.enroll({
      ...slot,
      nowMs: time.since(nowMs),
      staleBeforeMs: time.since(staleBeforeMs),
    });
  }

  shardsOfUsers(users: string[]): Promise<(string | null)[]> {
    return this.#client.shardsOfUsers(users);
  }

  journalMark(journal: string): Promise<{ mark: JournalMark; queue: string }> {
    return this.#client.journalMark(journal);
  }

  suppression<A extends SuppressionAsk>(ask: A): Promise<SuppressionAnswers[A['op']]> {
    return this.#client.suppression(ask);
  }

  async exchangeRules(news: SuspensionRule[], digest: string): Promise<RulesAnswer> {
    const timed = (rule: SuspensionRule, time: (ms: number) => number): SuspensionRule => ({
      ...rule,
      createdAtMs: time(rule.createdAtMs),
      untilMs: rule.untilMs === null ? null : time(rule.untilMs),
      endedAtMs: rule.endedAtMs === null ? null : time(rule.endedAtMs),
    });
    const there = news.map((rule) => timed(rule, (ms) => this.#time.until(ms)));
    const answer = await this.#client.exchangeRules(there, digest);
    if (answer === null) return null;
    return { ...answer, rules: answer.rules.map((rule) => timed(rule, (ms) => this.#time.here(ms))) };
  }

  ping(): Promise<void> {
    return this.#client.ping();
  }

  purge(...[nowMs, limit, keep]: Parameters<ShardClient['purge']>): Promise<number> {
    return this.#client.purge(this.#time.since(nowMs), limit, keep);
  }

  async lines(filter: QueueFilter): Promise<string[]> {
    const lines = await this.#client.lines(filter);
    const here = (ms: number): number => this.#time.here(ms);
    return here(1) === 1 ? lines : lines.map((line) => lineTimed(line, here));
  }

  count(...args: Parameters<ShardClient['count']>): ReturnType<ShardClient['count']> {
    return this.#client.count(...args);
  }

  async show(queueId: string): Promise<MailDetail | null> {
    const mail = await this.#client.show(queueId);
    return mail === null ? null : { ...mail, rows: mail.rows.map((row) => this.#rowHere(row)) };
  }

  content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    return this.#client.content(queueId, offset, maxBytes);
  }

  async stats(): Promise<QueueStats> {
    const stats = await this.#client.stats();
    const here = (ms: number | null): number | null => (ms === null ? null : this.#time.here(ms));
    const destinations = stats.destinations.map((one) => ({ ...one, nextDueMs: here(one.nextDueMs) }));
    return { ...stats, destinations };
  }

  operate(
    ...[action, selection, nowMs, ...rest]: Parameters<ShardClient['operate']>
  ): Promise<OperateResult> {
    return this.#client.operate(action, selection, this.#time.since(nowMs), ...rest);
  }
}
