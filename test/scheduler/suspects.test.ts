import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Job } from '../../src/mail/job.ts';
import type { SuspectMark } from '../../src/mail/suspicion.ts';
import { Suspects } from '../../src/scheduler/suspects.ts';

const TAKEN_OVER = 0;
const SUSPECT = 2;
const job = (queueId: string, suspicion?: number): Job =>
  ({ queueId, destination: 'one.test', fence: 1, ...(suspicion === undefined ? {} : { suspicion }) }) as Job;
const jobs = (name: string, count: number, suspicion: number): Job[] =>
  Array.from({ length: count }, (_, i) => job(`${name}${i}`, suspicion));

class World {
  readonly out: string[] = [];
  readonly marks: Record<string, number> = {};
  readonly suspects: Suspects;
  fails = false;
  failures = 0;

  constructor(t: TestContext) {
    t.mock.timers.enable({ apis: ['setInterval'] });
    this.suspects = new Suspects({
      deliver: (jobs) => {
        for (const { queueId, suspicion } of jobs) {
          if (suspicion !== undefined && !this.fails)
            assert.ok((this.marks[queueId] ?? 0) > 0, 'written down before it goes out');
          this.out.push(queueId);
        }
      },
      mark: async (rows: SuspectMark[]) => {
        if (this.fails) throw new Error('the database is away');
        for (const { queueId, suspicion } of rows) this.marks[queueId] = suspicion;
      },
      onMarkError: () => this.failures++,
    });
  }

  async deliver(...jobs: Job[]): Promise<string[]> {
    this.suspects.deliver(jobs);
    return this.went();
  }

  async over(...queueIds: string[]): Promise<string[]> {
    for (const queueId of queueIds) this.suspects.over(queueId, 'one.test');
    return this.went();
  }

  /** What went out since it was asked. */
  async went(): Promise<string[]> {
    await new Promise((resolve) => setImmediate(resolve));
    return this.out.splice(0);
  }
}

test('suspects go one at a time, each marked before; all else flows', async (t) => {
  const world = new World(t);
  assert.deepEqual(await world.deliver(job('a', SUSPECT), job('b'), job('c', SUSPECT)), ['b', 'a']);
  assert.deepEqual(world.marks, { a: 3 });
  world.suspects.over('a', 'two.test');
  assert.deepEqual(await world.over('b'), [], 'none of these is the one that is out');
  assert.deepEqual(await world.over('a'), ['c']);
  assert.deepEqual(await world.deliver(job('d', SUSPECT), job('e', SUSPECT)), []);
  assert.deepEqual(
    world.suspects.take(({ queueId }) => queueId === 'd').map(({ queueId }) => queueId),
    ['d'],
  );
  assert.deepEqual(await world.over('c'), ['e']);
  assert.deepEqual(await world.over('e'), []);
  assert.deepEqual(await world.deliver(job('f', SUSPECT)), ['f']);
});

test('one that is out alone for long has company, and is not to blame for what that does', async (t) => {
  const world = new World(t);
  await world.deliver(job('long', SUSPECT));
  t.mock.timers.tick(60_000);
  assert.deepEqual(await world.went(), []);
  assert.deepEqual(world.marks, { long: 3 }, 'nobody waits: it is alone still');
  assert.deepEqual(await world.deliver(job('a', SUSPECT), job('b', SUSPECT)), []);
  t.mock.timers.tick(250);
  assert.deepEqual(await world.went(), ['a']);
  assert.deepEqual(world.marks, { long: 2, a: 3 });
  t.mock.timers.tick(14_750);
  assert.deepEqual(await world.went(), [], 'half of its time, as one waits');
  t.mock.timers.tick(250);
  assert.deepEqual(await world.went(), ['b']);
  assert.deepEqual(world.marks, { long: 2, a: 2, b: 3 });
});

test('rows taken over go out many at a time, and never beside one that is out alone', async (t) => {
  const world = new World(t);
  const first = await world.deliver(...jobs('t', 3000, TAKEN_OVER));
  assert.equal(first.length, 1024);
  assert.ok(Object.values(world.marks).every((mark) => mark === 1));
  assert.deepEqual(await world.deliver(job('s', SUSPECT)), []);
  assert.deepEqual(await world.over(...first.slice(1)), [], 'it waits for the last of them');
  assert.deepEqual(await world.over(first[0] as string), ['s']);
  assert.equal((await world.over('s')).length, 1024, 'then it is their turn');
});

test('those that take long keep no others: however many hosts are silent, a thousand go out every five seconds', async (t) => {
  const world = new World(t);
  let out = (await world.deliver(...jobs('t', 10_000, TAKEN_OVER))).length;
  let seconds = 0;
  for (; out < 10_000 && seconds < 100; seconds++) {
    for (let i = 0; i < 4; i++) t.mock.timers.tick(250);
    out += (await world.went()).length;
  }
  assert.ok(seconds <= 50, `${out} after ${seconds} s`);
});

test('a database that takes no marks keeps nothing here; what is taken out while it is asked stays out', async (t) => {
  const world = new World(t);
  world.fails = true;
  assert.deepEqual(await world.deliver(job('a', SUSPECT)), ['a']);
  assert.equal(world.failures, 1);
  world.fails = false;
  world.suspects.over('a', 'one.test');
  world.suspects.deliver([job('b', SUSPECT), job('c', TAKEN_OVER)]);
  assert.deepEqual(
    world.suspects
      .take()
      .map(({ queueId }) => queueId)
      .sort(),
    ['b', 'c'],
  );
  assert.deepEqual(await world.went(), []);
  assert.deepEqual(await world.deliver(job('d', SUSPECT)), ['d'], 'the place is free');
});
