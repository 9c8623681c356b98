import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttemptResult } from '../../../src/mail/job.ts';
import type { Outcome } from '../../../src/mail/outcome.ts';
import type { ReplyClass, ReplyScope } from '../../../src/mail/verdict.ts';
import { AdaptiveController, type LimitChange } from '../../../src/shaping/adaptive/controller.ts';
import { AdaptiveFeed } from '../../../src/shaping/adaptive/feed.ts';
import { DEFAULTS } from '../../../src/shaping/adaptive/settings.ts';

function setUp() {
  const changes: LimitChange[] = [];
  const controller = new AdaptiveController(DEFAULTS, {
    changed: (change) => changes.push(change),
    limit: () => {},
  });
  const clock = { now: 10_000 };
  const feed = new AdaptiveFeed(controller, {
    now: () => clock.now,
    connections: () => ({ open: 8, most: 20 }),
    netblockOf: (source) => (source === '' ? '' : '192.0.2.0/24'),
    sourcesIn: () => ['a1', 'a2'],
  });
  return { changes, controller, clock, feed };
}

const peer = { host: 'mx.test', address: '192.0.2.1', port: 25, source: '192.0.2.9' };
const delivered: Outcome = {
  kind: 'delivered',
  reply: { code: 250, enhanced: '', text: 'ok', peer },
  dsnPassedOn: false,
};
const refused = (kind: ReplyClass, scope: ReplyScope): Outcome => ({
  kind: 'deferred',
  reason: 'peer_4xx',
  reply: { code: 421, enhanced: '4.7.28', text: 'slow\ndown', peer },
  detail: '',
  retryAtMs: 0,
  verdict: { class: kind, scope, move: 'slow_down', rule: 'r' },
});

const result = (outcome: Outcome, changes: Partial<AttemptResult> = {}): AttemptResult => ({
  queueId: 'q',
  destination: 'a.test',
  site: 'google',
  fence: 1,
  attempts: 1,
  reversePath: 'News@Shop.Example',
  receivedAtMs: 0,
  sizeBytes: 100,
  groups: [{ seqs: [0], outcome }],
  recipients: [{ seq: 0, address: 'r@a.test', notify: 0 }],
  times: { queueMs: 0, connectMs: 5, transferMs: 10 },
  dsns: [],
  delayNotified: false,
  ...changes,
});

test('what came before a refusal in the same batch is what its cut goes by; the reply is told on one line', () => {
  const { changes, feed } = setUp();
  feed.take([
    ...Array.from({ length: 50 }, () => result(delivered)),
    result(refused('rate_limit', 'source')),
  ]);
  assert.equal(changes.length, 1);
  assert.deepEqual(changes[0]?.key, { scope: 'source', value: '', site: 'google' });
  assert.equal(changes[0]?.reply, '421 4.7.28 slow down');
  assert.equal(changes[0]?.now.closedUntilMs, 11_000);
});

test('a sender’s domain is slowed where the reply is about it; a recipient, or a message, slows nothing else', () => {
  const { changes, feed } = setUp();
  feed.take([result(refused('rate_limit', 'recipient')), result(refused('rate_limit', 'message'))]);
  feed.take([result(refused('recipient_rate', 'recipient')), result(refused('greylist', 'message'))]);
  assert.equal(changes.length, 0);
  feed.take([result(refused('rate_limit', 'sender_domain'))]);
  assert.deepEqual(changes[0]?.key, { scope: 'return_path_domain', value: 'shop.example', site: 'google' });
  // Of the null reverse-path no domain can be slowed, nor one that is not known: the source stands for it.
  feed.take([
    result(refused('rate_limit', 'sender_domain'), { reversePath: '' }),
    result(refused('rate_limit', 'url_domain')),
  ]);
  assert.deepEqual(changes[1]?.key, { scope: 'source', value: '', site: 'google' });
});

