/** What two nodes learn of a peer together, over a Redis of the test's own that goes away in the middle: real limits, leases and news, a peer of the test's. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { tokenBucket } from '../../bench/lib/limited-peer.ts';
import { silentLog } from '../../src/base/log.ts';
import { steadyMs } from '../../src/base/steady.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { Outcome } from '../../src/mail/outcome.ts';
import { Learning } from '../../src/relay/learning.ts';
import type { ProcessPlace } from '../../src/relay/place.ts';
import { RelayShaping } from '../../src/relay/shaping.ts';
import type { LimitChangedEvent } from '../../src/report/event-types.ts';
import type { LaneLimits } from '../../src/shaping/lane-limits.ts';
import { ThreadLimits } from '../../src/shaping/thread-limits.ts';
import { bullmqNode } from '../scheduler/bullmq-node.ts';
import { QueueModel } from '../scheduler/queue-model.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { until } from '../support/wait.ts';

const ALLOWED_PER_S = 40;
const SITE = { key: 'mx:mx.peer.test', provider: '' };
const peer = { host: 'mx.peer.test', address: '192.0.2.1', port: 25, source: '' };

/** Takes so many messages a second from both. */
class Peer {
  readonly #takes = tokenBucket(() => ALLOWED_PER_S);
  readonly answers: { atMs: number; node: number; isTaken: boolean }[] = [];

  ask(node: number): boolean {
    const atMs = steadyMs();
    const isTaken = this.#takes(atMs);
    this.answers.push({ atMs, node, isTaken });
    return isTaken;
  }

  between(fromMs: number, toMs = Number.POSITIVE_INFINITY, node?: number) {
    const all = this.answers.filter(
      (one) => one.atMs >= fromMs && one.atMs < toMs && (node === undefined || one.node === node),
    );
    return {
      taken: all.filter(({ isTaken }) => isTaken).length,
      refused: all.filter((one) => !one.isTaken).length,
    };
  }
}

/** A process whose one lane has mail for ever, over one connection. */
class Node {
  offeredPerS = 0;
  readonly changes: Partial<LimitChangedEvent>[] = [];
  readonly #learning: Learning;
  readonly #peer: Peer;
  readonly #number: number;
  #lane: LaneLimits | null = null;
  #isOpen = false;
  #waits = false;
  #credit = 0;
  #workedMs = steadyMs();
  readonly #timer = setInterval(() => this.#work(), 5);

