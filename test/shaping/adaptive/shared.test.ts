/** What several processes learn together, on a simulated clock: each has its part of the rate, and hears the others late, or not at all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { penaltyBox, tokenBucket } from '../../../bench/lib/limited-peer.ts';
import { AdaptiveController } from '../../../src/shaping/adaptive/controller.ts';
import type { LimitKey } from '../../../src/shaping/adaptive/keys.ts';
import { type KeyNews, newsIn } from '../../../src/shaping/adaptive/news.ts';
import { DEFAULTS } from '../../../src/shaping/adaptive/settings.ts';

const KEY: LimitKey = { scope: 'source', value: 'a1', site: 'google' };
const REPLY = '421 4.7.28 unusual rate';
const TRANSFER_MS = 50;

interface Options {
  peer(nowMs: number): boolean;
  /** Messages per second that each has; of process i. */
  offered(i: number): number;
  processes?: number;
  /** How late news are heard; Infinity: never. */
  newsMs?(): number;
  forMs: number;
}

interface Second {
  accepted: number;
  refused: number;
}

/** Processes with equal parts. A process sends at once what its limit lets through. */
class Processes {
  readonly seconds: Second[] = [];
  readonly controllers: AdaptiveController[];
  /** Messages that went while any process waited for a probe. */
  probes: { process: number; atMs: number }[] = [];
  #news: { toMs: number; from: number; text: string }[] = [];
  #flying: { process: number; sentMs: number; isAccepted: boolean }[] = [];
  #now = 1_000_000;
  readonly #credit: number[];
  readonly #options: Required<Options>;

  constructor(options: Options) {
    this.#options = { processes: 2, newsMs: () => 20, ...options };
    const { processes } = this.#options;
    this.#credit = Array<number>(processes).fill(0);
    this.controllers = Array.from({ length: processes }, (_, i) => {
      const sharing = { me: `n${i}`, part: () => 1 / processes, isLeased: false };
      return new AdaptiveController(
        { ...DEFAULTS, sharing },
        { changed() {}, limit() {}, news: (news) => this.#say(i, news) },
      );
    });
  }

  #say(from: number, news: KeyNews): void {
    const toMs = this.#now + this.#options.newsMs();
    if (Number.isFinite(toMs)) this.#news.push({ toMs, from, text: JSON.stringify(news) });
  }

