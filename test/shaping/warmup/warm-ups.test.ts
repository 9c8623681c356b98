import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { addOrder, readOrders } from '../../../src/shaping/warmup/orders.ts';
import { SendingDays } from '../../../src/shaping/warmup/sending-days.ts';
import type { WarmUpLimit, WarmUpPlan } from '../../../src/shaping/warmup/warm-up.ts';
import { readWarmUps } from '../../../src/shaping/warmup/warm-up-file.ts';
import { type WarmUpChange, WarmUps } from '../../../src/shaping/warmup/warm-ups.ts';
import { until } from '../../support/wait.ts';

const dir = mkdtempSync(join(tmpdir(), 'warmups-'));
after(() => rmSync(dir, { recursive: true }));
const START = Date.parse('2027-01-04T08:00:00Z');
const HOUR = 3_600_000;
let folders = 0;

const plan = (provider: string, messagesPerDay = [50, 100, 1000]): WarmUpPlan => ({
  source: 'a2',
  provider,
  messagesPerDay,
  startDate: '',
  days: new SendingDays('UTC', '08:00-20:00'),
  sharers: 1,
  gates: { minDeliveries: 200, maxBounceRatio: 0.03, maxComplaintRatio: 0.001, maxDeferralRatio: 0.05 },
});

/** A process with warm-ups, whose threads take what limits let them. */
function setUp(folder = `f${folders++}`) {
  const path = join(dir, `${folder}.jsonl`);
  const limits = new Map<string, WarmUpLimit | null>();
  const changes: WarmUpChange[] = [];
  const errors: unknown[] = [];
  const taken = new Map<string, number>();
  const clock = { now: START };
  const warmUps = new WarmUps({
    path,
    ordersPath: join(dir, `${folder}.orders`),
    now: () => clock.now,
    taken: (_source, site) => taken.get(site) ?? null,
    limit: (_source, site, limit) => limits.set(site, limit),
    changed: (change) => changes.push(change),
    failed: (error) => errors.push(error),
  });
  const begin = async (site: string, provider = site): Promise<void> => {
    taken.set(site, 0);
    warmUps.begins('a2', site, provider);
    assert.ok((limits.get(site)?.closedUntilMs ?? 0) > clock.now || limits.get(site)?.state === 'done');
    await until(() => limits.get(site)?.closedUntilMs === 0, 'its limit');
  };
  return { folder, path, limits, changes, errors, taken, clock, warmUps, begin };
}

const isOpen = ({ limits }: ReturnType<typeof setUp>): boolean => limits.get('google')?.closedUntilMs === 0;

test('nothing goes before its block is in the file, which never says less than was sent', async () => {
  const one = setUp();
  one.warmUps.open([plan('google')]);
  await one.begin('google');
  const sentInFile = (): number => readWarmUps(one.path).records[0]?.record.sent ?? 0;
  assert.ok(sentInFile() >= 1);
  let sent = 0;
  for (let i = 0; i < 100 && sent < 50; i++) {
    const limit = one.limits.get('google') as WarmUpLimit;
    if (limit.closedUntilMs === 0) one.taken.set('google', ++sent);
    assert.ok(sentInFile() >= sent, `${sentInFile()} in the file, ${sent} sent`);
    one.clock.now += 14 * 60_000;
    one.warmUps.tick();
    await until(
      () => isOpen(one) || Number(one.limits.get('google')?.closedUntilMs) > one.clock.now + HOUR,
      'its block',
    );
  }
  assert.equal(sent, 50);
  assert.equal(one.limits.get('google')?.closedUntilMs, START + 24 * HOUR);
  assert.deepEqual(one.errors, []);
});

test('after a kill what was reserved counts as sent; after an orderly end what was sent', async () => {
  const one = setUp();
  one.warmUps.open([plan('google', [1000])]);
  await one.begin('google');
  one.taken.set('google', 3);
  one.clock.now += 1000;
  const killed = setUp(one.folder);
  killed.warmUps.open([plan('google', [1000])]);
  await killed.begin('google');
  const before = readWarmUps(one.path).records[0]?.record.sent ?? 0;
  assert.ok(before >= 3);
  await killed.warmUps.close();
  const [kept] = readWarmUps(one.path).records;
  assert.ok((kept?.record.sent ?? 0) >= 3 && (kept?.record.sent ?? 0) < before);
  await killed.warmUps.close();
  assert.equal(readWarmUps(one.path).records[0]?.record.sent, kept?.record.sent);
});

