import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { suppressionOrders } from '../../src/feedback/suppression-rules.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { Outcome } from '../../src/mail/outcome.ts';
import {
  counted,
  countKey,
  isCount,
  MAX_COUNTED,
  MAX_DETAIL_LENGTH,
  type Suppression,
} from '../../src/mail/suppression.ts';
import type { ReplyClass, ReplyScope } from '../../src/mail/verdict.ts';

const DAY = 86_400_000;

const rulesOf = (suppression: object = {}) => configSchema.parse({ suppression }).suppression.rules;

const bounced = (kind: ReplyClass, scope: ReplyScope = 'recipient'): Outcome => ({
  kind: 'bounced',
  reason: 'peer_5xx',
  status: '5.1.1',
  detail: '550 5.1.1 nobody',
  verdict: { class: kind, scope, move: 'bounce', rule: 'r' },
});

function orders(outcome: Outcome, rules = rulesOf(), fields: Partial<AttemptResult> = {}) {
  const result = {
    queueId: 'm1',
    reversePath: 'news@shop.test',
    groups: [{ seqs: [4], outcome }],
    recipients: [{ seq: 4, address: 'User@One.test', notify: 0 }],
    ...fields,
  } as AttemptResult;
  return suppressionOrders(result, rules, (domain) => domain === 'own.test', 1000).map(
    ({ tenant, target, reason, expiresAtMs, after, withinMs }) => ({
      tenant,
      target,
      reason,
      expiresAtMs,
      after,
      withinMs,
    }),
  );
}

test('by default who does not exist goes on the list for good, others for a time, full boxes after five messages', () => {
  const base = { tenant: '', target: 'user@one.test', withinMs: 30 * DAY };
  assert.deepEqual(orders(bounced('invalid_recipient')), [
    { ...base, reason: 'invalid_recipient', expiresAtMs: null, after: 1 },
  ]);
  assert.deepEqual(orders(bounced('inactive_mailbox')), [
    { ...base, reason: 'inactive_mailbox', expiresAtMs: 1000 + 90 * DAY, after: 1 },
  ]);
  assert.deepEqual(orders(bounced('mailbox_full')), [
    { ...base, reason: 'mailbox_full', expiresAtMs: 1000 + 30 * DAY, after: 5 },
  ]);
});

test('only what is said of the recipient, as a final fate, counts', () => {
  assert.deepEqual(orders(bounced('invalid_recipient', 'source')), []);
  for (const kind of ['reputation_block', 'content_spam', 'policy_recipient', 'unknown'] as const)
    assert.deepEqual(orders(bounced(kind)), []);
  const { verdict } = bounced('mailbox_full') as Outcome & { kind: 'bounced' };
  const deferred = { kind: 'deferred', reason: 'peer_4xx', detail: '', retryAtMs: 0 } as const;
  assert.deepEqual(orders(verdict === undefined ? deferred : { ...deferred, verdict }), []);
  assert.deepEqual(orders({ kind: 'bounced', reason: 'no_such_domain', status: '5.1.2', detail: '' }), []);
});

test('reports and our own domains teach nothing; an entry is on the list of the tenant whose mail it was', () => {
  const outcome = bounced('invalid_recipient');
  assert.deepEqual(orders(outcome, rulesOf(), { reversePath: '' }), []);
  const own = [{ seq: 4, address: 'x@OWN.test', notify: 0 }];
  assert.deepEqual(orders(outcome, rulesOf(), { recipients: own }), []);
  assert.equal(orders(outcome, rulesOf(), { attributes: { tenant: 'shop' } })[0]?.tenant, 'shop');
});

test('rules are the operator’s: after_messages, within_ms and for_ms; 0 messages turn a rule off', () => {
  const rules = rulesOf({
    rules: {
      invalid_recipient: { after_messages: 2, within_ms: 5000, for_ms: 7000 },
      inactive_mailbox: { after_messages: 0 },
    },
  });
  assert.deepEqual(orders(bounced('invalid_recipient'), rules), [
    {
      tenant: '',
      target: 'user@one.test',
      reason: 'invalid_recipient',
      expiresAtMs: 8000,
      after: 2,
      withinMs: 5000,
    },
  ]);
  assert.deepEqual(orders(bounced('inactive_mailbox'), rules), []);
});

test('of a message so much is kept that the longest count that the config allows can be stored', () => {
  const { mailbox_full } = rulesOf({ rules: { mailbox_full: { after_messages: MAX_COUNTED } } });
  const order = { ...mailbox_full, tenant: '', target: 'a@one.test', scope: 'all', reason: 'mailbox_full' };
  let there: Suppression[] = [];
  for (let i = 1; i < MAX_COUNTED; i++) {
    const about = countKey(`m${i}`, i);
    const source = 'reply' as const;
    const at = { createdAtMs: Date.UTC(2100, 0, 1) + i, expiresAtMs: null, source, detail: '' };
    there = counted({ ...order, ...at, about, after: MAX_COUNTED, withinMs: DAY }, there);
    assert.ok(there.every((one) => isCount(one) && one.detail.length <= MAX_DETAIL_LENGTH));
  }
  assert.throws(() => rulesOf({ rules: { mailbox_full: { after_messages: MAX_COUNTED + 1 } } }));
});
