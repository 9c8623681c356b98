import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { RelayError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Job } from '../../src/mail/job.ts';
import { SuspensionMatcher, type SuspensionRule } from '../../src/mail/suspension.ts';
import { OrderBook, type SuspendOrder } from '../../src/suspensions/order-book.ts';
import { RuleFiles } from '../../src/suspensions/rule-files.ts';
import { readRule, ruleText, selectorForm } from '../../src/suspensions/rule-form.ts';
import { RuleSet } from '../../src/suspensions/rule-set.ts';
import { ShardRules } from '../../src/suspensions/shard-rules.ts';
import { Suspensions } from '../../src/suspensions/suspensions.ts';

const HOUR = 3_600_000;
const none = { destinations: [], domains: [], senders: [], users: [], tenants: [], campaigns: [] };

let serial = 0;
const rule = (fields: Partial<SuspensionRule> = {}): SuspensionRule => ({
  id: `r${++serial}`,
  ...none,
  reason: '',
  createdBy: 'root',
  node: 'a',
  createdAtMs: 1,
  untilMs: null,
  endedAtMs: null,
  ...fields,
});

const job = (fields: Partial<Job> = {}, ...addresses: string[]): Job =>
  ({
    destination: 'smarthost',
    reversePath: 'news@shop.example',
    recipients: addresses.map((address, seq) => ({ seq, address, notify: 0 })),
    ...fields,
  }) as Job;

const clocks = () => {
  const time = { nowMs: 1_000_000, steadyMs: 5000 };
  return {
    time,
    pass(ms: number) {
      time.nowMs += ms;
      time.steadyMs += ms;
    },
    clocks: { now: () => time.nowMs, steady: () => time.steadyMs },
  };
};

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'rules-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'suspensions');
}

test('alternatives of a selector, all selectors: only what fits every one is held', () => {
  const both = rule(
    selectorForm({ ...none, senders: ['*@Shop.Example'], domains: ['one.test', '*.two.test'] }),
  );
  const matcher = new SuspensionMatcher([both]);
  const held = matcher.heldOf(job({}, 'a@one.test', 'b@three.test', 'c@MAIL.two.test.', 'd@two.test'));
  assert.deepEqual(
    held?.get(both)?.map(({ seq }) => seq),
    [0, 2],
  );
  assert.equal(matcher.heldOf(job({ reversePath: 'x@other.example' }, 'a@one.test')), null);
  assert.equal(matcher.ofDestination('smarthost'), null);
});

test('destinations and all mail are held as a whole; a rule for users means no mail without one', () => {
  const wide = rule({ destinations: ['*.example'] });
  const users = rule({ users: ['*'] });
  const matcher = new SuspensionMatcher([wide, users]);
  assert.equal(matcher.ofDestination('shop.example'), wide);
  assert.equal(matcher.ofDestination('example'), null);
  assert.equal(matcher.heldOf(job({}, 'a@b.test')), null);
  assert.deepEqual(matcher.of(job({ user: 'ann' }, 'a@b.test')), [users]);
  assert.equal(new SuspensionMatcher([rule()]).ofDestination('anything')?.destinations.length, 0);
  // Not what an operator ends, which goes nowhere.
  assert.equal(new SuspensionMatcher([rule()]).ofDestination('fail:anything'), null);
  assert.equal(new SuspensionMatcher([rule()]).heldOf(job({ destination: 'fail:b.test' }, 'a@b.test')), null);
});

test('domains are compared in one form, senders without case, the null sender as <>', () => {
  const form = selectorForm({
    ...none,
    domains: ['*.BÜCHER.example', 'x.test.'],
    senders: ['<>', 'Bob@X.Test'],
    destinations: ['192.0.2.1'],
  });
  assert.deepEqual(form, {
    destinations: ['[192.0.2.1]'],
    domains: ['*.xn--bcher-kva.example', 'x.test'],
    senders: ['', 'bob@x.test'],
    users: [],
    tenants: [],
    campaigns: [],
  });
  const matcher = new SuspensionMatcher([rule(form)]);
  const fields = { destination: '[192.0.2.1]', reversePath: '' };
  assert.notEqual(matcher.heldOf(job(fields, 'a@x.test')), null);
});

test('replicas agree whatever they hear first; what was resumed never comes back', () => {
  const one = rule();
  const over = { ...one, endedAtMs: 7 };
  fc.assert(
    fc.property(fc.array(fc.constantFrom(one, over), { minLength: 1 }), (heard) => {
      const set = new RuleSet(clocks().clocks);
      for (const each of heard) set.merge([each]);
      assert.equal(set.active().length, heard.includes(over) ? 0 : 1);
    }),
  );
});