test('a reply slows what it is about: a block of addresses, a signature, a tenant, a campaign', () => {
  const { changes, feed } = setUp();
  const mail = {
    source: 'a1',
    attributes: { tenant: 'shop', campaign: 'spring' },
    dkimDomains: ['shop.example', 'esp.example'],
  };
  const scopes: ReplyScope[] = ['netblock', 'dkim_domain', 'url_domain', 'tenant', 'campaign'];
  for (const scope of scopes) feed.take([result(refused('rate_limit', scope), mail)]);
  assert.deepEqual(
    changes.map(({ key }) => [key.scope, key.value]),
    [
      ['netblock', '192.0.2.0/24'],
      ['dkim_domain', 'shop.example'],
      ['campaign', 'spring'],
      ['tenant', 'shop'],
      // What the campaign was refused before opened nothing: it is the same key.
    ],
  );
  // Without a campaign the link is most likely its sender's.
  feed.take([result(refused('rate_limit', 'url_domain'))]);
  assert.deepEqual(changes.at(-1)?.key.scope, 'return_path_domain');
});

test('of several signatures the one that the reply names is slowed; where nobody is named or known, the source', () => {
  const { changes, feed } = setUp();
  const named = refused('rate_limit', 'dkim_domain');
  Object.assign(named.reply ?? {}, { text: 'unusual rate from your DKIM domain [ESP.example 35]' });
  feed.take([result(named, { dkimDomains: ['shop.example', 'esp.example'] })]);
  feed.take([result(refused('rate_limit', 'dkim_domain'))]);
  feed.take([result(refused('rate_limit', 'netblock'), { site: 'yahoo' })]);
  assert.deepEqual(
    changes.map(({ key }) => [key.scope, key.value, key.site]),
    [
      ['dkim_domain', 'esp.example', 'google'],
      ['source', '', 'google'],
      ['source', '', 'yahoo'],
    ],
  );
});

test('mail opens all keys again that it falls under', () => {
  const { changes, clock, feed } = setUp();
  const mail = { source: 'a2', dkimDomains: ['shop.example'] };
  feed.take([
    result(refused('rate_limit', 'netblock'), mail),
    result(refused('rate_limit', 'dkim_domain'), mail),
  ]);
  clock.now = 12_000;
  feed.take([result(delivered, mail)]);
  assert.deepEqual(
    changes.slice(2).map(({ key, cause }) => [key.scope, cause]),
    [
      ['netblock', 'probe_accepted'],
      ['dkim_domain', 'probe_accepted'],
    ],
  );
});

test('the probe of a sender’s domain is counted for it', () => {
  const { changes, clock, feed } = setUp();
  feed.take([result(refused('rate_limit', 'return_path_domain'))]);
  clock.now = 12_000;
  feed.take([result(delivered, { reversePath: 'x@other.example' })]);
  assert.equal(changes.length, 1);
  feed.take([result(delivered)]);
  assert.equal(changes.at(-1)?.cause, 'probe_accepted');
});

test('connections are halved from those that are open, whatever the reply is about', () => {
  const { changes, controller, feed } = setUp();
  feed.take([result(refused('connection_limit', 'destination'))]);
  assert.equal(controller.limitOf({ scope: 'source', value: '', site: 'google' }).connections, 4);
  assert.equal(changes[0]?.cause, 'connection_limit');
});

test('what was sent before a cut, and attempts without a site or a reply, change nothing', () => {
  const { changes, clock, controller, feed } = setUp();
  const { site: _, ...elsewhere } = result(refused('rate_limit', 'source'));
  feed.take([elsewhere]);
  feed.take([result({ kind: 'deferred', reason: 'timeout', detail: '', retryAtMs: 0 })]);
  assert.equal(controller.size, 0);
  feed.take([result(refused('rate_limit', 'source'))]);
  clock.now = 11_500;
  feed.take([
    result(refused('rate_limit', 'source'), { times: { queueMs: 0, connectMs: 0, transferMs: 1600 } }),
  ]);
  assert.equal(changes.length, 1);
  feed.take([
    result(refused('rate_limit', 'source'), { times: { queueMs: 0, connectMs: 0, transferMs: 100 } }),
  ]);
  assert.equal(changes.length, 2);
});
