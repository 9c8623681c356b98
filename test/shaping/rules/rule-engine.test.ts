import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { deliveryRule, ruleProblems } from '../../../src/config/delivery-rules-schema.ts';
import { type Fact, matcherOf } from '../../../src/shaping/rules/matcher.ts';
import { type Firing, RuleEngine } from '../../../src/shaping/rules/rule-engine.ts';
import { SlidingWindow } from '../../../src/shaping/rules/window.ts';

const rule = (given: Record<string, unknown>) =>
  deliveryRule.parse({ name: 'r', action: 'pause', threshold: { count: 3, window_s: 60 }, ...given });

const fact = (changes: Partial<Fact> = {}): Fact => ({
  atMs: 0,
  isDelivered: false,
  code: 421,
  enhanced: '4.7.28',
  reply: '421 4.7.28 Our system has detected an UNUSUAL rate',
  class: 'rate_limit',
  scope: 'source',
  site: 'google',
  source: 'a1',
  tenant: 'shop',
  campaign: 'spring',
  fromDomain: 'shop.example',
  messages: 1,
  ...changes,
});

const take = (engine: RuleEngine, ...facts: Fact[]): Firing[] => facts.flatMap((one) => engine.take(one));
const times = (count: number, one: (i: number) => Fact): Fact[] =>
  Array.from({ length: count }, (_, i) => one(i));

describe('a rule acts', () => {
  test('when so many replies match within its window, and says what was counted', () => {
    const engine = new RuleEngine([rule({ match: { classes: ['rate_limit'] } })]);
    const firings = take(
      engine,
      fact(),
      fact({ atMs: 10_000 }),
      fact({ class: 'unknown' }),
      fact({ atMs: 20_000 }),
    );
    assert.equal(firings.length, 1);
    const { value, site, atMs, untilMs, matched } = firings[0] as Firing;
    assert.deepEqual(
      { value, site, atMs, untilMs, matched },
      { value: 'a1', site: 'google', atMs: 20_000, untilMs: 3_620_000, matched: 3 },
    );
  });

  test('not when they are spread over longer, nor for targets or sites together', () => {
    const engine = new RuleEngine([rule({})]);
    assert.deepEqual(take(engine, ...times(10, (i) => fact({ atMs: i * 31_000 }))), []);
    assert.deepEqual(take(engine, ...times(6, (i) => fact({ source: `s${i % 3}`, site: `t${i % 2}` }))), []);
  });

  test('once, and again only after what it did and its cooldown are over', () => {
    const engine = new RuleEngine([
      rule({ for_ms: 10_000, cooldown_ms: 5000, threshold: { count: 1, window_s: 60 } }),
    ]);
    const at = take(engine, ...times(40, (i) => fact({ atMs: i * 1000 }))).map(({ atMs }) => atMs);
    assert.deepEqual(at, [0, 15_000, 30_000]);
  });

  test('by a share of attempts, not before there are enough of them', () => {
    const engine = new RuleEngine([rule({ threshold: { ratio: 0.2, min_count: 50, window_s: 60 } })]);
    assert.equal(engine.countsDeliveries, true);
    const delivered = fact({ isDelivered: true, code: 250, messages: 16 });
    assert.deepEqual(take(engine, ...times(9, () => fact()), delivered, delivered), []);
    assert.deepEqual(take(engine, delivered, fact()), []);
    assert.equal(take(engine, ...times(3, () => fact({ messages: 1 }))).at(-1)?.matched, 12);
  });

  test('never on what the relay says itself: a pause does not feed itself', () => {
    const engine = new RuleEngine([rule({ threshold: { count: 1 } })]);
    assert.deepEqual(take(engine, fact({ code: 0, reply: '', class: '' })), []);
  });

  test('on mail of a campaign only where there is one', () => {
    const engine = new RuleEngine([rule({ threshold: { count: 1 }, target: 'campaign' })]);
    assert.deepEqual(take(engine, fact({ campaign: '' })), []);
    assert.equal(take(engine, fact())[0]?.value, 'spring');
  });

  test('for at most 10,000 targets at once', () => {
    const engine = new RuleEngine([rule({ threshold: { count: 2 } })]);
    take(engine, ...times(10_001, (i) => fact({ source: `s${i}` })));
    assert.deepEqual(take(engine, fact({ source: 's0' })), []);
    assert.equal(take(engine, fact({ source: 's10000' })).length, 1);
  });
});

