import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MergedQueue, mergeJournals, mergeSchedulerStats } from '../../src/control/merged-queue.ts';
import type { QueueReader, SchedulerStats } from '../../src/control/target.ts';
import type { QueueFilter } from '../../src/database/database.ts';
import { type Counted, noSums } from '../../src/mail/queue-counts.ts';
import { idOfLine } from '../../src/mail/queue-lines.ts';
import type { QueueRow } from '../../src/mail/queue-row.ts';
import type { QueueStats } from '../../src/mail/queue-stats.ts';
import { mergeStats, noCounts } from '../../src/mail/queue-stats.ts';
import { lineOf, waiting } from './queue-fixture.ts';

const row = (queueId: string, destination: string): QueueRow =>
  ({ queueId, destination, state: 'PENDING' }) as QueueRow;

/** A queue as the contract of Database.lines has it: pages that never part the rows of one mail. */
class ListedQueue implements QueueReader {
  readonly #rows: QueueRow[];

  constructor(rows: QueueRow[]) {
    this.#rows = rows.toSorted((a, b) => (a.queueId < b.queueId ? -1 : a.queueId > b.queueId ? 1 : 0));
  }

  async lines({ limit, afterQueueId = '' }: QueueFilter): Promise<string[]> {
    const rows = this.#rows.filter(({ queueId }) => queueId > afterQueueId);
    const last = rows[Math.min(limit, rows.length) - 1]?.queueId ?? '';
    return rows.filter(({ queueId }) => queueId <= last).map(lineOf);
  }

  async count(): Promise<Counted> {
    return { ...noSums(), entries: this.#rows.length, groups: [], moreGroups: 0, forgotten: false };
  }

  async show(queueId: string): Promise<null> {
    return this.#rows.some((r) => r.queueId === queueId) ? ({ queueId } as never) : null;
  }

  async content(queueId: string): Promise<Uint8Array | null> {
    return this.#rows.some((r) => r.queueId === queueId) ? Buffer.from(queueId) : null;
  }

  async stats(): Promise<QueueStats> {
    return stats({});
  }
}

const noRows = { PENDING: 0, SENDING: 0, SENT: 0, RETRY: 0, DEAD: 0, HELD: 0 };
const stats = (part: Partial<QueueStats>): QueueStats => ({
  rows: noRows,
  messages: noRows,
  recipients: noRows,
  mails: 0,
  contentBytes: 0,
  oldestMs: null,
  suspectedPoison: 0,
  destinations: [],
  other: { ...noCounts(), destinations: 0, mayLack: 0 },
  ...part,
});

test('page by page, queues together list every row once, in order, and no mail in two pages', async () => {
  const mails = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 4 })), {
    selector: ([id]) => id,
    maxLength: 60,
  });
  await fc.assert(
    fc.asyncProperty(
      mails,
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 9 }),
      async (all, n, limit) => {
        const rows = all.flatMap(([id, count]) =>
          Array.from({ length: count }, (_, i) => row(String(id).padStart(4, '0'), `d${i}`)),
        );
        const queues = Array.from(
          { length: n },
          (_, q) => new ListedQueue(rows.filter(({ queueId }) => Number(queueId) % n === q)),
        );
        const merged = new MergedQueue(() => queues);
        const alone = new ListedQueue(rows);
        let after: string | undefined;
        for (;;) {
          const filter = { limit, ...(after === undefined ? {} : { afterQueueId: after }) };
          const page = await merged.lines(filter);
          assert.deepEqual(page, await alone.lines(filter));
          after = page.map(idOfLine).at(-1);
          if (page.length < limit) break;
        }
      },
    ),
  );
});

test('a message is found in whichever queue has it', async () => {
  const queues = [new ListedQueue([row('a', 'x')]), new ListedQueue([row('b', 'x')])];
  const merged = new MergedQueue(() => queues);
  assert.deepEqual(await merged.show('b'), { queueId: 'b' });
  assert.deepEqual(String(await merged.content('a', 0, 10)), 'a');
  assert.equal(await merged.show('c'), null);
  assert.equal(await merged.content('c', 0, 10), null);
});

