import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type ErrorCode, RelayError } from '../../src/base/errors.ts';
import type { CommitBatch, CommitResult } from '../../src/database/database.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import type { Entry, SettleItem } from '../../src/persistence/entry.ts';
import { type EntryOutcome, GroupCommit } from '../../src/persistence/group-commit.ts';
import { ShardedCommits } from '../../src/persistence/sharded-commits.ts';
import { FakeArena } from './fake-arena.ts';
import { delivered, recipient } from './fixture.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A GroupCommit over a database that answers when told, with a clock moved by hand. */
class Bench {
  readonly #options: { lanes?: number; settleLingerMs?: number; settleApart?: boolean };

  readonly arena = new FakeArena();
  readonly log: string[] = [];
  readonly batches: CommitBatch[] = [];
  readonly planned: string[] = [];
  readonly outcomes = new Map<string, EntryOutcome | string>();
  readonly accepted = new Map<string, boolean>();
  /** Newest leases of rows, where they are not those of the results. */
  readonly fences = new Map<string, number>();
  /** Jobs of what is withdrawn are. */
  takenBack = Promise.resolve();
  nowMs = 0;
  timers: { fire: () => void; atMs: number }[] = [];
  #answers: { resolve: (result: CommitResult) => void; reject: (error: unknown) => void }[] = [];
  #sequence = 0;
  readonly commits: GroupCommit;

  constructor(options: { lanes?: number; settleLingerMs?: number; settleApart?: boolean } = {}) {
    this.#options = options;
    this.commits = this.#create();
  }

