/** docs/words.md holds for every answer with all there can be in it, and for every reason and code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PRESSURE } from '../../src/admission/gauges.ts';
import { EXIT_OF_ERROR } from '../../src/base/exit-codes.ts';
import { banAnswer } from '../../src/control/ban-answer.ts';
import { countAnswer } from '../../src/control/count-answer.ts';
import { entryAnswer, messageAnswer, missingAnswer } from '../../src/control/queue-answers.ts';
import { reloadAnswer } from '../../src/control/reload-answer.ts';
import { shardAnswer } from '../../src/control/shard-answer.ts';
import { statsAnswer } from '../../src/control/stats-answer.ts';
import { suspensionAnswer } from '../../src/control/suspension-answer.ts';
import type { HoldsAll } from '../../src/control/target.ts';
import { userAnswer } from '../../src/control/user-answer.ts';
import { whyAnswer } from '../../src/control/why.ts';
import { fateOf, STATES, stateWord } from '../../src/control/words.ts';
import { DEFERRALS } from '../../src/mail/deferrals.ts';
import type { OutboxState } from '../../src/mail/outbox-state.ts';
import { BAN_KINDS, FOREVER_MS } from '../../src/policy/ban-table.ts';
import { POLICY_REASONS } from '../../src/protocol/policy-reply.ts';
import { REPLY_REASONS } from '../../src/protocol/reply.ts';
import { SNAKE_CASE, wrongWords } from '../support/wrong-words.ts';
import { mail, row, stats } from './queue-fixture.ts';

const NOW = Date.UTC(2026, 2, 1, 12);
const AT = '2026-03-01T12:00:00.000Z';

test('answers with all there can be in them have no other names and times', () => {
  const ban = { network: '192.0.2.1', kind: 'auth', sinceMs: NOW, untilMs: NOW, times: 2 } as const;
  const cluster = {
    up: false,
    sinceMs: NOW,
    lastError: 'refused',
    processes: 2,
    silent: 1,
    announced: 1,
    taken: 1,
    outages: 1,
  };
  const scheduler = {
    destinations: 1,
    waitingRows: 1,
    inFlight: 1,
    suspended: [{ destination: 'c.test', untilMs: NOW, reason: 'connect_failed' }],
    suspendedDestinations: 1,
    holds: [{ kind: 'draining', detail: '' }] as const satisfies HoldsAll[],
    faults: { sessions: 1, deliveries: 1, others: 1 },
    cluster,
  };
  const shard = { shard: 0, name: 's0', waiting: 1, aside: 1, oldestMs: NOW, error: 'down' };
  const journal = { bytes: 1, maxBytes: 2, waiting: 1, oldestMs: NOW, shards: [shard] };
  const process = {
    process: 0,
    pid: 1,
    state: 'ready',
    accepts: true,
    restarts: 0,
    readySinceMs: NOW,
    connections: 0,
    rssMb: 90,
  } as const;
  const report = {
    id: 0,
    name: 's0',
    weight: 1,
    up: false,
    downSinceMs: NOW,
    errors: 1,
    lastError: 'refused',
    latencyMs: 1,
    freeConnections: 1,
    mails: null,
    waitingRows: null,
  };
  const sums = { entries: 1, messages: 1, recipients: 1, entryRecipients: 1, bytes: 5 };
  const rule = {
    id: 's1',
    destinations: ['b.test'],
    domains: [],
    senders: [],
    users: [],
    tenants: [],
    campaigns: [],
    reason: 'Work on it',
    createdBy: 'op',
    node: '',
    createdAtMs: NOW,
    untilMs: NOW,
    endedAtMs: null,
  };
  const answers: Record<string, unknown> = {
    entry: entryAnswer(row('id1', 'b.test', { nextAttemptMs: NOW, receivedAtMs: NOW })),
    message: messageAnswer({ ...mail, receivedAtMs: NOW }, [[rule]]),
    why: whyAnswer({ ...mail, receivedAtMs: NOW }, null, [rule], [], NOW),
    count: countAnswer(
      { ...sums, groups: [{ ...sums, key: 'RETRY' }], moreGroups: 1, forgotten: true },
      'state',
    ),
    missing: missingAnswer({ kind: 'results', name: 'unsettled-*', detail: 'holds 3', shards: [1] }),
    stats: statsAnswer({ ...stats, oldestMs: NOW, unavailable: 'down' }, scheduler, journal, [process], 10),
    ban: banAnswer(ban),
    shard: shardAnswer(report),
    user: userAnswer({ username: 'bob', scheme: 'bcrypt', rules: { messages_per_day: 5 } }),
    suspension: suspensionAnswer(rule),
    reload: reloadAnswer({ applied: ['log.level'], needsRestart: ['listeners'], problems: [] }),
  };
  for (const [name, answer] of Object.entries(answers)) assert.deepEqual(wrongWords(answer, name), []);
  assert.deepEqual([banAnswer(ban).ends_at, banAnswer({ ...ban, untilMs: FOREVER_MS }).ends_at], [AT, null]);
});

test('the check finds a name, a time and a word that break the rules', () => {
  const broken = {
    queueId: 1,
    a_at: NOW,
    time: 'noon',
    begun: AT,
    age_ms: 5,
    since: NOW,
    list: [{ state: 'PENDING' }],
  };
  assert.deepEqual(wrongWords(broken, 'x'), [
    'x.queueId is not snake_case',
    'x.a_at is no time',
    'x.a_at looks like milliseconds since 1970',
    'x.time is no time',
    'x.begun is a time, and its name does not say so',
    'x.since is no time',
    'x.since looks like milliseconds since 1970',
    'x.list[0].state is "PENDING"',
  ]);
});

test('a state and its word are one to one; a recipient that expired is no bounced one', () => {
  const states = Object.values(STATES) as OutboxState[];
  assert.equal(new Set(states).size, 6);
  assert.deepEqual(states.map(stateWord), Object.keys(STATES));
  assert.equal(fateOf({ status: 'bounced', reason: 'expired' }), 'expired');
  assert.equal(fateOf({ status: 'bounced', reason: 'peer_5xx' }), 'bounced');
  assert.equal(fateOf({ status: 'waiting', reason: 'peer_4xx' }), 'waiting');
});

test('every reason, rule and code is snake_case', () => {
  const words = [
    ...Object.keys(DEFERRALS),
    ...unionIn('mail/outcome.ts', 'BounceReason'),
    ...unionIn('policy/part.ts', 'Rule'),
    ...REPLY_REASONS,
    ...POLICY_REASONS,
    ...Object.keys(EXIT_OF_ERROR),
    ...BAN_KINDS,
    ...Object.keys(PRESSURE),
  ];
  assert.deepEqual(
    words.filter((word) => !SNAKE_CASE.test(word)),
    [],
  );
});

/** The words of a type that is a union of them, which exists in the source only. */
function unionIn(file: string, type: string): string[] {
  const source = readFileSync(join(import.meta.dirname, '../../src', file), 'utf8');
  const [, union = ''] = new RegExp(`export type ${type} =([^;]*);`).exec(source) ?? [];
  const words = [...union.matchAll(/'([^']*)'/g)].map(([, word]) => word as string);
  assert.ok(words.length > 5, `${type} is not found in ${file}`);
  return words;
}
