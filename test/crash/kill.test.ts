/**
 * kill -9 of the whole process group under load, at seeded random points (under way, and in the middle of a start),
 * then restart, until everything is settled. Promise I1 and I2: no message that got its 250 is lost or damaged.
 * Duplicates (I6) are counted and bounded by what can be under way.
 *
 *   CRASH_KILLS=20 CRASH_SEED=4711 node --test test/crash/*.test.ts
 */

import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { type TestContext, test } from 'node:test';
import { LoadClient, type LoadOptions } from '../../bench/lib/load-client.ts';
import { Sink } from '../../bench/lib/sink-server.ts';
import { type Arena, createArena } from '../../src/native.ts';
import { random } from '../support/dice.ts';
import { fatesOf } from '../support/fates.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';

const KILLS = Number(process.env.CRASH_KILLS ?? 3);
const SEED = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Places with delivery: no more can be delivered and not yet recorded when the relay dies. */
const IN_FLIGHT = 300;
/** Numbers of the big messages begin here. */
const BIG = 1_000_000;

const arena = createArena(64 << 20, tmpdir());

/** Acknowledged numbers, and a promise for the next so many. */
class Acknowledged {
  readonly numbers: number[] = [];
  #waiter: { count: number; resolve: () => void } | null = null;

  add(number: number): void {
    this.numbers.push(number);
    if (this.#waiter === null || this.numbers.length < this.#waiter.count) return;
    this.#waiter.resolve();
    this.#waiter = null;
  }

  more(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiter = { count: this.numbers.length + count, resolve };
    });
  }
}

function load(
  port: number,
  options: Partial<LoadOptions>,
  acknowledged: Acknowledged,
  memory: Arena,
): LoadClient {
  return new LoadClient(
    {
      host: '127.0.0.1',
      port,
      messages: Number.POSITIVE_INFINITY,
      sizeBytes: 2000,
      rcpts: 1,
      concurrency: 20,
      perConnection: false,
      pipeline: false,
      ratePerSecond: 1500,
      durationMs: 0,
      toDomain: 'crash.test',
      from: 'sender@bench.test',
      run: 'c0ffee00',
      stallMs: 30_000,
      reconnectMs: 20,
      spillDir: tmpdir(),
      onAccepted: (number) => acknowledged.add(number),
      ...options,
    },
    memory,
  );
}

for (const provider of ['database', 'local'] as const) {
  test(
    `${KILLS} kills with ${provider} storage: nothing acknowledged is lost or damaged`,
    {
      timeout: 60_000 + KILLS * 10_000,
    },
    (t) => survive(t, provider),
  );
}

async function survive(t: TestContext, provider: 'database' | 'local'): Promise<void> {
  t.diagnostic(`CRASH_SEED=${SEED}`);
  const next = random(SEED);
  let progressed: () => void = () => {};
  const sink = new Sink(
    {
      host: '127.0.0.1',
      port: 0,
      maxConnections: 500,
      run: 'c0ffee00',
      check: true,
      chunking: next() < 0.5,
      faults: [
        { stage: 'rcpt', code: 451, share: 0.01 },
        { stage: 'end', code: 451, share: 0.01 },
        { stage: 'end', code: 0, share: 0.002 },
      ],
      rcpts: 1,
      delayMs: 0,
      spillDir: tmpdir(),
      onProgress: () => progressed(),
    },
    arena,
  );
  t.after(() => sink.close());
  const relay = await RelayFixture.start({
    storage: { provider },
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      max_handoff_messages: IN_FLIGHT,
      suspend_after_failures: 1000,
    },
    retry: { initial_delay_ms: 50, max_delay_ms: 200, max_attempts: 1000 },
  });
  t.after(() => relay.destroy());
  // The clients know one port: the next lives listen on it again.
  relay.configure({ listeners: [{ host: '127.0.0.1', port: relay.port }] });

  const acknowledged = new Acknowledged();
  const small = load(relay.port, {}, acknowledged, arena);
  const big = { sizeBytes: 300_000, concurrency: 2, ratePerSecond: 20, firstNumber: BIG };
  const large = load(relay.port, big, acknowledged, arena);
  const clients = [small, large];
  const running = clients.map((client) => client.run());

  for (let kill = 1; kill <= KILLS; kill++) {
    await bounded(
      acknowledged.more(1 + Math.floor(next() * 1500)),
      30_000,
      () => `stuck:\n${relay.output()}`,
    );
    // Not only right after a 250: at any moment of the work.
    await new Promise((resolve) => setTimeout(resolve, next() * 60));
    await relay.kill();
    if (next() < 0.35) {
      relay.launch();
      await new Promise((resolve) => setTimeout(resolve, next() * 500));
      await relay.kill();
    }
    await relay.start();
  }
  await bounded(acknowledged.more(200), 30_000, () => `stuck after the last start:\n${relay.output()}`);
  for (const client of clients) client.stop();
  await Promise.all(running);

  let missing = acknowledged.numbers;
  const all = new Promise<void>((resolve) => {
    progressed = () => {
      missing = missing.filter((number) => sink.tally.count(number) === 0);
      if (missing.length === 0) resolve();
    };
    progressed();
  });
  await bounded(all, 60_000, () => {
    const counts = `${missing.length} of ${acknowledged.numbers.length}`;
    return `${counts} acknowledged messages did not arrive, as ${missing.slice(0, 5)}:\n${relay.output()}`;
  });

  const report = sink.report();
  assert.equal(report.corrupted, 0, 'damaged messages');
  assert.equal(report.foreign, 0, 'messages nobody sent');
  const limit = IN_FLIGHT * KILLS * 2;
  assert.ok(report.duplicates <= limit, `${report.duplicates} duplicates, at most ${limit} can be explained`);
  relay.events.read();
  for (const [key, fates] of fatesOf(relay.events.events)) assert.equal(fates.length, 1, `${key}: ${fates}`);
  assert.equal((await relay.stop()).code, 0);
  t.diagnostic(
    `${acknowledged.numbers.length} acknowledged, ${report.distinct} arrived, ${report.duplicates} duplicates, ` +
      `${report.faults} faults, ${small.failed + large.failed} refused or cut off`,
  );
  for (const client of clients) client.destroy();
}