  readonly #create = (): GroupCommit =>
    new GroupCommit(
      {
        commit: (batch) => {
          this.batches.push(batch);
          for (const { message } of batch.messages)
            this.arena.moveState(message.content, CONTENT_STATE.waiting, CONTENT_STATE.committing);
          return new Promise((resolve, reject) => this.#answers.push({ resolve, reject }));
        },
      },
      {
        plan: (entry) => {
          this.planned.push(entry.message.queueId);
          entry.plan = [{ destination: 'one.test', seqs: [0], state: 'PENDING' }];
        },
        committed: (entries, outcomes) => {
          for (const [i, { message }] of entries.entries())
            this.outcomes.set(message.queueId, outcomes[i] as EntryOutcome);
        },
        failed: (entries, error) => {
          for (const entry of entries) this.outcomes.set(entry.message.queueId, error.code);
        },
        settled: (items, accepted) => {
          for (const [i, { settlement }] of items.entries())
            this.accepted.set(settlement.queueId, accepted[i] as boolean);
        },
        fenceOf: ({ queueId, fence }) => this.fences.get(queueId) ?? fence,
        withdrawing: (queueId) => {
          this.log.push(`withdrawing ${queueId}`);
          return this.takenBack;
        },
        withdrawn: (queueId, isGone) => void this.log.push(`${queueId} ${isGone ? 'gone' : 'stays'}`),
      },
      {
        arena: this.arena,
        leaseMs: 60_000,
        now: () => this.nowMs,
        setTimer: (fire, delayMs) => void this.timers.push({ fire, atMs: this.nowMs + delayMs }),
        ...this.#options,
      },
    );

  entry(size = 10): Entry {
    const queueId = `m${this.#sequence++}`;
    const message: Entry['message'] = {
      queueId,
      envelope: { reversePath: '', body: '7BIT', smtpUtf8: false, recipients: [recipient('a@one.test')] },
      trace: '',
      content: this.arena.store(Buffer.alloc(10)),
      sizeBytes: size,
      receivedAtMs: 0,
      client: { address: '127.0.0.1', helo: '', protocol: 'SMTP', sessionId: '' },
    };
    return { message, plan: [], thread: 0, ticket: this.#sequence };
  }

  item(queueId: string, dsns: Entry[] = []): SettleItem {
    return {
      settlement: {
        queueId,
        destination: 'one.test',
        fence: 1,
        attempts: 1,
        groups: [delivered([0])],
        retryAtMs: null,
        delayNotified: false,
      },
      result: {
        queueId,
        destination: 'one.test',
        fence: 1,
        attempts: 1,
        reversePath: '',
        receivedAtMs: 0,
        sizeBytes: 0,
        groups: [],
        recipients: [{ seq: 0, address: '', notify: 0 }],
        times: { queueMs: 0, connectMs: 0, transferMs: 0 },
        dsns: [],
        delayNotified: false,
      },
      dsns,
    };
  }

  /** What the batch in flight carries: queue ids of messages / of settlements / of withdrawals. */
  get inFlight(): string {
    const batch = this.batches.at(-1) as CommitBatch;
    return [
      batch.messages.map((m) => m.message.queueId),
      batch.settlements.map((s) => s.queueId),
      batch.withdrawals,
    ]
      .map((ids) => ids.join(','))
      .join(' / ');
  }

  async ok(change: (result: CommitResult) => void = () => {}): Promise<void> {
    const batch = this.batches.at(-1) as CommitBatch;
    const result: CommitResult = {
      messages: batch.messages.map(() => 'committed'),
      settlements: batch.settlements.map(() => true),
    };
    change(result);
    this.#answers.shift()?.resolve(result);
    await turn();
  }

  async fail(code: ErrorCode): Promise<void> {
    this.#answers.shift()?.reject(new RelayError(code, 'as the test wants it'));
    await turn();
  }

  async advance(ms: number): Promise<void> {
    this.nowMs += ms;
    const due = this.timers.filter((timer) => timer.atMs <= this.nowMs);
    this.timers = this.timers.filter((timer) => timer.atMs > this.nowMs);
    for (const { fire } of due) fire();
    await turn();
  }
}

describe('group commit with lanes', () => {
  const entries = (bench: Bench, count: number): Entry[] =>
    Array.from({ length: count }, () => bench.entry());

  it('says which results are not written down: all of them, or those that wait longer than usual', async () => {
    const bench = new Bench({ lanes: 2, settleApart: true });
    const idsOf = (all: boolean): string[] =>
      bench.commits.unwritten(all).map(({ settlement }) => settlement.queueId);
    assert.deepEqual([idsOf(true), idsOf(false)], [[], []]);
    bench.commits.settle([bench.item('a')]);
    await turn();
    bench.commits.settle([bench.item('b')]);
    assert.deepEqual([idsOf(true), idsOf(false)], [['a', 'b'], []], 'a commit has just begun');
    bench.nowMs += 500;
    assert.deepEqual(idsOf(false), ['a', 'b'], 'and hangs');
    await bench.fail('database_unavailable');
    assert.deepEqual(idsOf(false), ['a', 'b'], 'and failed');
    bench.commits.wake();
    await turn();
    await bench.ok((result) => {
      result.settlements[0] = null;
    });
    assert.deepEqual([idsOf(true), idsOf(false)], [['a'], []], 'another transaction has the row of one');
    bench.nowMs += 500;
    assert.deepEqual(idsOf(false), ['a'], 'and keeps it');
    const sharded = new ShardedCommits(new Map([[0, bench.commits]]), { failed() {} });
    assert.equal(sharded.unwritten(false).length, 1);
  });

  it('a further lane is used for many messages, not for a few', async () => {
    const bench = new Bench({ lanes: 2 });
    bench.commits.submit(entries(bench, 1));
    await turn();
    bench.commits.submit(entries(bench, 31));
    await turn();
    assert.equal(bench.batches.length, 1);
    bench.commits.submit(entries(bench, 1));
    await turn();
    assert.deepEqual(
      bench.batches.map(({ messages, lane }) => [messages.length, lane]),
      [
        [1, 0],
        [32, 1],
      ],
    );
    bench.commits.submit(entries(bench, 100));
    await turn();
    assert.equal(bench.batches.length, 2, 'there are two');
    await bench.ok();
    assert.deepEqual([bench.batches[2]?.messages.length, bench.batches[2]?.lane], [100, 0]);
  });

  it('settlements are in one lane at a time: those of a row keep their order', async () => {
    const bench = new Bench({ lanes: 3 });
    bench.commits.settle([bench.item('x')]);
    await turn();
    bench.commits.settle([bench.item('y')]);
    bench.commits.submit(entries(bench, 40));
    await turn();
    assert.deepEqual(
      bench.batches.map(({ settlements }) => settlements.length),
      [1, 0],
    );
    await bench.fail('database_unavailable');
    await bench.advance(1);
    assert.equal(bench.batches.length, 2, 'what failed waits, and what came since waits behind it');
    await bench.advance(50);
    assert.equal(bench.inFlight, ' / x,y / ');
  });

  it('settlements gather for a while, but not when many wait or the relay drains', async () => {
    const bench = new Bench({ lanes: 2, settleLingerMs: 100 });
    bench.commits.settle([bench.item('first')]);
    await turn();
    assert.equal(bench.inFlight, ' / first / ', 'nothing was written lately');
    await bench.ok();
    bench.commits.settle([bench.item('a')]);
    await turn();
    bench.commits.settle([bench.item('b')]);
    bench.commits.submit(entries(bench, 1));
    await turn();
    assert.deepEqual(bench.batches[1]?.settlements, [], 'messages do not wait for them');
    await bench.ok();
    await bench.advance(99);
    assert.equal(bench.batches.length, 2);
    await bench.advance(1);
    assert.equal(bench.inFlight, ' / a,b / ');
    await bench.ok();
    bench.commits.settle(Array.from({ length: 400 }, (_, i) => bench.item(`m${i}`)));
    await turn();
    assert.equal(bench.batches.at(-1)?.settlements.length, 400);
    await bench.ok();
    bench.commits.settle([bench.item('last')]);
    await turn();
    const drained = bench.commits.drain();
    await turn();
    assert.equal(bench.inFlight, ' / last / ');
    await bench.ok();
    await drained;
  });

  it('settlements apart have a lane of their own: a batch of them that hangs holds up no message', async () => {
    const bench = new Bench({ lanes: 1, settleApart: true });
    bench.commits.settle([bench.item('a')]);
    bench.commits.submit(entries(bench, 2));
    await turn();
    assert.deepEqual(
      bench.batches.map(({ messages, settlements }) => [messages.length, settlements.length]),
      [
        [0, 1],
        [2, 0],
      ],
    );
    bench.commits.submit(entries(bench, 1));
    await turn();
    assert.equal(bench.batches.length, 2, 'messages have one lane here, as before');
    await bench.ok();
    await bench.ok();
    assert.equal(bench.batches[2]?.messages.length, 1);
    await bench.ok();
  });

  it('what another transaction has is tried again after a pause, with its DSN, and a drain waits for it', async () => {
    const bench = new Bench({ lanes: 1, settleApart: true });
    const dsn = bench.entry();
    bench.commits.settle([bench.item('free'), bench.item('locked', [dsn])]);
    await turn();
    await bench.ok((result) => {
      result.settlements = [true, null];
      result.messages = ['withdrawn'];
      result.withdrawLater = ['w'];
    });
    assert.deepEqual([...bench.accepted], [['free', true]]);
    assert.equal(bench.outcomes.size, 0, 'the DSN was neither committed nor given up');
    let drained = false;
    const drain = bench.commits.drain().then(() => {
      drained = true;
    });
    await turn();
    assert.equal(drained, false);
    await bench.advance(199);
    assert.equal(bench.batches.length, 1);
    await bench.advance(1);
    const [, again] = bench.batches;
    assert.deepEqual([again?.settlements.length, again?.messages.length, again?.withdrawals], [1, 1, ['w']]);
    await bench.ok();
    await drain;
    assert.equal(bench.accepted.get('locked'), true);
    assert.equal(bench.outcomes.get(dsn.message.queueId), 'committed');
  });

  it('tells the age of the oldest commit under way', async () => {
    const bench = new Bench({ lanes: 2 });
    bench.commits.submit(entries(bench, 1));
    await turn();
    bench.nowMs = 500;
    bench.commits.submit(entries(bench, 40));
    await turn();
    bench.nowMs = 700;
    assert.equal(bench.commits.stats().commitAgeMs, 700);
    await bench.ok();
    assert.equal(bench.commits.stats().commitAgeMs, 200);
  });
});

describe('commits of several shards', () => {
  it('each shard has its own, and one that hangs holds up no other', async () => {
    const [first, second] = [new Bench(), new Bench()];
    const failed: string[] = [];
    const commits = new ShardedCommits(
      new Map([
        [0, first.commits],
        [3, second.commits],
      ]),
      { failed: (lost, error) => void failed.push(...lost.map(() => error.code)) },
    );
    const at = (bench: Bench, queueId: string): Entry => {
      const entry = bench.entry();
      entry.message.queueId = queueId;
      return entry;
    };
    commits.submit([
      at(first, '06dk00000000a000'),
      at(second, '06dk00000000b003'),
      at(first, '06dk00000000c009'),
    ]);
    commits.settle([second.item('06dk00000000d003')]);
    await turn();
    assert.equal(first.inFlight, '06dk00000000a000 /  / ');
    assert.equal(second.inFlight, '06dk00000000b003 / 06dk00000000d003 / ');
    assert.deepEqual(failed, ['database_refused'], 'a shard that is not there');
    await second.ok();
    assert.equal(second.outcomes.get('06dk00000000b003'), 'committed');
    commits.settle([second.item('06dk00000000e003')]);
    await turn();
    await second.ok((result) => {
      result.settlements = [false];
    });
    assert.deepEqual(
      [commits.stats().settlements, commits.stats().rejected],
      [2, 1],
      'late results are counted',
    );
    assert.deepEqual([commits.stats().committedMessages, commits.stats().failing], [1, false]);
    const drained = commits.drain();
    await first.ok();
    await drained;
  });
});

describe('group commit', () => {
  it('puts what arrives during a commit into the next one, and never has two under way', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    bench.commits.submit([bench.entry()]);
    await turn();
    assert.equal(bench.inFlight, 'm0,m1 /  / ');
    bench.commits.submit([bench.entry()]);
    bench.commits.settle([bench.item('x')]);
    await turn();
    assert.equal(bench.batches.length, 1);
    await bench.ok();
    assert.equal(bench.inFlight, 'm2 / x / ');
    await bench.ok();
    assert.deepEqual(Object.fromEntries(bench.outcomes), {
      m0: 'committed',
      m1: 'committed',
      m2: 'committed',
    });
    assert.deepEqual(Object.fromEntries(bench.accepted), { x: true });
    assert.equal(bench.batches.length, 2);
  });

  it('plans a message just before its batch is sent, with the lease of that moment', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    await turn();
    bench.commits.submit([bench.entry()]);
    await turn();
    assert.deepEqual(bench.planned, ['m0']);
    bench.nowMs = 500;
    await bench.ok();
    assert.deepEqual(bench.planned, ['m0', 'm1']);
    assert.deepEqual([bench.batches[1]?.nowMs, bench.batches[1]?.leaseUntilMs], [500, 60_500]);
  });

  it('bounds a batch by messages and by bytes', async () => {
    const bench = new Bench();
    bench.commits.submit(Array.from({ length: 1200 }, () => bench.entry()));
    await turn();
    for (const size of [500, 500, 200]) {
      assert.equal(bench.batches.at(-1)?.messages.length, size);
      await bench.ok();
    }
    bench.commits.submit([bench.entry(20_000_000), bench.entry(5_000_000), bench.entry(5_000_000)]);
    await turn();
    for (const size of [1, 1, 1]) {
      assert.equal(bench.batches.at(-1)?.messages.length, size);
      await bench.ok();
    }
  });

  it('reports a message withdrawn before the commit, and withdraws one abandoned during it', async () => {
    const bench = new Bench();
    const [early, late, good] = [bench.entry(), bench.entry(), bench.entry()];
    bench.commits.submit([early, late, good]);
    await turn();
    bench.arena.moveState(late.message.content, CONTENT_STATE.committing, CONTENT_STATE.abandoned);
    await bench.ok((result) => {
      result.messages[0] = 'withdrawn';
    });
    assert.deepEqual(Object.fromEntries(bench.outcomes), {
      m0: 'withdrawn',
      m1: 'abandoned',
      m2: 'committed',
    });
    assert.equal(bench.inFlight, ' /  / m1');
    await bench.fail('database_unavailable');
    await bench.advance(50);
    assert.equal(bench.inFlight, ' /  / m1', 'a withdrawal is tried until it is done');
    await bench.ok();
    await bench.commits.drain();
  });

  it('withdraws what has come back from delivery, and tries again while a claim has a row of it', async () => {
    const bench = new Bench();
    const back = Promise.withResolvers<void>();
    bench.takenBack = back.promise;
    const late = bench.entry();
    bench.commits.submit([late]);
    await turn();
    bench.arena.moveState(late.message.content, CONTENT_STATE.committing, CONTENT_STATE.abandoned);
    await bench.ok();
    assert.deepEqual(bench.log, ['withdrawing m0']);
    assert.equal(bench.batches.length, 1, 'a job of it may still be with delivery');
    back.resolve();
    await turn();
    const sending = (result: CommitResult): void => {
      result.withdrawLater = ['m0'];
    };
    assert.equal(bench.inFlight, ' /  / m0');
    await bench.ok(sending);
    await bench.advance(200);
    assert.equal(bench.inFlight, ' /  / m0');
    await bench.ok();
    assert.deepEqual(bench.log, ['withdrawing m0', 'm0 gone']);
    await bench.commits.drain();
  });

  it('lets a message stay whose row is sent for longer than two leases', async () => {
    const bench = new Bench();
    const late = bench.entry();
    bench.commits.submit([late]);
    await turn();
    bench.arena.moveState(late.message.content, CONTENT_STATE.committing, CONTENT_STATE.abandoned);
    await bench.ok();
    for (let tries = 0; tries < 2; tries++) {
      assert.equal(bench.inFlight, ' /  / m0');
      await bench.ok((result) => {
        result.withdrawLater = ['m0'];
      });
      await bench.advance(120_000);
    }
    assert.deepEqual(bench.log, ['withdrawing m0', 'm0 stays']);
    assert.equal(bench.batches.length, 3);
    await bench.commits.drain();
  });

  it('takes away the right to give up once the commit is known', async () => {
    const bench = new Bench();
    const entry = bench.entry();
    bench.commits.submit([entry]);
    await turn();
    await bench.ok();
    assert.equal(
      bench.arena.moveState(entry.message.content, CONTENT_STATE.committing, CONTENT_STATE.abandoned),
      false,
    );
  });

  it('commits a DSN with the settlement that called for it', async () => {
    const bench = new Bench();
    const [dsn, other] = [bench.entry(), bench.entry()];
    bench.commits.settle([bench.item('x'), bench.item('y', [dsn])]);
    bench.commits.submit([other]);
    await turn();
    assert.deepEqual(
      bench.batches[0]?.messages.map((m) => [m.message.queueId, m.settlement]),
      [
        ['m1', undefined],
        ['m0', 1],
      ],
    );
    await bench.ok((result) => {
      result.settlements[1] = false;
      result.messages[1] = 'withdrawn';
    });
    assert.deepEqual(Object.fromEntries(bench.accepted), { x: true, y: false });
    assert.deepEqual(Object.fromEntries(bench.outcomes), { m1: 'committed', m0: 'withdrawn' });
  });

  it('answers messages of a failed commit, and keeps settlements with their DSNs until they are written', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    bench.commits.settle([bench.item('x', [bench.entry()])]);
    await turn();
    await bench.fail('database_full');
    assert.deepEqual(Object.fromEntries(bench.outcomes), { m0: 'database_full' });
    assert.equal(bench.inFlight, 'm1 / x / ', 'at once without the messages that may have been too many');
    await bench.fail('database_full');
    for (const delay of [50, 100, 200]) {
      const before = bench.batches.length;
      await bench.advance(delay - 1);
      assert.equal(bench.batches.length, before, `not before ${delay} ms`);
      await bench.advance(1);
      assert.equal(bench.inFlight, 'm1 / x / ');
      await bench.fail('database_unavailable');
    }
    await bench.advance(400);
    await bench.ok();
    assert.deepEqual(Object.fromEntries(bench.accepted), { x: true });
    assert.equal(bench.outcomes.get('m1'), 'committed');
    assert.deepEqual(bench.planned, ['m0', 'm1'], 'the DSN kept its plan');
  });