  constructor(
    t: TestContext,
    number: number,
    of: Peer,
    agenda: Awaited<ReturnType<typeof bullmqNode>>['agenda'],
  ) {
    this.#number = number;
    this.#peer = of;
    const folder = mkdtempSync(join(tmpdir(), 'learned-together-'));
    const config: Config = configSchema.parse({
      data_dir: folder,
      node_id: `n${number}`,
      adaptive: { first_probe_ms: 3000 },
    });
    const place = { process: 0, processes: 1, eventsDir: join(folder, 'events') } as ProcessPlace;
    const shaping: RelayShaping = new RelayShaping({
      config,
      place,
      log: silentLog,
      begins: (key) => this.#learning.begins(key),
      belongs() {},
      saw() {},
      agenda,
    });
    this.#learning = new Learning({
      config,
      place,
      log: silentLog,
      events: { limitChanged: (change) => this.changes.push(change as Partial<LimitChangedEvent>) },
      shaping,
      nodes: agenda,
      siteOf: () => null,
      postGates() {},
      postMoves() {},
      threads: 1,
    });
    shaping.start();
    this.#learning.start();
    const thread: ThreadLimits = new ThreadLimits(shaping.data, {
      table: shaping.table,
      post: (news) => thread.slots(shaping.take(0, news)),
      later: (work) => void setImmediate(work),
    });
    void thread.enter(SITE, '').then((lane) => {
      this.#lane = lane;
    });
    t.after(async () => {
      clearInterval(this.#timer);
      shaping.stop();
      await this.#learning.stop();
      rmSync(folder, { recursive: true, force: true });
    });
  }

  #work(): void {
    const lane = this.#lane;
    const nowMs = steadyMs();
    this.#credit = Math.min(3, this.#credit + ((nowMs - this.#workedMs) * this.offeredPerS) / 1000);
    this.#workedMs = nowMs;
    if (lane === null) return;
    if (this.#isOpen && (this.offeredPerS === 0 || lane.leaves())) {
      lane.freeConnection();
      this.#isOpen = false;
    }
    const wants = this.offeredPerS > 0 && !this.#isOpen;
    if (wants && lane.takeConnection(nowMs) === 0) this.#isOpen = true;
    const waits = wants && !this.#isOpen;
    if (waits !== this.#waits) lane.waits(waits ? 1 : -1);
    this.#waits = waits;
    const results: AttemptResult[] = [];
    while (this.#isOpen && this.#credit >= 1 && lane.takeMessage(nowMs) === 0) {
      this.#credit--;
      results.push(resultOf(this.#peer.ask(this.#number)));
    }
    if (results.length > 0) this.#learning.take(results);
  }
}

function resultOf(isTaken: boolean): AttemptResult {
  const reply = isTaken
    ? { code: 250, enhanced: '2.0.0', text: 'ok', peer }
    : { code: 421, enhanced: '4.7.28', text: 'unusual rate', peer };
  const outcome: Outcome = isTaken
    ? { kind: 'delivered', reply, dsnPassedOn: false }
    : {
        kind: 'deferred',
        reason: 'peer_4xx',
        reply,
        detail: '',
        retryAtMs: 0,
        verdict: { class: 'rate_limit', scope: 'source', move: 'slow_down', rule: 'r' },
      };
  return {
    queueId: 'q',
    destination: 'peer.test',
    site: SITE.key,
    fence: 1,
    attempts: 1,
    reversePath: 'a@x.test',
    receivedAtMs: 0,
    sizeBytes: 100,
    groups: [{ seqs: [0], outcome }],
    recipients: [{ seq: 0, address: 'r@peer.test', notify: 0 }],
    times: { queueMs: 0, connectMs: 0, transferMs: 0 },
    dsns: [],
    delayNotified: false,
  };
}

test('two nodes hold to one learned rate, with Redis, without it, and when it is back', {
  skip: skipWithoutRedis(),
  timeout: 180_000,
}, async (t) => {
  const redis = await RedisServer.start();
  t.after(() => redis.close());
  const model = new QueueModel();
  const agendas = await Promise.all([0, 1].map((i) => bullmqNode(redis, model, i, {})));
  for (const node of agendas) t.after(() => node.close());
  await until(() => agendas.every(({ agenda }) => agenda.members().all === 2), 'both know of each other');
  const of = new Peer();
  const [first, second] = agendas.map(({ agenda }, i) => new Node(t, i, of, agenda)) as [Node, Node];
  await sleep(500);

  // Both send too much: whoever is refused first tells the other, and one of them probes.
  first.offeredPerS = second.offeredPerS = 60;
  const opened = () => [...first.changes, ...second.changes].find(({ cause }) => cause === 'probe_accepted');
  await until(() => opened() !== undefined, 'a probe was taken', 15_000);
  const refusal = of.answers.find(({ isTaken }) => !isTaken)?.atMs as number;
  const paused = of.between(refusal + 1500, refusal + 2900);
  assert.deepEqual(paused, { taken: 0, refused: 0 }, 'both pause');
  await sleep(1000);
  const openedMs = steadyMs();
  await sleep(8000);
  const together = of.between(openedMs);
  assert.ok(together.taken > 8 * ALLOWED_PER_S * 0.35, `${together.taken} taken in 8 s`);
  assert.ok(together.refused <= 6, `${together.refused} refused`);
  for (const node of [0, 1])
    assert.ok(of.between(openedMs, Infinity, node).taken > 30, `node ${node} has its part`);

  const sends = (node: number) => of.between(steadyMs() - 1000, Number.POSITIVE_INFINITY, node).taken > 5;
  await until(() => sends(0) && sends(1), 'both send', 20_000);

  // Without Redis each keeps to its part.
  await redis.stop();
  await until(() => agendas.every(({ agenda }) => !agenda.up), 'Redis is given up');
  const lostMs = steadyMs();
  for (const node of [0, 1])
    await until(
      () => of.between(lostMs, Number.POSITIVE_INFINITY, node).taken > 60,
      `node ${node} goes on without Redis`,
      20_000,
    );
  const apart = of.between(lostMs);
  assert.ok(apart.refused <= 0.1 * apart.taken, `${apart.refused} of ${apart.taken} refused without Redis`);

  // Back again, the one that sends has nearly all of it.
  await redis.start();
  await until(() => agendas.every(({ agenda }) => agenda.up), 'Redis is back', 15_000);
  first.offeredPerS = 0;
  await until(
    () => {
      const nowMs = steadyMs();
      return of.between(nowMs - 3000, nowMs, 1).taken > 3 * ALLOWED_PER_S * 0.55;
    },
    'one alone has more than half of what the peer takes',
    40_000,
  );
});
