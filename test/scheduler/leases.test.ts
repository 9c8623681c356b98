import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createGauges, leaseEpochOf } from '../../src/admission/gauges.ts';
import type { LeasedKey } from '../../src/database/database.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import { DuePoll } from '../../src/scheduler/due-poll.ts';
import { Leases, leaseHolds } from '../../src/scheduler/leases.ts';

const LEASE_MS = 60_000;

class Bench {
  nowMs = Date.now();
  steadyMs = 5_000_000;
  /** Readings of clocks. */
  readings = 0;
  readonly gauges = createGauges();
  readonly renewals: { rows: string[]; untilMs: number }[] = [];
  lapses: number[] = [];
  readonly released: number[] = [];
  readonly givenBack: string[] = [];
  /** What the database says; null: it cannot be reached. */
  renewed: (rows: LeasedKey[]) => number | null = (rows) => rows.length;
  readonly leases = new Leases(
    {
      renew: async (rows, untilMs) => {
        this.renewals.push({ rows: rows.map(({ queueId }) => queueId), untilMs });
        const count = this.renewed(rows);
        if (count === null) throw new Error('no connection');
        return count;
      },
      giveBack: (jobs) => void this.givenBack.push(...jobs.map(({ queueId }) => queueId)),
      release: (content) => void this.released.push(content),
      now: () => this.#read(this.nowMs),
      steady: () => this.#read(this.steadyMs),
      onLapse: (held) => void this.lapses.push(held),
      onRenewError() {},
    },
    this.gauges,
    LEASE_MS,
  );

  #read(ms: number): number {
    this.readings++;
    return ms;
  }

  job(queueId: string, fence = 1): Job {
    const recipients = [0, 1].map((seq) => ({ seq, address: `r${seq}@one.test`, notify: 0 }));
    return { queueId, destination: 'one.test', fence, recipients, content: 0 } as unknown as Job;
  }

  hold(queueId: string): Job {
    const job = this.job(queueId);
    assert.equal(this.leases.hold(job, this.nowMs + LEASE_MS), true);
    return job;
  }

  async after(ms: number): Promise<void> {
    this.pass(ms);
    await this.leases.look();
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.steadyMs += ms;
  }

  holds(job: Job): boolean {
    return leaseHolds(this.gauges, job, this.nowMs, this.steadyMs);
  }
}