  it('writes a result under the newest lease of its row, and once more when that came meanwhile', async () => {
    const bench = new Bench();
    const dsn = bench.entry();
    bench.commits.settle([bench.item('a', [dsn]), bench.item('b')]);
    bench.fences.set('a', 2);
    await turn();
    assert.equal(bench.batches[0]?.settlements[0]?.fence, 2);
    bench.fences.set('a', 3);
    await bench.ok((result) => {
      result.settlements = [false, false];
      result.messages = ['withdrawn'];
    });
    assert.equal(bench.batches[1]?.settlements[0]?.fence, 3);
    assert.deepEqual([...bench.accepted], [['b', false]], 'of the other row nothing newer is known');
    assert.equal(bench.outcomes.size, 0, 'the DSN goes along');
    assert.equal(bench.inFlight, `${dsn.message.queueId} / a / `);
    await bench.ok();
    assert.equal(bench.accepted.get('a'), true);
    assert.equal(bench.outcomes.get(dsn.message.queueId), 'committed');
    assert.equal(bench.commits.stats().rejected, 1);
  });

  it('takes new messages while settlements back off', async () => {
    const bench = new Bench();
    bench.commits.settle([bench.item('x')]);
    await turn();
    await bench.fail('database_unavailable');
    bench.commits.submit([bench.entry()]);
    await turn();
    assert.equal(bench.inFlight, 'm0 /  / ');
    await bench.ok();
    await bench.advance(50);
    assert.equal(bench.inFlight, ' / x / ');
    await bench.ok();
  });

