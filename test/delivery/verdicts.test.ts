/** What a host's reply means goes with the outcome, whatever command it answers; no reply, or a 2xx: no verdict. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RulesText, readRulesTexts } from '../../src/feedback/rules-text.ts';
import { ThreadReplies } from '../../src/feedback/thread-replies.ts';
import type { ScriptedSink, SinkOptions } from '../support/scripted-sink.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const OWN = {
  rules: [
    {
      id: 'gone',
      code: '4xx',
      pattern: 'never again',
      class: 'policy',
      scope: 'source',
      move: 'bounce',
      source: 'test',
    },
  ],
};
const own: RulesText = { file: 'own.json', text: JSON.stringify(OWN), isOwn: true };
const rules = new ThreadReplies([own, ...readRulesTexts('')], 10, (error) => {
  throw error;
});

let sink: ScriptedSink;
let harness: Harness;
before(async () => {
  sink = await startSink();
  harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      suspend_after_failures: 1000,
      idle_connection_ms: 0,
    },
  });
  harness.classify = (reply) => rules.classify(reply);
});
after(() => harness.stop());

const RATE = '421 4.7.0 too many messages from your IP, slow down';
const CASES: [at: SinkOptions, fate: string, verdict: string][] = [
  [{ greeting: RATE }, 'deferred peer_4xx', 'rate_limit source slow_down'],
  [{ ehlo: RATE }, 'deferred peer_4xx', 'rate_limit source slow_down'],
  [{ faults: { mail: `=${RATE}` } }, 'deferred peer_4xx', 'rate_limit source slow_down'],
  [
    { faults: { rcpt: '=550 5.1.1 no such user here' } },
    'bounced peer_5xx',
    'invalid_recipient recipient bounce',
  ],
  [
    { faults: { rcpt: '=452 4.2.2 mailbox is full' } },
    'deferred peer_4xx',
    'mailbox_full recipient retry_later',
  ],
  [
    { faults: { rcpt: '=452 4.5.3 too many recipients' } },
    'deferred peer_4xx',
    'split_transaction message split_now',
  ],
  [{ faults: { data: '=554 5.7.1 looks like spam' } }, 'bounced peer_5xx', 'content_spam message bounce'],
  [{ faults: { dot: '=554 5.7.1 looks like spam' } }, 'bounced peer_5xx', 'content_spam message bounce'],
  [
    { faults: { rcpt: '=550 5.7.1 rate limit exceeded, slow down' } },
    'deferred peer_5xx',
    'rate_limit source retry_later',
  ],
  [
    { greeting: '554 5.7.1 blocked using zen.spamhaus.org' },
    'deferred peer_refused',
    'dnsbl_block source retry_later',
  ],
  [{ greeting: '554 5.3.0 xyzzy' }, 'deferred peer_refused', 'unknown message retry_later'],
  [{ greeting: '521 no mail here' }, 'bounced peer_5xx', 'unknown message bounce'],
  [
    { faults: { mail: '=450 4.7.1 you shall be served never again' } },
    'bounced peer_4xx',
    'policy source bounce',
  ],
  [
    { faults: { dot: '=421 4.7.1 you shall be served never again' } },
    'bounced peer_4xx',
    'policy source bounce',
  ],
  [{ greeting: '421 4.7.1 you shall be served never again' }, 'bounced peer_4xx', 'policy source bounce'],
  [{ faults: { rcpt: 'drop' } }, 'deferred connection_lost', ''],
  [{ greeting: 'drop' }, 'deferred connection_lost', ''],
  [{}, 'delivered', ''],
];

for (const [at, fate, wanted] of CASES)
  test(`${JSON.stringify(at)}: ${fate}, ${wanted || 'no verdict'}`, async () => {
    Object.assign(sink.options, { greeting: undefined, ehlo: undefined, faults: undefined }, at);
    // A pause that the case before asked for is over.
    harness.clockOffsetMs += 60_000;
    const result = await harness.attempt({ recipients: ['a@x.test'] });
    assert.deepEqual(fates(result), [fate]);
    const outcome = outcomeOf(result);
    const verdict = outcome.kind === 'delivered' ? undefined : outcome.verdict;
    assert.equal(verdict === undefined ? '' : `${verdict.class} ${verdict.scope} ${verdict.move}`, wanted);
    assert.equal(verdict !== undefined && verdict.rule === null, wanted.startsWith('unknown'));
  });

test('greeting_refusal "bounce" bounces what no rule takes for temporary', async () => {
  const bouncing = startSender({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port }, greeting_refusal: 'bounce' },
  });
  bouncing.classify = (reply) => rules.classify(reply);
  sink.options.faults = {};
  for (const [greeting, fate] of [
    ['554 5.3.0 xyzzy', 'bounced peer_5xx'],
    ['554 5.7.1 too many connections from you', 'deferred peer_refused'],
  ] as const) {
    sink.options.greeting = greeting;
    assert.deepEqual(fates(await bouncing.attempt({ recipients: ['a@x.test'] })), [fate]);
  }
  bouncing.stop();
});

test('refusals that no rule knows are counted; rules that are wrong leave those before in use', () => {
  const failures: unknown[] = [];
  const replies = new ThreadReplies(readRulesTexts(''), 2, (error) => failures.push(error));
  const peer = { host: 'mx.y.test', address: '192.0.2.1', port: 25, source: '' };
  const say = (text: string) => replies.classify({ code: 550, enhanced: '', text, peer }).class;
  for (const text of ['xyzzy 1', 'xyzzy 2', 'plugh', 'no such user']) say(text);
  const counted = () => replies.unknown().map(({ text, count }) => `${count} ${text}`);
  assert.deepEqual(counted(), ['2 xyzzy {n}', '1 plugh']);
  replies.reconfigure([{ file: 'own.json', text: '{', isOwn: true }], 1);
  assert.equal(say('no such user'), 'invalid_recipient');
  assert.equal(failures.length, 1);
  assert.deepEqual(counted(), ['2 xyzzy {n}']);
  replies.reconfigure(null, 0);
  say('frotz');
  assert.deepEqual(counted(), []);
  const damaged = readRulesTexts('').map((one) => ({ ...one, text: '{"rules": [{}]}' }));
  replies.reconfigure([own, ...damaged], 1);
  assert.equal(say('no such user'), 'invalid_recipient');
  const first = new ThreadReplies([{ ...own, text: '{}' }, ...readRulesTexts('')], 1, () => {});
  assert.equal(
    first.classify({ code: 550, enhanced: '', text: 'no such user', peer }).class,
    'invalid_recipient',
  );
  const none = new ThreadReplies(damaged, 1, () => {});
  assert.equal(none.classify({ code: 550, enhanced: '', text: 'no such user', peer }).move, 'bounce');
});