describe('leases', () => {
  it('a message costs one reading of each clock', () => {
    const bench = new Bench();
    bench.hold('first');
    bench.readings = 0;
    for (let i = 0; i < 10; i++) bench.hold(`m${i}`);
    assert.equal(bench.readings, 20);
  });

  it('renews what is getting old, and nothing that is young or over', async () => {
    const bench = new Bench();
    await bench.after(0);
    bench.hold('old');
    bench.hold('over');
    await bench.after(LEASE_MS * 0.2);
    assert.equal(bench.renewals.length, 0);
    bench.hold('young');
    bench.leases.drop({ queueId: 'over', destination: 'one.test' });
    await bench.after(LEASE_MS * 0.2);
    assert.deepEqual(bench.renewals, [{ rows: ['old'], untilMs: bench.nowMs + LEASE_MS }]);
    assert.equal(bench.leases.size, 2);
  });

  it('content may go out while the lease holds, and not after', async () => {
    const bench = new Bench();
    await bench.after(0);
    const job = bench.hold('a');
    for (let i = 0; i < 10; i++) {
      await bench.after(LEASE_MS / 6);
      assert.equal(bench.holds(job), true, `after ${i + 1} looks`);
    }
    bench.renewed = () => null;
    for (let i = 0; i < 4; i++) await bench.after(LEASE_MS / 6);
    assert.equal(bench.holds(job), true, 'one renewal missed is no harm');
    for (let i = 0; i < 2; i++) await bench.after(LEASE_MS / 6);
    assert.equal(bench.holds(job), false, 'the database is away for the time of a lease');
  });

  it('a process that stood still sends nothing it had, and everything it gets from then on', async () => {
    const bench = new Bench();
    await bench.after(0);
    const before = bench.hold('a');
    bench.nowMs += 2 * LEASE_MS;
    assert.equal(bench.holds(before), false, 'before anybody looked');
    await bench.leases.look();
    assert.deepEqual(bench.lapses, [1]);
    assert.equal(bench.holds(before), false, 'its row may be another node’s, renewed or not');
    assert.equal(bench.holds(bench.hold('b')), true);
  });

  it('rows that are not ours any more end what is being sent', async () => {
    const bench = new Bench();
    await bench.after(0);
    const job = bench.hold('a');
    bench.renewed = () => 0;
    await bench.after(LEASE_MS * 0.5);
    assert.deepEqual(bench.lapses, [1]);
    assert.equal(bench.holds(job), false);
  });

  it('a row whose result is being written down may be settled already: it is not missed', async () => {
    const bench = new Bench();
    await bench.after(0);
    const job = bench.hold('sending');
    bench.leases.fenceOf(bench.hold('settling'));
    bench.renewed = () => 1;
    await bench.after(LEASE_MS * 0.5);
    assert.deepEqual(bench.lapses, []);
    assert.equal(bench.holds(job), true);
  });

  it('a row that comes to us again while we send it is sent once, and settled under the new lease', () => {
    const bench = new Bench();
    bench.hold('a');
    assert.equal(bench.leases.hold(bench.job('a', 2), bench.nowMs + LEASE_MS), false);
    assert.equal(bench.leases.fenceOf(bench.job('a', 1)), 2);
    assert.equal(bench.leases.fenceOf(bench.job('b', 7)), 7, 'of what is not held nothing is known');
    bench.leases.drop({ queueId: 'a', destination: 'one.test' });
    assert.equal(bench.leases.fenceOf(bench.job('a', 1)), 1);
  });

  it('the answer to a commit in doubt that comes after a claim of its row changes nothing', () => {
    const bench = new Bench();
    bench.leases.hold(bench.job('a', 2), bench.nowMs + LEASE_MS);
    assert.equal(bench.leases.hold(bench.job('a', 1), bench.nowMs), false);
    assert.equal(bench.leases.fenceOf(bench.job('a', 2)), 2);
  });

  it('of a row that others had meanwhile only those recipients count that still waited when it came back', () => {
    const bench = new Bench();
    bench.hold('a');
    const bounced = { kind: 'bounced', reason: 'peer_5xx', status: '5.1.1', detail: '' } as const;
    const deferred = { kind: 'deferred', reason: 'peer_4xx', detail: '', retryAtMs: 0 } as const;
    const result = {
      ...bench.job('a', 1),
      dsns: [{ content: 7 }],
      groups: [
        { seqs: [0], outcome: bounced },
        { seqs: [1], outcome: deferred },
      ],
    } as unknown as AttemptResult;
    assert.equal(bench.leases.counting(result), result);
    assert.deepEqual(bench.leases.over([result]), [result]);
    const back = bench.job('a', 3);
    back.recipients.shift();
    bench.leases.hold(back, bench.nowMs + LEASE_MS);
    assert.deepEqual(bench.leases.counting(result).groups, [{ seqs: [1], outcome: deferred }]);
    // Whoever settled the other recipient has reported it, too.
    assert.deepEqual(bench.leases.over([result])[0]?.dsns, []);
    assert.deepEqual(bench.released, [7]);
  });

  it('no claim brings a row of a message that is being withdrawn, one under way included', async () => {
    const bench = new Bench();
    const claimed = async (while_: () => void): Promise<string[]> => {
      const { jobs } = await bench.leases.claim('one.test', 10, async () => {
        while_();
        return { jobs: [bench.job('w'), bench.job('x')], nextDueMs: null, short: false };
      });
      for (const job of jobs) bench.leases.drop(job);
      return jobs.map(({ queueId }) => queueId);
    };
    const during = claimed(() => bench.leases.withdraw('w'));
    assert.deepEqual(await during, ['x']);
    assert.deepEqual(await claimed(() => {}), ['x']);
    // The rows went while the claim that had found them was on its way back.
    assert.deepEqual(await claimed(() => bench.leases.withdrawn('w')), ['x']);
    assert.deepEqual(bench.givenBack, ['w', 'w', 'w']);
    assert.equal(bench.released.length, 3);
    assert.equal(bench.leases.size, 0);
    assert.deepEqual(await claimed(() => {}), ['w', 'x']);
  });

  it('what a claim brings is held; what is being sent already does not go out twice', async () => {
    const bench = new Bench();
    const claimed = async (...jobs: Job[]): Promise<Job[]> =>
      (
        await bench.leases.claim('one.test', 10, async ({ leaseUntilMs }) => {
          assert.equal(leaseUntilMs, bench.nowMs + LEASE_MS);
          return { jobs, nextDueMs: null, short: false };
        })
      ).jobs;
    assert.equal((await claimed(bench.job('a'), bench.job('b'))).length, 2);
    const again = { ...bench.job('a', 2), content: 77 };
    assert.deepEqual(await claimed(again), []);
    assert.deepEqual(bench.released, [77]);
    assert.equal(bench.leases.size, 2);
  });

  it('a lease that was short when it came shortens the time all hold', async () => {
    const bench = new Bench();
    await bench.after(0);
    const job = bench.job('late');
    bench.leases.hold(job, bench.nowMs + LEASE_MS / 10);
    bench.nowMs += LEASE_MS / 5;
    assert.equal(bench.holds(job), false);
    assert.equal(Atomics.load(bench.gauges, leaseEpochOf(0)), 0);
  });

  it('a shard that cannot be reached lets its own leases lapse, and no others', async () => {
    const bench = new Bench();
    await bench.after(0);
    const away = bench.hold('0123456789abcde1');
    const here = bench.hold('0123456789abcde2');
    bench.renewed = (rows) => (rows.some(({ queueId }) => queueId.endsWith('1')) ? null : rows.length);
    for (let i = 0; i < 12; i++) await bench.after(LEASE_MS / 6);
    assert.equal(bench.holds(away), false);
    assert.equal(bench.holds(here), true, 'renewed all the while');
    assert.equal(bench.holds(bench.hold('0123456789abcdf2')), true, 'and so is what comes after');
  });
});

