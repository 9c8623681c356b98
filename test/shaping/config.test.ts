/** `adaptive`, `rules` and `warmup` as the config has them: what they come to, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { sourceWarmUps } from '../../src/config/source-warm-ups.ts';
import { RateControl } from '../../src/shaping/adaptive/rate-control.ts';
import { settingsOf } from '../../src/shaping/adaptive/settings.ts';
import { checkShapingConfig } from '../../src/shaping/check-config.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { plansOf } from '../../src/shaping/warmup/plans.ts';

const google = { name: 'google', match: { mx_suffix: [], mx_exact: [], domain: [] }, limits: {}, total: {} };
const data: ShapingData = { rollup: 'mx_set', limits: {}, total: {}, providers: [google] };

function wrong(given: Record<string, unknown>): string[] {
  const said: string[] = [];
  checkShapingConfig(
    configSchema.parse(given),
    data,
    (path, message, mend) =>
      void said.push(`${path.join('.')}: ${message}${mend === undefined ? '' : ` (${mend})`}`),
  );
  return said;
}

test('the controller goes by adaptive.* at each moment', () => {
  const given = {
    beta_ratio: 0.5,
    min_plateau_ms: 60_000,
    max_plateau_ms: 90_000,
    probe_cost_ratio: 0.1,
    first_probe_ms: 2000,
    max_probe_ms: 3000,
    providers: { google: { floor_per_s: 1, ceiling_per_s: 9, start_per_s: 3 }, '*': { ceiling_per_s: 2 } },
  };
  let { adaptive } = configSchema.parse({ adaptive: given });
  const settings = settingsOf(() => adaptive);
  assert.deepEqual(settings.bounds('google'), { floorPerS: 1, ceilingPerS: 9, startPerS: 3 });
  assert.deepEqual(settings.bounds('mx:a.test'), {
    floorPerS: 0,
    ceilingPerS: 2,
    startPerS: Number.POSITIVE_INFINITY,
  });
  const control = new RateControl(settings, () => settings.bounds('google'), 0);
  assert.equal(control.perS, 3);
  control.refused(0, 100);
  assert.equal(control.limit().closedUntilMs, 2100);
  control.refused(2100, 2100);
  control.refused(5100, 5100);
  assert.equal(control.limit().closedUntilMs, 8100);
  control.answered(1, 1, 8100, 8100);
  assert.equal(control.plateauMs, 80_000);
  assert.equal(control.perS, Math.max(1, 3 * 0.97 * 0.5));
  adaptive = configSchema.parse({
    adaptive: { ...given, providers: { google: { floor_per_s: 5 } } },
  }).adaptive;
  assert.equal(control.perS, 5);
});

test('the name of a rule may have blanks within, and nothing that ends a word or line of the log', () => {
  const named = (name: string): boolean =>
    configSchema.safeParse({ rules: [{ name, threshold: { count: 1 }, action: 'alert' }] }).success;
  for (const name of ['gmail content block', 'a', 'A_1.b-c', 'x'.repeat(64)]) assert.ok(named(name), name);
  for (const name of ['', ' a', 'a ', 'a\nb', 'a\tb', 'a=b', 'a"b', 'x'.repeat(65)])
    assert.ok(!named(name), name);
});

test('a plan has its part for each process, and its gates', () => {
  const { warmup } = configSchema.parse({
    warmup: [
      {
        source: 'a2',
        providers: ['google', '*'],
        plan_messages_per_day: [3, 100],
        start_date: '2027-01-04',
        gates: {
          min_deliveries: 400,
          max_bounce_ratio: 0.1,
          max_complaint_ratio: 0.2,
          max_deferral_ratio: 0.3,
        },
      },
    ],
  });
  const [first, second] = plansOf(sourceWarmUps({ warmup, egress: { pools: [] } }), 4);
  assert.deepEqual([first?.provider, second?.provider], ['google', '*']);
  assert.deepEqual(first?.messagesPerDay, [1, 25]);
  assert.equal(first?.startDate, '2027-01-04');
  assert.deepEqual(first?.gates, {
    minDeliveries: 100,
    maxBounceRatio: 0.1,
    maxComplaintRatio: 0.2,
    maxDeferralRatio: 0.3,
  });
  assert.equal(first?.days.at(Date.parse('2027-01-04T00:00:00Z')).fromMs, Date.parse('2027-01-04T08:00:00Z'));
});

test('what makes no sense is refused with its key', () => {
  assert.deepEqual(wrong({}), []);
  assert.deepEqual(
    wrong({
      adaptive: { min_plateau_ms: 9000, max_plateau_ms: 8000, first_probe_ms: 200, max_probe_ms: 100 },
    }),
    [
      'adaptive.min_plateau_ms: is longer than adaptive.max_plateau_ms (8000)',
      'adaptive.first_probe_ms: is longer than adaptive.max_probe_ms (100)',
    ],
  );
  assert.deepEqual(
    wrong({ adaptive: { providers: { gogle: { floor_per_s: 2, ceiling_per_s: 1 }, 'mx:a.test': {} } } }),
    [
      'adaptive.providers.gogle.floor_per_s: is above ceiling_per_s (1)',
      'adaptive.providers.gogle: there is no provider "gogle" (did you mean "google"?)',
    ],
  );
  const one = { source: 'a', providers: ['google'] };
  assert.deepEqual(wrong({ warmup: [one, { ...one, time_zone: 'Europe/Berln', window: '8-20' }] }), [
    'warmup.1.time_zone: "Europe/Berln" is no time zone: write one as "Europe/Berlin"',
    'warmup.1.window: "8-20" is no window of hours: write one as "08:00-20:00"',
    'warmup.1.providers.0: warmup[0] has a plan for it already',
  ]);
  const rule = {
    name: 'r',
    threshold: { count: 1 },
    action: 'pause',
    match: { reply: '(?=x)', code: ['9xx'] },
  };
  assert.deepEqual(wrong({ rules: [rule, { ...rule, match: {} }] }), [
    'rules.0.match.code: "9xx" is no code: write "421", "45x" or "5xx"',
    'rules.1.name: "r" is the name of rule 1 too',
  ]);
  const byName = (match: Record<string, unknown>): string[] => wrong({ rules: [{ ...rule, match }] });
  assert.deepEqual(byName({ providers: ['google', 'goo*', 'mx:mx.a.test', 'gogle'] }), [
    'rules.0.match.providers: there is no provider "gogle" (did you mean "google"?)',
  ]);
  const routing = (provider: string | string[]): string[] =>
    wrong({ egress: { routing: [{ match: { provider }, hold: true, name: 'h' }] } });
  assert.deepEqual(routing('gogle'), [
    'egress.routing.0.match.provider: there is no provider "gogle" (did you mean "google"?)',
  ]);
  assert.deepEqual(routing(['goo*', 'mx:mx.a.test', 'gogle']), [
    'egress.routing.0.match.provider: there is no provider "gogle" (did you mean "google"?)',
  ]);
  assert.deepEqual(byName({ classes: ['unknown', 'content_spm'] }), [
    'rules.0.match.classes: there is no class "content_spm" (did you mean "content_spam"?)',
  ]);
  assert.deepEqual(byName({ classes: ['rate_limit'], scope: ['recipient', 'everybody'] }), [
    'rules.0.match.scope: there is no scope "everybody"',
  ]);
});

test('a plan of a pool is shared out among its members by their weight', () => {
  const { warmup } = configSchema.parse({
    warmup: [{ pool: 'new', plan_messages_per_day: [100, 4], gates: { min_deliveries: 300 } }],
  });
  const pools = [
    {
      name: 'new',
      members: [
        { source: 'a1', weight: 3 },
        { source: 'a2', weight: 1 },
      ],
    },
  ];
  const plans = plansOf(sourceWarmUps({ warmup, egress: { pools } }), 1);
  assert.deepEqual(
    plans.map(({ source, messagesPerDay, gates }) => [source, messagesPerDay, gates.minDeliveries]),
    [
      ['a1', [75, 3], 225],
      ['a2', [25, 1], 75],
    ],
  );
  const total = plans.reduce((sum, one) => sum + (one.messagesPerDay[0] as number), 0);
  assert.ok(total <= 100);
});
