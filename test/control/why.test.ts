/** `queue why`: the causes that keep an entry, from what is known of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Standing } from '../../src/control/target.ts';
import { mergeStandings, whyAnswer } from '../../src/control/why.ts';
import type { MailDetail } from '../../src/database/database.ts';
import type { QueueRow } from '../../src/mail/queue-row.ts';
import type { SuspensionRule } from '../../src/mail/suspension.ts';
import type { DestinationStanding } from '../../src/scheduler/scheduler.ts';

const NOW = 1_000_000;

const row = (fields: Partial<QueueRow> = {}): QueueRow =>
  ({
    queueId: 'id',
    destination: 'a.test',
    state: 'PENDING',
    attempts: 0,
    nextAttemptMs: 0,
    reversePath: 'news@shop.example',
    waiting: 1,
    reason: '',
    detail: '',
    attributes: null,
    user: null,
    ...fields,
  }) as QueueRow;

const mail = (...rows: QueueRow[]): MailDetail =>
  ({
    queueId: 'id',
    rows,
    recipients: rows.map(({ destination }, seq) => ({
      seq,
      address: `x@${destination}`,
      destination,
      status: 'waiting',
    })),
  }) as MailDetail;

const at = (fields: Partial<DestinationStanding> = {}): DestinationStanding => ({
  destination: 'a.test',
  sending: 0,
  suspendedUntilMs: null,
  suspendedSinceMs: null,
  suspendedReason: '',
  limit: null,
  site: null,
  ...fields,
});

const standing = (fields: Partial<Standing> = {}): Standing => ({
  holds: [],
  rules: [],
  destinations: [at()],
  ...fields,
});

const rule = (fields: Partial<SuspensionRule> = {}): SuspensionRule => ({
  id: 'k7q2m9xd',
  destinations: [],
  domains: [],
  senders: [],
  users: [],
  tenants: [],
  campaigns: [],
  reason: '',
  createdBy: 'root',
  node: '',
  createdAtMs: 1,
  untilMs: null,
  endedAtMs: null,
  ...fields,
});

const causes = (entry: QueueRow, known: Standing | null, rules: SuspensionRule[] = []): (string | null)[][] =>
  (whyAnswer(mail(entry), known, rules, [], NOW).entries[0]?.causes ?? []).map((one) => [
    one.cause,
    ...(one.detail === null ? [] : [one.detail]),
    ...(one.ends_at === null ? [] : [one.ends_at]),
  ]);

test('each thing that keeps an entry is named, with its end', () => {
  const end = new Date(NOW + 5000).toISOString();
  const deferred = row({
    state: 'RETRY',
    nextAttemptMs: NOW + 5000,
    reason: 'peer_4xx',
    detail: '451 later',
  });
  assert.deepEqual(causes(deferred, standing()), [['deferred', 'peer_4xx: 451 later', end]]);
  const failing = standing({
    destinations: [at({ suspendedUntilMs: NOW + 5000, suspendedReason: 'refused' })],
  });
  assert.deepEqual(causes(row(), failing), [['destination_suspended', 'refused', end]]);
  assert.deepEqual(causes(row(), standing(), [rule({ untilMs: NOW + 5000, reason: 'why' })]), [
    ['suspended', 'k7q2m9xd: why', end],
  ]);
  assert.deepEqual(causes(row({ state: 'HELD' }), standing()), [['held']]);
  assert.deepEqual(causes(row({ state: 'HELD', reason: 'suspected_poison' }), standing()), [
    ['suspected_poison', 'suspected_poison'],
  ]);
  assert.deepEqual(causes(row({ state: 'SENDING' }), standing()), [['being_sent']]);
  assert.deepEqual(causes(row(), standing({ destinations: [at({ limit: 'rate' })] })), [
    ['rate_used_up', 'delivery.max_messages_per_destination_per_s'],
  ]);
  assert.deepEqual(causes(row(), standing({ destinations: [at({ limit: 'site', site: 'google' })] })), [
    ['site_limit_used_up', 'google'],
  ]);
  assert.deepEqual(causes(row(), standing()), [['waits_for_its_turn']]);
  assert.deepEqual(causes(row(), null), [['relay_not_running']]);
  assert.deepEqual(
    causes(row(), standing({ holds: [{ kind: 'delivery_disabled', detail: 'delivery.enabled' }] })),
    [['delivery_disabled', 'delivery.enabled']],
  );
  assert.deepEqual(causes(row({ state: 'DEAD' }), standing(), [rule()]), []);
});

test('since when, its place, and what was said last are told', () => {
  const sinceMs = NOW - 3000;
  const failing = at({ suspendedUntilMs: NOW + 5000, suspendedSinceMs: sinceMs, suspendedReason: 'refused' });
  const one = {
    ...mail(row(), row({ destination: 'b.test' })),
    before: { 'a.test': 12, 'b.test': 2345 },
    recipients: ['451 later', '451 later', '452 full', ''].map((detail, seq) => ({
      seq,
      address: `r${seq}@a.test`,
      destination: 'a.test',
      status: 'waiting',
      reason: detail === '' ? '' : 'peer_4xx',
      detail,
    })),
  } as unknown as MailDetail;
  const [first, second] = whyAnswer(one, standing({ destinations: [failing] }), [], [], NOW).entries;
  assert.equal(first?.causes[0]?.since, new Date(sinceMs).toISOString());
  assert.deepEqual([first?.position, first?.position_exact], [12, true]);
  assert.deepEqual([second?.position, second?.position_exact], [2345, false]);
  assert.deepEqual(first?.last_replies, [
    { recipients: 2, reason: 'peer_4xx', detail: '451 later' },
    { recipients: 1, reason: 'peer_4xx', detail: '452 full' },
  ]);
  // One cause has no end that is known: it does not move before the other's.
  const both = whyAnswer(one, standing({ destinations: [failing] }), [rule()], [], NOW).entries[0];
  assert.deepEqual([both?.next_move_at, both?.not_before_at], [null, new Date(NOW + 5000).toISOString()]);
});

test('what a rule of egress.routing holds says so', () => {
  const held = row({ state: 'HELD', reason: 'held_by_rule', detail: 'rule look, rule twice' });
  const [cause] = whyAnswer(mail(held), standing(), [], [], NOW).entries[0]?.causes ?? [];
  assert.deepEqual(
    [cause?.cause, cause?.kind, cause?.key, cause?.set_by],
    ['held', 'hold', 'look, twice', 'egress.routing: rule look, rule twice'],
  );
});

test('a rule is named only where it means recipients of the entry', () => {
  const two = mail(row(), row({ destination: 'b.test' }));
  const { entries } = whyAnswer(two, standing(), [rule({ domains: ['b.test'] })], [], NOW);
  assert.deepEqual(
    entries.map(({ causes: all }) => all.map(({ cause }) => cause)),
    [['waits_for_its_turn'], ['suspended']],
  );
});

test('several processes are one: the longest suspension, any limit, each rule once', () => {
  const merged = mergeStandings([
    standing({
      rules: [rule()],
      destinations: [at({ suspendedUntilMs: NOW, suspendedReason: 'one', sending: 1 })],
    }),
    standing({
      rules: [rule()],
      destinations: [at({ suspendedUntilMs: NOW + 9, suspendedReason: 'two', limit: 'rate' })],
    }),
  ]);
  assert.deepEqual(merged.destinations, [
    at({ suspendedUntilMs: NOW + 9, suspendedReason: 'two', sending: 1, limit: 'rate' }),
  ]);
  assert.equal(merged.rules.length, 1);
});