  it('finds the one entry a batch is refused for, and spares its neighbours', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry(), bench.entry(), bench.entry()]);
    bench.commits.settle([bench.item('x')]);
    await turn();
    await bench.fail('database_refused');
    assert.equal(bench.inFlight, 'm0 /  / ');
    await bench.ok();
    await bench.fail('database_refused');
    await bench.ok();
    assert.equal(bench.inFlight, ' / x / ');
    await bench.ok();
    assert.deepEqual(Object.fromEntries(bench.outcomes), {
      m0: 'committed',
      m1: 'database_refused',
      m2: 'committed',
    });
    assert.deepEqual(Object.fromEntries(bench.accepted), { x: true });
  });

  it('tries a settlement that is refused by itself now and then, away from the others', async () => {
    const bench = new Bench();
    bench.commits.settle([bench.item('bad')]);
    await turn();
    await bench.fail('database_refused');
    bench.commits.settle([bench.item('good')]);
    await turn();
    assert.equal(bench.inFlight, ' / good / ');
    await bench.ok();
    await bench.advance(4999);
    assert.equal(bench.batches.length, 2);
    await bench.advance(1);
    assert.equal(bench.inFlight, ' / bad / ');
    await bench.ok();
    assert.deepEqual(Object.fromEntries(bench.accepted), { good: true, bad: true });
  });

  it('a settlement that is refused by itself, again and again, holds up no message of a batch that is refused', async () => {
    const bench = new Bench();
    bench.commits.settle([bench.item('bad')]);
    await turn();
    await bench.fail('database_refused');
    bench.commits.submit([bench.entry(), bench.entry(), bench.entry()]);
    await turn();
    await bench.fail('database_refused');
    assert.equal(bench.inFlight, 'm0 /  / ', 'at once');
    await bench.ok();
    await bench.fail('database_refused');
    await bench.ok();
    assert.deepEqual(Object.fromEntries(bench.outcomes), {
      m0: 'committed',
      m1: 'database_refused',
      m2: 'committed',
    });
    assert.equal(bench.batches.length, 5);
    await bench.advance(5000);
    assert.equal(bench.inFlight, ' / bad / ');
    await bench.ok();
    await bench.commits.drain();
  });

  it('fails messages whatever the database throws', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    await turn();
    await bench.fail('database_corrupt');
    assert.equal(bench.outcomes.get('m0'), 'database_corrupt');
    await bench.commits.drain();
  });

  it('tells the age of the commit under way, and that one failed within the last second', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    await turn();
    bench.nowMs = 700;
    assert.deepEqual([bench.commits.stats().commitAgeMs, bench.commits.stats().failing], [700, false]);
    await bench.fail('database_unavailable');
    assert.deepEqual([bench.commits.stats().commitAgeMs, bench.commits.stats().failing], [0, true]);
    bench.nowMs = 1700;
    assert.equal(bench.commits.stats().failing, false);
  });

  it('tries settlements again when their time is over, whatever the clock says', async () => {
    const bench = new Bench();
    bench.nowMs = 10_000_000;
    bench.commits.settle([bench.item('x'), bench.item('bad')]);
    await turn();
    await bench.fail('database_unavailable');
    const steppedBack = async (delayMs: number): Promise<void> => {
      // The delay passes while the clock is set back by an hour.
      const { fire } = bench.timers.shift() as { fire: () => void };
      bench.nowMs += delayMs - 3_600_000;
      fire();
      await turn();
    };
    await steppedBack(50);
    assert.equal(bench.inFlight, ' / x,bad / ');
    await bench.fail('database_refused');
    await bench.ok();
    await bench.fail('database_refused');
    await steppedBack(5000);
    assert.equal(bench.inFlight, ' / bad / ');
    await bench.ok();
    assert.equal(bench.batches.length, 5);
    await bench.commits.drain();
  });

  it('forgets that a commit failed when the clock is set back', async () => {
    const bench = new Bench();
    bench.nowMs = 10_000_000;
    bench.commits.submit([bench.entry()]);
    await turn();
    await bench.fail('database_unavailable');
    bench.nowMs -= 3_600_000;
    assert.equal(bench.commits.stats().failing, false);
  });

  it('drains when the last commit is known, retries included', async () => {
    const bench = new Bench();
    bench.commits.submit([bench.entry()]);
    bench.commits.settle([bench.item('x')]);
    let drained = false;
    const drain = bench.commits.drain().then(() => {
      drained = true;
    });
    await turn();
    await bench.fail('database_unavailable');
    await bench.fail('database_unavailable');
    assert.equal(drained, false);
    await bench.advance(50);
    await bench.ok();
    await drain;
  });
});