test('a file that cannot be written holds the mail, and is said', async () => {
  const one = setUp('missing/x');
  one.warmUps.open([plan('google')]);
  one.taken.set('google', 0);
  one.warmUps.begins('a2', 'google', 'google');
  await until(() => one.errors.length > 0, 'its limit');
  one.clock.now += 1000;
  one.warmUps.tick();
  assert.ok((one.limits.get('google')?.closedUntilMs ?? 0) > one.clock.now);
});

test('the plan of a provider comes before that for all; sources without one are not limited', async () => {
  const one = setUp();
  one.warmUps.open([plan('google', [10]), plan('*', [1000])]);
  await one.begin('google');
  await one.begin('mx:a.test', '');
  one.warmUps.begins('other', 'google', 'google');
  const even = (n: number): number => n / (12 * 3600);
  assert.equal(one.limits.get('google')?.messagesPerS, even(10));
  assert.equal(one.limits.get('mx:a.test')?.messagesPerS, even(1000));
  assert.equal(one.limits.size, 2);
  one.warmUps.reconfigure([plan('google', [20])]);
  assert.equal(one.limits.get('google')?.messagesPerS, even(20));
  assert.equal(one.limits.get('mx:a.test'), null);
  await one.warmUps.close();
  assert.equal(readWarmUps(one.path).records.length, 2);
});

test('orders hold while it runs and for what begins later, once', async () => {
  const one = setUp();
  const orders = join(dir, `${one.folder}.orders`);
  addOrder(orders, { source: 'a2', provider: 'google', action: 'set', step: 1, reason: '' }, START - 1);
  one.warmUps.open([plan('google'), plan('yahoo')]);
  await one.begin('google');
  await one.begin('yahoo');
  assert.deepEqual(
    one.changes.map(({ site, cause, planned }) => [site, cause, planned]),
    [['google', 'set', 100]],
  );
  addOrder(orders, { source: 'a2', provider: '*', action: 'pause', step: 0, reason: 'looks odd' }, START - 1);
  one.warmUps.tick();
  assert.deepEqual(
    one.changes.slice(1).map(({ site, reason, now }) => [site, reason, now.paused]),
    [
      ['google', 'looks odd', 'looks odd'],
      ['yahoo', 'looks odd', 'looks odd'],
    ],
  );
  one.warmUps.tick();
  assert.equal(one.changes.length, 3);
  addOrder(orders, { source: 'a2', provider: 'yahoo', action: 'resume', step: 0, reason: '' }, START);
  one.warmUps.tick();
  assert.equal(one.limits.get('google')?.state, 'paused');
  await until(() => one.limits.get('yahoo')?.state === 'running', 'its limit');
  await one.warmUps.close();
  const again = setUp(one.folder);
  again.warmUps.open([plan('google'), plan('yahoo')]);
  await again.begin('yahoo');
  assert.deepEqual(again.changes, []);
});

test('a block pauses it for the day; what came of mail decides the next', async () => {
  const one = setUp();
  one.warmUps.open([plan('google')]);
  await one.begin('google');
  for (let i = 0; i < 50; i++) one.warmUps.came('a2', 'google', 'delivered', 1);
  one.taken.set('google', 30);
  one.clock.now += 24 * HOUR;
  one.warmUps.tick();
  assert.deepEqual(
    one.changes.map(({ cause, planned }) => [cause, planned]),
    [['advance', 100]],
  );
  one.warmUps.blocked('a2', 'google', '421 reputation');
  one.warmUps.blocked('a2', 'google', '421 reputation');
  assert.deepEqual(
    one.changes.slice(1).map(({ cause, reason, planned }) => [cause, reason, planned]),
    [['block', '421 reputation', 50]],
  );
  await one.warmUps.close();
});

test('what is damaged in the files is passed over', () => {
  const path = join(dir, 'damaged');
  const record = { source: 'a2', site: 'google', record: { step: 1, sent: 4 } };
  const wrong = [
    { ...record, record: { step: -1 } },
    { ...record, record: { day: 'today' } },
    { ...record, source: 7 },
    null,
    3,
  ];
  writeFileSync(path, `${[record, ...wrong].map((one) => JSON.stringify(one)).join('\n')}\n{"so`);
  const { records: kept, bad } = readWarmUps(path);
  assert.deepEqual([kept.length, kept[0]?.record.sent, kept[0]?.record.paused, bad], [1, 4, '', 6]);
  writeFileSync(path, '{"at_ms":1,"source":"a"}\nno\n');
  assert.deepEqual(readOrders(path), []);
  for (let i = 0; i < 3; i++)
    addOrder(path, { source: 'a', provider: '*', action: 'set', step: i, reason: '' }, 5);
  assert.deepEqual(
    readOrders(path).map(({ at_ms, step }) => [at_ms, step]),
    [
      [5, 0],
      [6, 1],
      [7, 2],
    ],
  );
});