test('counts are summed, the oldest and the next due are the earliest', () => {
  const parts = [
    stats({
      rows: { ...noRows, RETRY: 2 },
      mails: 2,
      contentBytes: 10,
      oldestMs: 50,
      suspectedPoison: 1,
      destinations: [waiting('b', { entries: 2, recipients: 2, nextDueMs: 9 })],
    }),
    stats({
      rows: { ...noRows, RETRY: 1, HELD: 1 },
      mails: 2,
      contentBytes: 5,
      oldestMs: 40,
      destinations: [waiting('a', { nextDueMs: 7 }), waiting('b', { nextDueMs: 8 })],
    }),
    stats({}),
  ];
  const merged = mergeStats(parts);
  assert.deepEqual(merged, {
    ...stats({}),
    rows: { ...noRows, RETRY: 3, HELD: 1 },
    mails: 4,
    contentBytes: 15,
    oldestMs: 40,
    suspectedPoison: 1,
    destinations: [waiting('b', { entries: 3, recipients: 3, nextDueMs: 8 }), waiting('a', { nextDueMs: 7 })],
  });
  const suspended = (untilMs: number) => ({
    suspended: [{ destination: 'b', untilMs, reason: 'connect' }],
    suspendedDestinations: 1,
  });
  const schedulers: SchedulerStats[] = [
    { inFlight: 1, waitingRows: 2, destinations: 1, ...suspended(5) },
    {
      inFlight: 3,
      waitingRows: 5,
      destinations: 3,
      ...suspended(6),
      holds: [{ kind: 'draining', detail: '' }],
    },
  ];
  const holds = [{ kind: 'draining', detail: '' }];
  const sum = { inFlight: 4, ...suspended(6), holds };
  assert.deepEqual(mergeSchedulerStats(schedulers, mergeStats(parts)), {
    ...sum,
    waitingRows: 3,
    destinations: 2,
  });
  for (const unknown of [null, stats({ unavailable: 'its server is away' })])
    assert.deepEqual(mergeSchedulerStats(schedulers, unknown), { ...sum, waitingRows: 5, destinations: 3 });
  assert.equal(mergeJournals([null, null]), null);
  const shard = { shard: 0, name: 's', waiting: 1, aside: 0, oldestMs: 7, error: null };
  const journal = { bytes: 10, maxBytes: 100, waiting: 1, oldestMs: 7, shards: [shard] };
  const late = { ...shard, waiting: 2, oldestMs: 9, error: 'down' };
  assert.deepEqual(mergeJournals([journal, null, { ...journal, waiting: 2, oldestMs: 9, shards: [late] }]), {
    bytes: 20,
    maxBytes: 200,
    waiting: 3,
    oldestMs: 7,
    shards: [{ ...shard, waiting: 3, error: 'down' }],
  });
});

test('processes that share Redis are summed up; one that cannot use it says why', () => {
  const none = { inFlight: 0, waitingRows: 0, destinations: 0, suspended: [], suspendedDestinations: 0 };
  const up = {
    up: true,
    sinceMs: 1,
    lastError: '',
    processes: 3,
    silent: 0,
    announced: 5,
    taken: 2,
    outages: 0,
  };
  const down = { ...up, up: false, sinceMs: 9, lastError: 'gone', processes: 2, outages: 1 };
  assert.deepEqual(
    mergeSchedulerStats(
      [
        { ...none, faults: { sessions: 1, deliveries: 2, others: 1 }, cluster: up },
        { ...none, faults: { sessions: 0, deliveries: 3, others: 0 }, cluster: down },
      ],
      null,
    ),
    {
      ...none,
      faults: { sessions: 1, deliveries: 5, others: 1 },
      cluster: { ...down, processes: 3, announced: 10, taken: 4, outages: 1 },
    },
  );
});