test('a rule ends by both clocks: one that is set forward lets nothing go', () => {
  const { time, pass, clocks: at } = clocks();
  const set = new RuleSet(at);
  set.merge([rule({ untilMs: time.nowMs + HOUR })]);
  time.nowMs += 2 * HOUR;
  assert.equal(set.active().length, 1);
  assert.equal(set.nextEndMs(), HOUR);
  time.nowMs -= 2 * HOUR;
  pass(HOUR - 1);
  assert.equal(set.active().length, 1);
  pass(1);
  assert.equal(set.active().length, 0);
});

test('rules that are over are forgotten in time, and never more than a few thousand', () => {
  const { pass, clocks: at } = clocks();
  const set = new RuleSet(at);
  set.merge(Array.from({ length: 3000 }, (_, i) => rule({ endedAtMs: 1_000_000 + i })));
  assert.equal(set.all().length, 2000);
  pass(31 * 24 * HOUR);
  set.merge([]);
  assert.equal(set.all().length, 0);
});

test('a rule in its file is the same rule; what is none says why', () => {
  const whole = rule({ domains: ['a.test'], senders: [''], reason: 'why "not"', untilMs: 86_400_000 });
  assert.deepEqual(readRule(ruleText(whole)), whole);
  for (const text of [
    '',
    '{}',
    'null',
    '[]',
    ruleText(whole).slice(0, 50),
    ruleText(whole).replace('"a.test"', '5'),
  ])
    assert.throws(() => readRule(text), Error, text);
});

test('a rule by tenant or campaign is none to relays that know of no such: they would hold all mail for it', () => {
  const byTenant = rule({ tenants: ['shop'], campaigns: ['spring*'] });
  const written = JSON.parse(ruleText(byTenant)) as Record<string, unknown>;
  assert.equal('users' in written, false);
  for (const one of [byTenant, rule({ campaigns: ['x'], users: ['ann'] }), rule({ users: ['ann'] })])
    assert.deepEqual(readRule(ruleText(one)), one);
});

const order = (fields: Partial<SuspendOrder> = {}): SuspendOrder => ({
  ...none,
  reason: '',
  createdBy: 'root',
  durationMs: null,
  untilMs: null,
  ...fields,
});

test('an order is in the files, for the owner only, before anybody hears of it', async (t) => {
  const dir = folder(t);
  const heard: number[] = [];
  const book = new OrderBook({
    files: new RuleFiles(dir),
    ...clocks(),
    node: 'a',
    async tell(rules) {
      heard.push(
        new RuleFiles(dir).read().rules.filter(({ endedAtMs }) => endedAtMs === rules[0]?.endedAtMs).length,
      );
      return [];
    },
  });
  const { rules } = await book.suspend(order({ domains: ['a.test'], reason: 'full\u001b[31m' }));
  const [{ id, reason }] = rules as [SuspensionRule];
  assert.equal(reason, 'full?[31m');
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  assert.equal(statSync(join(dir, `${id}.json`)).mode & 0o777, 0o600);
  assert.deepEqual((await book.resume({ ids: ['nope', id] })).unknown, ['nope']);
  assert.deepEqual(book.list(), []);
  assert.deepEqual(heard, [1, 1]);
  assert.equal((await book.resume({ ids: [id] })).unknown[0], id);
});

test('resume takes the selectors that were given, in any spelling, or all', async (t) => {
  const book = new OrderBook({
    files: new RuleFiles(folder(t)),
    ...clocks(),
    node: 'a',
    tell: async () => [],
  });
  await book.suspend(order({ domains: ['b.test', 'a.test'] }));
  await book.suspend(order({ domains: ['a.test'] }));
  await book.suspend(order());
  const resumed = await book.resume({ selectors: { ...none, domains: ['A.test', 'B.TEST.'] } });
  assert.equal(resumed.rules.length, 1);
  assert.equal((await book.resume({ selectors: none })).rules.length, 1);
  assert.equal((await book.resume('all')).rules.length, 1);
  assert.deepEqual(book.list(), []);
  await assert.rejects(book.suspend(order({ durationMs: null, untilMs: 5 })), /over already/);
  await assert.rejects(book.suspend(order({ domains: [''] })), /1 to 320/);
});