describe('leases and a clock that is set', () => {
  it('forward: what was held lapses once, and what comes then goes out at once, before anybody looked', async () => {
    const bench = new Bench();
    await bench.after(0);
    const before = bench.hold('a');
    bench.nowMs += 10 * LEASE_MS;
    assert.equal(bench.holds(before), false, 'the process may have been suspended');
    const fresh = bench.hold('b');
    assert.equal(bench.holds(fresh), true);
    assert.equal(bench.holds(before), false);
    assert.deepEqual(bench.lapses, [1]);
    const next = bench.hold('c');
    await bench.after(0);
    assert.deepEqual([bench.holds(fresh), bench.holds(next), bench.lapses], [true, true, [1]]);
    assert.deepEqual(bench.renewals.at(-1)?.rows, ['a'], 'so that its result can still be written down');
  });

  it('back: leases are renewed as if nothing had been, and end when they are not', async () => {
    const bench = new Bench();
    await bench.after(0);
    const job = bench.hold('a');
    bench.nowMs -= 86_400_000;
    await bench.after(LEASE_MS / 2);
    assert.equal(bench.renewals.length, 1);
    assert.equal(bench.holds(job), true);
    bench.renewed = () => null;
    for (let i = 0; i < 7; i++) await bench.after(LEASE_MS / 6);
    assert.equal(bench.holds(job), false);
    assert.equal(bench.holds(bench.hold('b')), true);
  });
});

describe('due poll', () => {
  it('asks again and again, hands on what it finds, and survives a database that is away', async () => {
    const answers = [
      () => Promise.resolve([{ destination: 'one.test', rows: 1, nextDueMs: 5 }]),
      () => Promise.reject(new Error('away')),
      () => Promise.resolve([]),
    ];
    const seen: string[] = [];
    await new Promise<void>((resolve) => {
      const poll = new DuePoll(
        {
          due: () => (answers.shift() ?? (() => Promise.resolve([])))(),
          discovered: (found) => void seen.push(...found.map(({ destination }) => destination)),
          onError: (error) => {
            seen.push((error as Error).message);
            setTimeout(() => {
              poll.stop();
              resolve();
            }, 20);
          },
          now: Date.now,
        },
        () => 1,
      );
      poll.start();
    });
    assert.deepEqual(seen, ['one.test', 'away']);
    assert.equal(answers.length, 0, 'it went on after the error');
  });

  it('asks again soon after the process stood still over a question', { timeout: 60_000 }, async () => {
    let nowMs = 0;
    let asked = 0;
    await new Promise<void>((resolve) => {
      const poll = new DuePoll(
        {
          due: async () => {
            // The first answer is there an hour later.
            if (asked++ === 0) nowMs += 3_600_000;
            else resolve();
            return [];
          },
          discovered() {},
          onError() {},
          now: () => nowMs,
        },
        () => 10,
      );
      poll.start();
    });
    assert.ok(asked >= 2);
  });
});
