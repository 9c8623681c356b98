/** Mail that leaves by other sources than its pool says: what a warm-up does not take today, what a rule moves, what was refused because of its source. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const warmed = await ScriptedSink.start({ host: '127.0.0.1' });
const { port } = warmed;
const moved = await ScriptedSink.start({ host: '127.0.0.2', port });
const refused = await ScriptedSink.start({ host: '127.0.0.3', port });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'mx2.test': { A: ['127.0.0.2'] },
  'mx3.test': { A: ['127.0.0.3'] },
  'warmed.test': { MX: [[10, 'mx1.test']] },
  'moved.test': { MX: [[10, 'mx2.test']] },
  'refused.test': { MX: [[10, 'mx3.test']] },
});
const [OWN, SPARE] = ['127.0.0.12', '127.0.0.13'];
const relay = new RelayFixture({
  delivery: { mx_port: port, suspend_after_failures: 1000 },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 100, max_delay_ms: 200, max_attempts: 100 },
  adaptive: { mode: 'off' },
  egress: {
    sources: [
      { name: 'own', address: OWN },
      { name: 'spare', address: SPARE },
    ],
    pools: [
      { name: 'own', members: [{ source: 'own' }] },
      { name: 'spare', members: [{ source: 'spare' }] },
      { name: 'both', members: [{ source: 'own' }, { source: 'spare' }], retry_other_source: true },
    ],
    routing: [
      { match: { recipient_domain: 'refused.test' }, pool: 'both' },
      { match: {}, pool: 'own' },
    ],
  },
  warmup: [
    {
      source: 'own',
      providers: ['mx:mx1.test'],
      plan_messages_per_day: [1],
      window: '00:00-24:00',
      overflow_pool: 'spare',
    },
  ],
  rules: [
    {
      name: 'elsewhere',
      match: { reply: 'xyzzy' },
      threshold: { count: 1 },
      action: 'move_pool',
      pool: 'spare',
      target: 'from_domain',
      for_ms: 3_600_000,
    },
  ],
});
after(async () => {
  await relay.destroy();
  await Promise.all([warmed.stop(), moved.stop(), refused.stop(), dns.stop()]);
});

async function submit(from: string, ...to: string[]): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  for (const one of to) await talk.accepted({ from, to: one });
  await talk.quit();
}

async function sourceOf(recipient: string): Promise<unknown> {
  const name = `delivery to ${recipient}`;
  const event = await relay.events.one(
    name,
    (one) => one.type === 'delivered' && one.recipient === recipient,
  );
  return event.source_address;
}

test('what the plan of a warm-up does not take today leaves by its overflow pool', {
  timeout: 60_000,
}, async () => {
  await relay.start();
  const to = Array.from({ length: 5 }, (_, i) => `r${i}@warmed.test`);
  await submit('a@x.test', ...to);
  const from = await Promise.all(to.map(sourceOf));
  assert.ok(from.filter((source) => source === OWN).length <= 1, from.join());
  assert.ok(
    from.every((source) => source === OWN || source === SPARE),
    from.join(),
  );
  // Also what comes when it is known that the source is closed.
  await submit('a@x.test', 'late@warmed.test');
  assert.equal(await sourceOf('late@warmed.test'), SPARE);
});

test('a rule moves mail of a domain to another pool, also after a kill; other mail stays', {
  timeout: 60_000,
}, async () => {
  moved.options.faults = { mail: '=451 4.0.0 xyzzy' };
  await submit('a@shop.test', 'r1@moved.test');
  const acted = await relay.events.one(
    'the rule acts',
    ({ type, by }) => type === 'limit_changed' && by === 'rule',
  );
  assert.deepEqual([acted.rule, acted.action, acted.pool], ['elsewhere', 'move_pool', 'spare']);
  delete moved.options.faults;
  assert.equal(await sourceOf('r1@moved.test'), SPARE);
  await relay.kill();
  await relay.start();
  await submit('a@shop.test', 'r2@moved.test');
  await submit('a@other.test', 'r3@moved.test');
  assert.equal(await sourceOf('r2@moved.test'), SPARE);
  assert.equal(await sourceOf('r3@moved.test'), OWN);
});

test('what was refused because of its source is tried by another one', { timeout: 60_000 }, async () => {
  refused.options.faults = { mail: '=451 4.7.1 your IP address has a poor reputation' };
  await submit('a@x.test', 'r1@refused.test');
  const first = await relay.events.one(
    'the refusal',
    ({ type, recipient }) => type === 'deferred' && recipient === 'r1@refused.test',
  );
  assert.equal(first.scope, 'source');
  const tried = refused.messages.length;
  delete refused.options.faults;
  assert.equal(tried, 0);
  const other = first.source_address === OWN ? SPARE : OWN;
  assert.equal(await sourceOf('r1@refused.test'), other);
});
