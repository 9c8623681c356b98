/**
 * The group commits of all shards: each shard has its own, so that one which hangs or fails holds up no other. The
 * queue id of a message names the shard to which it belongs, with its settlements and DSNs.
 */
import { RelayError } from '../base/errors.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { Entry, SettleItem } from './entry.ts';
import type { GroupCommit, GroupCommitPorts, GroupCommitStats } from './group-commit.ts';

export class ShardedCommits {
  readonly #commits: Map<number, GroupCommit>;
  readonly #only: GroupCommit | null;
  readonly #ports: Pick<GroupCommitPorts, 'failed'>;

  /** @param commits by number of the shard. */
  constructor(commits: Map<number, GroupCommit>, ports: Pick<GroupCommitPorts, 'failed'>) {
    this.#commits = commits;
    this.#ports = ports;
    const [first] = commits.values();
    this.#only = commits.size === 1 ? (first as GroupCommit) : null;
  }

  submit(entries: Entry[]): void {
    if (this.#only !== null) {
      this.#only.submit(entries);
      return;
    }
    for (const [shard, part] of Map.groupBy(entries, ({ message }) => shardOfQueueId(message.queueId))) {
      const commits = this.#commits.get(shard);
      if (commits !== undefined) commits.submit(part);
      else this.#ports.failed(part, new RelayError('database_refused', `no shard has the number ${shard}`));
    }
  }

  /** The shard is back: whatever waits for it is committed at once. */
  wake(shard: number): void {
    this.#commits.get(shard)?.wake();
  }

  settle(items: SettleItem[]): void {
    if (this.#only !== null) {
      this.#only.settle(items);
      return;
    }
    for (const [shard, part] of Map.groupBy(items, ({ result }) => shardOfQueueId(result.queueId)))
      this.#commits.get(shard)?.settle(part);
  }

  unwritten(all: boolean): SettleItem[] {
    return [...this.#commits.values()].flatMap((commits) => commits.unwritten(all));
  }

  async drain(): Promise<void> {
    await Promise.all([...this.#commits.values()].map((commits) => commits.drain()));
  }

  /** Shards for which something is queued or under way. */
  busy(): number[] {
    return [...this.#commits].flatMap(([shard, commits]) => (commits.isIdle ? [] : [shard]));
  }

  get holdsMail(): boolean {
    return [...this.#commits.values()].some(({ holdsMail }) => holdsMail);
  }

  /** Sums over all shards; the age of the oldest commit under way; failing when every shard is. */
  stats(): GroupCommitStats {
    if (this.#only !== null) return this.#only.stats();
    const sum: GroupCommitStats = {
      queuedMessages: 0,
      queuedSettlements: 0,
      commits: 0,
      committedMessages: 0,
      settlements: 0,
      rejected: 0,
      failures: 0,
      commitAgeMs: 0,
      failing: true,
    };
    for (const commits of this.#commits.values()) {
      const part = commits.stats();
      sum.queuedMessages += part.queuedMessages;
      sum.queuedSettlements += part.queuedSettlements;
      sum.commits += part.commits;
      sum.committedMessages += part.committedMessages;
      sum.settlements += part.settlements;
      sum.rejected += part.rejected;
      sum.failures += part.failures;
      sum.commitAgeMs = Math.max(sum.commitAgeMs, part.commitAgeMs);
      sum.failing &&= part.failing;
    }
    return sum;
  }
}