describe('what matches', () => {
  const matches = (match: Record<string, unknown>, changes: Partial<Fact> = {}): boolean => {
    const matcher = matcherOf(rule({ match }));
    assert.ok(!Array.isArray(matcher));
    return matcher.concerns(fact(changes)) && matcher.matches(fact(changes));
  };

  test('is all that the rule names', () => {
    assert.ok(matches({}));
    assert.ok(
      matches({ reply: 'unusual rate$', code: ['42x'], enhanced: ['4.7.*'], scope: ['source', 'netblock'] }),
    );
    assert.ok(matches({ providers: ['goo*'], sources: ['a?'], tenants: ['shop'], campaigns: ['*'] }));
    assert.ok(!matches({ reply: 'spam' }));
    assert.ok(!matches({ code: ['45x', '5xx'] }));
    assert.ok(!matches({ enhanced: ['4.7.1'] }));
    assert.ok(!matches({ scope: ['dkim_domain'] }));
    assert.ok(!matches({ providers: ['yahoo'] }));
    assert.ok(!matches({}, { isDelivered: true, code: 250 }));
  });

  test('takes linear time, whatever pattern and text are', () => {
    const begun = performance.now();
    assert.ok(!matches({ reply: '(a+)+$' }, { reply: `${'a'.repeat(100_000)}b` }));
    assert.ok(performance.now() - begun < 2000);
  });

  test('a pattern or code that is none is named', () => {
    assert.match(
      String(matcherOf(rule({ match: { reply: '(?=x)' } }))),
      /^reply,not a pattern that takes linear time/,
    );
    assert.match(String(matcherOf(rule({ match: { code: ['4x1'] } }))), /^code,"4x1" is no code/);
    assert.match(String(ruleProblems(rule({ threshold: {} }))), /exactly one of "count" and "ratio"/);
    assert.match(String(ruleProblems(rule({ action: 'set_limit' }))), /set_limit needs it/);
    assert.match(String(ruleProblems(rule({ messages_per_s: 1 }))), /"pause" has no use for it/);
  });

  test('a webhook needs a web address, and nothing else has one', () => {
    const hook = (url: string) => ruleProblems(rule({ action: 'webhook', url }));
    assert.deepEqual(hook('https://ops.example/hook?key=1'), []);
    assert.match(String(ruleProblems(rule({ action: 'webhook' }))), /^url,webhook needs it/);
    for (const url of [
      'ops.example',
      'ftp://ops.example/',
      'https://user:secret@ops.example/',
      'javascript:1',
    ])
      assert.match(String(hook(url)), /^url,must be an http or https address/, url);
    assert.match(String(ruleProblems(rule({ url: 'https://a.example/' }))), /"pause" has no use for it/);
    assert.match(
      String(ruleProblems(rule({ action: 'bounce', allow_private: true }))),
      /^allow_private,"bounce" has no use for it/,
    );
  });
});

test('a window holds what came within it, to a sixtieth, at any order of times', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ stepMs: fc.integer({ min: -5000, max: 40_000 }), n: fc.nat(9) }), {
        maxLength: 80,
      }),
      (all) => {
        const window = new SlidingWindow(60);
        const seen: { atMs: number; n: number }[] = [];
        let now = 1_000_000;
        let latest = 0;
        for (const { stepMs, n } of all) {
          now += stepMs;
          latest = Math.max(latest, now);
          window.add(n, n + 1, now);
          seen.push({ atMs: Math.max(now, latest), n });
          const within = (ms: number) =>
            seen.filter(({ atMs }) => atMs > latest - ms).reduce((sum, one) => sum + one.n, 0);
          assert.ok(
            window.matched >= within(59_000) && window.matched <= within(60_000 + 1000),
            `${window.matched}`,
          );
        }
      },
    ),
  );
});