  run(): this {
    const stepMs = 10;
    const { forMs, peer, offered } = this.#options;
    for (let ms = 0; ms < forMs; ms += stepMs, this.#now += stepMs) {
      if (ms % 1000 === 0) {
        this.seconds.push({ accepted: 0, refused: 0 });
        for (const one of this.controllers) one.tick(this.#now);
      }
      this.#hear();
      this.#answer();
      for (const [i, one] of this.controllers.entries())
        this.#send(i, one, offered(i) * (stepMs / 1000), peer);
    }
    return this;
  }

  #hear(): void {
    const due = this.#news.filter(({ toMs }) => toMs <= this.#now);
    this.#news = this.#news.filter(({ toMs }) => toMs > this.#now);
    for (const { from, text } of due)
      for (const [i, one] of this.controllers.entries())
        if (i !== from) one.hear(newsIn(text) as KeyNews, { within: [KEY], open: 0 }, this.#now);
  }

  #answer(): void {
    const second = this.seconds.at(-1) as Second;
    const due = this.#flying.filter(({ sentMs }) => sentMs + TRANSFER_MS <= this.#now);
    this.#flying = this.#flying.filter(({ sentMs }) => sentMs + TRANSFER_MS > this.#now);
    for (const { process, sentMs, isAccepted } of due) {
      const one = this.controllers[process] as AdaptiveController;
      if (isAccepted) {
        second.accepted++;
        one.answered(KEY, 1, 1, sentMs, Number.POSITIVE_INFINITY, this.#now);
      } else {
        second.refused++;
        one.refused(KEY, { class: 'rate_limit', reply: REPLY, sentMs, openConnections: 1 }, this.#now);
      }
    }
  }

  #send(i: number, one: AdaptiveController, offered: number, peer: Options['peer']): void {
    const limit = one.limitOf(KEY);
    if (limit.closedUntilMs > this.#now) {
      this.#credit[i] = 0;
      return;
    }
    if (limit.probing) {
      if (this.#flying.some(({ process }) => process === i) || offered === 0) return;
      this.probes.push({ process: i, atMs: this.#now });
      this.#go(i, peer);
      one.sent(KEY, this.#now);
      return;
    }
    const allowed = (limit.messagesPerS / this.controllers.length) * 0.01;
    this.#credit[i] = Math.min(2, (this.#credit[i] as number) + Math.min(offered, allowed));
    while ((this.#credit[i] as number) >= 1) {
      this.#credit[i] = (this.#credit[i] as number) - 1;
      this.#go(i, peer);
    }
  }

  #go(process: number, peer: Options['peer']): void {
    this.#flying.push({ process, sentMs: this.#now, isAccepted: peer(this.#now) });
  }

  sum(fromS: number, toS: number): Second {
    const all = { accepted: 0, refused: 0 };
    for (const { accepted, refused } of this.seconds.slice(fromS, toS)) {
      all.accepted += accepted;
      all.refused += refused;
    }
    return all;
  }
}

describe('processes that share what they learn', () => {
  test('hold the sum of what they send to what the peer takes', () => {
    const run = new Processes({ peer: tokenBucket(() => 40), offered: () => 100, forMs: 1_800_000 }).run();
    const { accepted, refused } = run.sum(900, 1800);
    assert.ok(accepted / 900 >= 0.9 * 40, `accepted ${accepted / 900}/s`);
    assert.ok(refused <= 0.01 * accepted, `refused ${refused} of ${accepted}`);
  });

  test('come to the sum of what all of them were taken, whoever was refused first', () => {
    const run = new Processes({
      peer: tokenBucket((nowMs) => (nowMs < 1_020_000 ? 1000 : 30)),
      offered: (i) => (i === 0 ? 10 : 30),
      forMs: 25_000,
    }).run();
    const [first, second] = run.controllers.map((one) => one.limitOf(KEY).messagesPerS);
    assert.ok(
      Math.abs((first as number) - (second as number)) < 0.1 * (first as number),
      `${first} ${second}`,
    );
    assert.ok((first as number) > 0.7 * 40 * 0.8 && (first as number) < 40, `${first}`);
  });

  test('a penalty met by one pauses all, and one of them probes', () => {
    const run = new Processes({
      peer: penaltyBox(100, 60_000),
      processes: 4,
      offered: () => 5,
      newsMs: () => 150,
      forMs: 90_000,
    }).run();
    const pauses = run.sum(10, 60);
    assert.ok(pauses.refused <= 20, `refused ${pauses.refused}`);
    assert.equal(new Set(run.probes.map(({ process }) => process)).size, 1, JSON.stringify(run.probes));
  });

  test('one that has no mail for the probe leaves it to another', () => {
    let hasMail = true;
    const run = new Processes({
      peer: tokenBucket((nowMs) => (nowMs < 1_010_000 ? 20 : 10)),
      offered: (i) => (i === 0 && !hasMail ? 0 : 50),
      forMs: 60_000,
    });
    const first = run.controllers[0] as AdaptiveController;
    const { refused } = first;
    first.refused = (...args) => {
      hasMail = false;
      return refused.apply(first, args);
    };
    run.run();
    assert.ok(run.probes.some(({ process }) => process === 1));
    assert.ok(run.sum(40, 60).accepted > 20 * 2, `accepted ${run.sum(40, 60).accepted}`);
  });

  test('agree in the end, in whatever order they hear each other, and whatever is lost but the last word', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constant(Number.POSITIVE_INFINITY)), {
          minLength: 200,
          maxLength: 200,
        }),
        fc.integer({ min: 2, max: 5 }),
        (delays, processes) => {
          let n = 0;
          let isOver = false;
          const run = new Processes({
            peer: tokenBucket(() => 20),
            processes,
            offered: (i) => (isOver ? 0 : 10 + 20 * i),
            newsMs: () => (isOver ? 10 : (delays[n++ % delays.length] as number)),
            forMs: 60_000,
          });
          run.run();
          isOver = true;
          run.run();
          for (const one of run.controllers) one.shareAll(0);
          run.run();
          const records = run.controllers.map((one) => {
            const [record] = [...one.save(0)];
            return { epoch: record?.rate?.epoch, phase: record?.rate?.phase, per_s: record?.rate?.per_s };
          });
          for (const record of records) assert.deepEqual(record, records[0]);
        },
      ),
      { numRuns: 15 },
    );
  });
});

test('news are the same after their journey; what is none is passed over', () => {
  const told: KeyNews[] = [];
  const sharing = { me: 'n1', part: () => 1, isLeased: true };
  const controller = new AdaptiveController(
    { ...DEFAULTS, sharing },
    { changed() {}, limit() {}, news: (news) => told.push(news) },
  );
  const refusal = { reply: REPLY, sentMs: 0, openConnections: 7 };
  controller.refused(KEY, { ...refusal, class: 'rate_limit' }, 1000);
  controller.refused(KEY, { ...refusal, class: 'connection_limit' }, 1001);
  assert.equal(told.length, 2);
  for (const news of told) assert.deepEqual(newsIn(JSON.stringify(news)), news);
  const good = told[1] as KeyNews;
  const wrong: unknown[] = [
    null,
    7,
    { ...good, key: 'x' },
    { ...good, reply: 1 },
    { ...good, rate: { ...good.rate, epoch: 'x' } },
    { ...good, rate: { ...good.rate, phase: 'odd' } },
    { ...good, rate: { ...good.rate, offers: [['a', -1, 0]] } },
    { ...good, connections: { ...good.connections, open: [[1, 2]] } },
  ];
  for (const one of wrong) assert.equal(newsIn(JSON.stringify(one)), null, JSON.stringify(one));
  assert.equal(newsIn('{'), null);
});