test('while a file of a rule cannot be read all mail is held; given up, the others hold', async (t) => {
  const dir = folder(t);
  const files = new RuleFiles(dir);
  const book = new OrderBook({ files, ...clocks(), node: 'a', tell: async () => [] });
  const { rules } = await book.suspend(order({ destinations: ['a.test'] }));
  writeFileSync(join(dir, 'r9.json'), '{"id": "r9"');
  const inForce = (): string[] => process.active.map(({ id }) => id);
  const process = new Suspensions({
    files: new RuleFiles(dir),
    shards: [],
    clocks: clocks().clocks,
    log: silentLog,
    changed: async () => {},
  });
  await process.load();
  t.after(() => process.stop());
  assert.deepEqual(inForce(), ['damaged', rules[0]?.id]);
  assert.notEqual(process.matcher.ofDestination('b.test'), null);
  assert.match(book.list()[0]?.reason ?? '', /r9\.json cannot be read/);
  await book.resume({ ids: ['damaged'] });
  await process.take([]);
  assert.deepEqual(inForce(), [rules[0]?.id]);
  assert.ok(readdirSync(dir).includes('r9.json.damaged'));
});

/** What a shard holds, and whether it answers. */
const shardState = () => ({ rules: [] as SuspensionRule[], up: true });

const shardOf = (state: ReturnType<typeof shardState>, name: string): ShardRules =>
  new ShardRules({
    name,
    log: silentLog,
    async exchange(news, digest) {
      if (!state.up) throw new RelayError('database_unavailable', 'down');
      const there = new Map(state.rules.map((one) => [one.id, one]));
      for (const one of news) if (there.get(one.id)?.endedAtMs == null) there.set(one.id, one);
      state.rules = [...there.values()];
      const now = JSON.stringify(state.rules.map(({ id, endedAtMs }) => [id, endedAtMs !== null]));
      return now === digest ? null : { digest: now, rules: state.rules };
    },
  });

test('what is no rule is refused before a file of it would hold all mail; a pipe among the files is none', async (t) => {
  const dir = folder(t);
  const files = new RuleFiles(dir);
  const { clocks: given } = clocks();
  const book = new OrderBook({ files, clocks: given, node: 'a', tell: async () => [] });
  const order: SuspendOrder = { ...none, reason: '', createdBy: 'me', durationMs: null, untilMs: null };
  for (const odd of [
    { reason: 'x'.repeat(201) },
    { createdBy: 'x'.repeat(101) },
    { durationMs: 9e15 },
    { untilMs: Number.MAX_SAFE_INTEGER },
    { domains: Array.from({ length: 101 }, (_, i) => `d${i}.example`) },
    { users: ['x'.repeat(321)] },
    { senders: ['\u0000'.repeat(321)] },
  ])
    await assert.rejects(book.suspend({ ...order, ...odd }), RelayError, JSON.stringify(odd).slice(0, 80));
  assert.deepEqual(files.read(), { rules: [], damaged: [] });
  mkdirSync(dir, { recursive: true });
  assert.equal(spawnSync('mkfifo', [join(dir, 'a.json')]).status, 0);
  symlinkSync('/dev/zero', join(dir, 'b.json'));
  assert.deepEqual(
    files.read().damaged.map(({ why }) => why),
    ['it is no regular file', 'it is no regular file'],
  );
});

test('nodes tell each other over the shards; one that was away hears of it when it is back', async (t) => {
  const [s0, s1] = [shardState(), shardState()];
  const at = clocks();
  const node = async () => {
    const dir = folder(t);
    const shards = [shardOf(s0, 's0'), shardOf(s1, 's1')];
    const ports = { files: new RuleFiles(dir), shards, clocks: at.clocks, log: silentLog };
    const rules = new Suspensions({ ...ports, changed: async () => {} });
    t.after(() => rules.stop());
    const book = new OrderBook({
      files: new RuleFiles(dir),
      ...at,
      node: 'n',
      tell: (news) => rules.take(news),
    });
    return { rules, book };
  };
  const [a, b] = [await node(), await node()];
  s0.up = false;
  s1.up = false;
  await a.rules.load();
  assert.deepEqual(
    a.rules.active.map(({ id }) => id),
    ['unread'],
    'nobody has told which rules there are',
  );
  s1.up = true;
  await a.rules.look();
  await b.rules.load();
  const { rules, unheard } = await a.book.suspend(order({ domains: ['a.test'] }));
  assert.deepEqual(unheard, ['s0']);
  const ids = (one: typeof a): string[] => one.rules.active.map(({ id }) => id);
  await b.rules.look();
  assert.deepEqual(ids(b), [rules[0]?.id]);
  // s0 hears of it from whoever looks first; the end reaches s1 in the same way.
  s0.up = true;
  s1.up = false;
  await b.rules.look();
  assert.equal(s0.rules.length, 1);
  await b.book.resume('all');
  await a.rules.look();
  assert.deepEqual([ids(a), ids(b)], [[], []]);
  s1.up = true;
  await a.rules.look();
  assert.notEqual(s1.rules[0]?.endedAtMs, null);
  assert.deepEqual(ids(a), []);
});
