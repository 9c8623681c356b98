/** A queue of plain rows that schedulers claim from: shards, leases and a delivery that tells what it got. */
import type { ClaimResult, DestinationBacklog, ShardBacklog } from '../../src/database/database.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import { withShard } from '../../src/mail/queue-id.ts';
import type { Scheduler, SchedulerPorts } from '../../src/scheduler/scheduler.ts';

interface Row {
  queueId: string;
  destination: string;
  shard: number;
  dueMs: number;
  sending: boolean;
}

export interface Sent {
  job: Job;
  atMs: number;
  node: number;
}

export class QueueModel {
  readonly shardIds: number[];
  readonly rows = new Map<string, Row>();
  readonly sent: Sent[] = [];
  /** Statements a database would have been asked: one for each claim of a shard. */
  claims = 0;
  dueQuestions = 0;
  failClaims = 0;
  readonly errors: unknown[] = [];
  #serial = 0;

  constructor(shards = 1) {
    this.shardIds = Array.from({ length: shards }, (_, i) => i);
  }

  /** A row that waits; schedulers are told by the test. */
  put(destination: string, dueMs: number, shard = 0): string {
    const queueId = withShard(String(this.#serial++).padStart(15, '0'), shard);
    this.rows.set(queueId, { queueId, destination, shard, dueMs, sending: false });
    return queueId;
  }

  claim(destination: string, limit: number, mask = -1): ClaimResult {
    if (this.failClaims > 0) {
      this.failClaims--;
      throw new Error('database gone');
    }
    const nowMs = Date.now();
    const result: ClaimResult = { jobs: [], nextDueMs: null, short: false, shards: [] };
    for (const shard of this.shardIds.filter((id) => (mask & (1 << id)) !== 0)) {
      this.claims++;
      const waiting = [...this.rows.values()].filter(
        (row) => row.destination === destination && row.shard === shard && !row.sending,
      );
      waiting.sort((a, b) => a.dueMs - b.dueMs);
      const due = waiting.filter(({ dueMs }) => dueMs <= nowMs).slice(0, limit - result.jobs.length);
      for (const row of due) {
        row.sending = true;
        result.jobs.push(jobOf(row.queueId, destination));
      }
      const next = waiting.find(({ sending }) => !sending)?.dueMs ?? null;
      result.shards?.push({ shard, nextDueMs: next });
      if (next !== null) result.nextDueMs = Math.min(next, result.nextDueMs ?? next);
    }
    return result;
  }

  due(): DestinationBacklog[] {
    this.dueQuestions++;
    const nowMs = Date.now();
    return this.backlogByShard().filter(({ nextDueMs }) => nextDueMs <= nowMs);
  }

  backlogByShard(): ShardBacklog[] {
    const found = new Map<string, ShardBacklog>();
    for (const { destination, shard, dueMs, sending } of this.rows.values()) {
      if (sending) continue;
      const key = `${shard} ${destination}`;
      const backlog = found.get(key) ?? { destination, shard, rows: 0, nextDueMs: dueMs };
      backlog.rows++;
      backlog.nextDueMs = Math.min(backlog.nextDueMs, dueMs);
      found.set(key, backlog);
    }
    return [...found.values()];
  }

  /** What waits by destination, as one database says it. */
  backlog(): DestinationBacklog[] {
    const found = new Map<string, DestinationBacklog>();
    for (const { destination, rows, nextDueMs } of this.backlogByShard()) {
      const sum = found.get(destination) ?? { destination, rows: 0, nextDueMs };
      found.set(destination, {
        destination,
        rows: sum.rows + rows,
        nextDueMs: Math.min(sum.nextDueMs, nextDueMs),
      });
    }
    return [...found.values()];
  }

  /** The ports of one node; what it delivers is settled at once unless `hold` says otherwise. */
  ports(
    node: number,
    hold: (job: Job) => boolean,
    scheduler: () => Scheduler,
  ): Omit<SchedulerPorts, 'claim'> {
    return {
      deliver: (jobs) => {
        for (const job of jobs) {
          this.sent.push({ job, atMs: Date.now(), node });
          if (!hold(job)) setImmediate(() => this.settle(scheduler(), job));
        }
      },
      contentBytes: 65_536_000,
      freeContentBytes: () => 65_536_000,
      now: Date.now,
      setTimer(atMs, fire) {
        const timer = setTimeout(fire, Math.max(0, atMs - Date.now()));
        return { cancel: () => clearTimeout(timer) };
      },
    };
  }

  /** The attempt is over: the row is gone, or waits until then. */
  settle(scheduler: Scheduler, job: Job, retryAtMs: number | null = null): void {
    const row = this.rows.get(job.queueId) as Row;
    if (retryAtMs === null) this.rows.delete(job.queueId);
    else {
      row.sending = false;
      row.dueMs = retryAtMs;
    }
    scheduler.settled(resultOf(job), retryAtMs);
  }

  /** The job comes back unfinished. */
  giveBack(scheduler: Scheduler, job: Job): void {
    (this.rows.get(job.queueId) as Row).sending = false;
    scheduler.returned(job);
  }

  sentTo(destination: string): Sent[] {
    return this.sent.filter(({ job }) => job.destination === destination);
  }
}

const jobOf = (queueId: string, destination: string): Job => ({
  queueId,
  destination,
  attempts: 0,
  fence: 1,
  reversePath: '',
  body: '7BIT',
  smtpUtf8: false,
  trace: '',
  content: 0,
  sizeBytes: 1,
  receivedAtMs: 0,
  delayNotified: false,
  recipients: [],
});

const resultOf = ({ queueId, destination }: Job): AttemptResult => ({
  queueId,
  destination,
  fence: 1,
  attempts: 1,
  reversePath: '',
  receivedAtMs: 0,
  sizeBytes: 1,
  groups: [],
  recipients: [],
  times: { queueMs: 0, connectMs: 0, transferMs: 0 },
  dsns: [],
  delayNotified: false,
});
