import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  AdaptiveController,
  type LearnedLimit,
  type LimitChange,
  type Refusal,
} from '../../../src/shaping/adaptive/controller.ts';
import { keyOf, keyText, type LimitKey } from '../../../src/shaping/adaptive/keys.ts';
import { type AdaptiveSettings, DEFAULTS, FREE } from '../../../src/shaping/adaptive/settings.ts';

const GOOGLE: LimitKey = { scope: 'source', value: 'a1', site: 'google' };

function setUp(settings: Partial<AdaptiveSettings> = {}) {
  const changes: LimitChange[] = [];
  const limits = new Map<string, LearnedLimit>();
  const controller = new AdaptiveController(
    { ...DEFAULTS, ...settings },
    {
      changed: (change) => changes.push(change),
      limit: (key, limit) => limits.set(keyText(key), limit),
    },
  );
  return { controller, changes, limits };
}

const refusal = (changes: Partial<Refusal> = {}): Refusal => ({
  class: 'rate_limit',
  reply: '421 4.7.28 unusual rate',
  sentMs: 10_000,
  openConnections: 5,
  ...changes,
});

describe('the controller', () => {
  test('says each change once, with the reply that caused it and how many there were', () => {
    const { controller, changes } = setUp();
    controller.answered(GOOGLE, 200, 200, 0, 20, 0);
    controller.answered(GOOGLE, 200, 200, 9000, 20, 10_000);
    controller.refused(GOOGLE, refusal(), 10_000);
    controller.refused(GOOGLE, refusal({ sentMs: 9990 }), 10_050);
    controller.refused(GOOGLE, refusal({ sentMs: 9991 }), 10_060);
    controller.answered(GOOGLE, 1, 1, 11_000, 20, 11_100);
    assert.deepEqual(
      changes.map(({ cause, reply, refusals }) => ({ cause, reply, refusals })),
      [
        { cause: 'rate_limit', reply: '421 4.7.28 unusual rate', refusals: 1 },
        { cause: 'probe_accepted', reply: '421 4.7.28 unusual rate', refusals: 2 },
      ],
    );
    assert.equal(changes[0]?.before.messagesPerS, Number.POSITIVE_INFINITY);
    assert.equal(changes[0]?.now.closedUntilMs, 11_000);
    assert.equal(changes[1]?.now.messagesPerS, 0.7 * 40 * 0.85);
  });

  test('growth is told by halves, and its limit is set whenever it is looked at', () => {
    const { controller, changes, limits } = setUp();
    controller.answered(GOOGLE, 400, 400, 0, 20, 0);
    controller.refused(GOOGLE, refusal({ sentMs: 0 }), 10_000);
    controller.answered(GOOGLE, 1, 1, 11_000, 20, 11_000);
    for (let now = 12_000; now < 120_000; now += 1000) {
      controller.answered(GOOGLE, 1000, 1000, now, 20, now);
      controller.tick(now);
    }
    const growth = changes.filter(({ cause }) => cause === 'growth');
    assert.ok(growth.length >= 2 && growth.length <= 8, `${growth.length}`);
    assert.equal(limits.get(keyText(GOOGLE))?.messagesPerS, controller.limitOf(GOOGLE).messagesPerS);
  });

  test('connections are halved and come back one by one, until nothing is left of the limit', () => {
    const { controller, changes } = setUp();
    controller.refused(GOOGLE, refusal({ class: 'connection_limit', openConnections: 20 }), 10_000);
    controller.refused(
      GOOGLE,
      refusal({ class: 'connection_limit', openConnections: 20, sentMs: 9000 }),
      10_100,
    );
    assert.equal(controller.limitOf(GOOGLE).connections, 10);
    controller.refused(
      GOOGLE,
      refusal({ class: 'connection_limit', openConnections: 1, sentMs: 10_200 }),
      10_200,
    );
    assert.equal(controller.limitOf(GOOGLE).connections, 1);
    for (let now = 11_000; now < 11_000 + 5 * 30_000; now += 1000)
      controller.answered(GOOGLE, 1, 1, now, 5, now);
    assert.equal(controller.limitOf(GOOGLE).connections, Number.POSITIVE_INFINITY);
    assert.equal(controller.limitOf(GOOGLE).phase, 'free');
    controller.tick(400_000);
    assert.equal(controller.limited, 0);
    assert.deepEqual(
      changes.map(({ now }) => now.connections),
      [10, 1, 2, 3, 4, Number.POSITIVE_INFINITY],
    );
  });

  test('a key of another scope is slowed by itself, from what its source was taken', () => {
    const { controller } = setUp();
    const dkim: LimitKey = { scope: 'dkim_domain', value: 'shop.example', site: 'google' };
    controller.answered(GOOGLE, 100, 100, 0, 20, 0);
    controller.answered(GOOGLE, 100, 100, 0, 20, 10_000);
    controller.answered(dkim, 100, 100, 0, 20, 10_000);
    controller.refused(dkim, refusal({ within: [GOOGLE] }), 10_000);
    assert.equal(controller.limitOf(GOOGLE).messagesPerS, Number.POSITIVE_INFINITY);
    controller.answered(dkim, 1, 1, 11_000, 20, 11_000);
    assert.equal(controller.limitOf(dkim).messagesPerS, 0.7 * 20 * 0.85);
  });

  test('a key of several sources is slowed from what was taken of all of them', () => {
    const { controller } = setUp();
    const block: LimitKey = { scope: 'netblock', value: '192.0.2.0/24', site: 'google' };
    const others = ['a2', 'a3'].map((value): LimitKey => ({ ...GOOGLE, value }));
    for (const key of [GOOGLE, others[0] as LimitKey])
      for (const atMs of [0, 10_000]) controller.answered(key, 100, 100, 0, 20, atMs);
    controller.refused(block, refusal({ within: [GOOGLE, ...others] }), 10_000);
    controller.answered(block, 1, 1, 11_000, 20, 11_000);
    assert.equal(controller.limitOf(block).messagesPerS, 0.7 * 40 * 0.85);
  });

  test('no more keys than max_keys are kept; one that is forgotten has no limit any more', () => {
    const { controller, changes } = setUp({ maxKeys: 10 });
    controller.refused(GOOGLE, refusal(), 10_000);
    for (let i = 0; i < 50; i++)
      controller.answered({ ...GOOGLE, site: `site${i}` }, 1, 1, 0, 20, 10_000 + i);
    assert.equal(controller.size, 10);
    assert.equal(controller.limited, 0);
    assert.equal(changes.at(-1)?.cause, 'forgotten');
    assert.equal(changes.at(-1)?.now.messagesPerS, Number.POSITIVE_INFINITY);
  });

  test('limits come back after a restart, by the wall clock', () => {
    const { controller } = setUp();
    controller.answered(GOOGLE, 400, 400, 0, 20, 0);
    controller.refused(GOOGLE, refusal(), 10_000);
    controller.refused({ ...GOOGLE, value: 'a2' }, refusal({ class: 'connection_limit' }), 10_000);
    const saved = JSON.parse(JSON.stringify([...controller.save(1_000_000)]));
    const later = setUp();
    later.controller.restore(saved, 1_005_000, 5000);
    assert.equal(later.controller.limitOf(GOOGLE).closedUntilMs, 6000);
    assert.equal(later.controller.limitOf({ ...GOOGLE, value: 'a2' }).connections, 2);
    assert.equal(later.limits.size, 2);
    assert.deepEqual(later.changes, []);
    assert.equal(
      later.controller.forget(({ value }) => value === 'a1'),
      1,
    );
    assert.equal(later.controller.limited, 1);
  });

  test('a site with a rate to begin with has it from its first message on', () => {
    const { controller, limits } = setUp({ bounds: () => ({ ...FREE, startPerS: 2 }) });
    controller.answered(GOOGLE, 1, 1, 0, 20, 0);
    assert.equal(limits.get(keyText(GOOGLE))?.messagesPerS, 2);
  });
});

test('a key is the same after it was a text; texts that are none are told apart', () => {
  assert.deepEqual(keyOf(keyText(GOOGLE)), GOOGLE);
  for (const text of ['', 'source', 'source\ta', 'source\ta\tb\tc', 'moon\ta\tb'])
    assert.equal(keyOf(text), null);
});
