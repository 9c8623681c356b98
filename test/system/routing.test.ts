/** What the rules of `egress.routing` do with mail: hold, discard, send it another way, give it a class; on both engines, with both schedulers. */
import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import type { WhyAnswer } from '../../src/control/why.ts';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { RedisServer, skipWithoutRedis } from '../services/redis.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { LEASE_MS, oneShard, sharedFolder, sharedServer } from '../support/nodes.ts';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const direct = await ScriptedSink.start({ host: '127.0.0.1' });
const { port } = direct;
const hop = await ScriptedSink.start({ host: '127.0.0.2', port });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'plain.test': { MX: [[10, 'mx1.test']] },
  'held.test': { MX: [[10, 'mx1.test']] },
  'away.test': { MX: [[10, 'mx1.test']] },
});
after(() => Promise.all([direct.stop(), hop.stop(), dns.stop()]));

const AWAY = Array.from({ length: 12 }, (_, i) => `d${i}.away.test`);
const routing = [
  { match: { tenant: 'shop' }, class: 'bulk' },
  { name: 'look', match: { recipient_domain: 'held.test' }, hold: true },
  { name: 'dead-list', match: { campaign: 'dead' }, discard: true },
];
const away = {
  match: { recipient_domain: ['away.test', '*.away.test'] },
  next_hop: { host: '127.0.0.2', port },
};

async function startRelay(t: TestContext, settings: Settings): Promise<RelayFixture> {
  const relay = new RelayFixture({
    delivery_threads: 2,
    delivery: { mx_port: port, suspend_after_failures: 1000, max_connections_per_destination: 1 },
    dns: { servers: [dns.address] },
    retry: { initial_delay_ms: 100, max_delay_ms: 200 },
    attributes: { trusted_networks: ['127.0.0.0/8'] },
    egress: { routing: [...routing, away] },
    ...settings,
  });
  t.after(() => relay.destroy());
  await relay.start();
  return relay;
}

async function submit(relay: RelayFixture, to: string | string[], ...fields: string[]): Promise<string> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const id = await talk.accepted({ from: 'a@x.test', to, content: `${fields.join('\r\n')}\r\n\r\nhi\r\n` });
  await talk.quit();
  return id;
}

const got = (sink: ScriptedSink, address: string): number =>
  sink.messages.filter(({ recipients }) => recipients.some((to) => to.address === address)).length;

async function entryOf(relay: RelayFixture, id: string): Promise<WhyAnswer['entries'][number]> {
  const { entries } = await relay.queueJson<WhyAnswer>('why', id);
  return entries[0] as WhyAnswer['entries'][number];
}

async function judged(relay: RelayFixture): Promise<void> {
  // Discarded: a fate of its own, with the rule; nobody is told by mail.
  await submit(relay, 'gone@plain.test', 'Subject: x', 'X-ProtoRelay-Campaign: dead');
  const gone = await fate(relay.events, 'gone@plain.test', 'discarded');
  assert.deepEqual([gone.rule, gone.reason, gone.peer_host], ['dead-list', 'discarded', undefined]);
  assert.equal(got(direct, 'gone@plain.test'), 0);

  // The class that a rule gives stands in events.
  await submit(
    relay,
    'shop@plain.test',
    'Subject: x',
    'X-ProtoRelay-Tenant: shop',
    'X-ProtoRelay-Class: urgent',
  );
  assert.equal((await fate(relay.events, 'shop@plain.test', 'delivered')).mail_class, 'bulk');

  // Held, until it is released; the same rule does not hold it again, though its next attempt fails.
  const id = await submit(relay, 'one@held.test', 'Subject: x');
  const held = await relay.events.one('held', (one) => one.type === 'held' && one.queue_id === id);
  assert.deepEqual([held.reason, held.rule, held.recipients], ['held_by_rule', 'look', 1]);
  const entry = await entryOf(relay, id);
  assert.equal(entry.state, 'held');
  const [cause] = entry.causes;
  assert.deepEqual([cause?.cause, cause?.key, cause?.set_by], ['held', 'look', 'egress.routing: rule look']);
  assert.match((await relay.queue('list', '--state', 'held')).stdout, /one@held\.test|held\.test/);
  direct.options.faults = { rcpt: '451' };
  const release = await relay.queue('release', id);
  assert.equal(release.code, 0, release.stderr);
  const deferred = await relay.events.one(
    'deferral',
    (one) => one.type === 'deferred' && one.recipient === 'one@held.test',
  );
  assert.equal(deferred.reason, 'peer_4xx');
  delete direct.options.faults;
  await fate(relay.events, 'one@held.test', 'delivered');

  // All that goes another way shares the connections of its next hop, whatever thread its domains belong to.
  hop.dropAll();
  await Promise.all(AWAY.map((domain, i) => submit(relay, `a${i}@${domain}`)));
  for (const [i, domain] of AWAY.entries()) {
    const delivered = await fate(relay.events, `a${i}@${domain}`, 'delivered');
    assert.equal(delivered.peer_address, '127.0.0.2');
    assert.equal(delivered.destination, domain);
  }
  assert.equal(hop.peakConnections, 1);

  // Mail that waits goes by the new rules after a reload.
  hop.options.faults = { mail: '450' };
  await submit(relay, 'waits@away.test');
  await relay.events.one('deferral', (one) => one.type === 'deferred' && one.recipient === 'waits@away.test');
  relay.configure({ egress: { routing } });
  await relay.reload();
  const delivered = await fate(relay.events, 'waits@away.test', 'delivered');
  assert.equal(delivered.peer_address, '127.0.0.1');
  delete hop.options.faults;
}

test('rules hold, discard, classify and send another way: embedded', { timeout: 90_000 }, async (t) =>
  judged(await startRelay(t, {})),
);

test('the same on MariaDB with BullMQ', {
  skip: skipWithoutMariaDb() || skipWithoutRedis(),
  timeout: 120_000,
}, async (t) => {
  const { access } = await sharedServer();
  const redis = await RedisServer.start();
  t.after(() => redis.close());
  const settings = {
    node_id: 'a',
    database: oneShard(access),
    storage: { provider: 'local', local: { path: sharedFolder(t) } },
    lease_ms: LEASE_MS,
    scheduler: { engine: 'bullmq', poll_interval_ms: 100, redis: { url: redis.url } },
  };
  await judged(await startRelay(t, settings));
});

test('with a smarthost each recipient has its own verdict', { timeout: 60_000 }, async (t) => {
  const relay = await startRelay(t, {
    delivery: { smarthost: { host: '127.0.0.1', port } },
    egress: { routing: [...routing, away] },
  });
  const id = await submit(relay, ['s@plain.test', 's@held.test', 's@away.test']);
  assert.equal((await fate(relay.events, 's@plain.test', 'delivered')).peer_address, '127.0.0.1');
  assert.equal((await fate(relay.events, 's@away.test', 'delivered')).peer_address, '127.0.0.2');
  await eventually(async () => assert.equal((await entryOf(relay, id)).state, 'held'));
  assert.equal((await relay.queue('release', id)).code, 0);
  await fate(relay.events, 's@held.test', 'delivered');
  assert.deepEqual([got(direct, 's@held.test'), got(direct, 's@away.test')], [1, 0]);
});

test('route says which rule decides, and what', { timeout: 60_000 }, async (t) => {
  const relay = await startRelay(t, {});
  const said = async (...args: string[]): Promise<Record<string, unknown>> =>
    JSON.parse((await relay.command('route', ...args, '--json')).stdout);
  const held = await said('u@held.test', '--tenant', 'shop');
  assert.deepEqual(
    [held.result, held.rule, held.rule_name, held.mail_class, held.class_rules],
    ['hold', 'egress.routing[1]', 'look', 'bulk', ['egress.routing[0]']],
  );
  const other = await said('u@away.test');
  assert.deepEqual(
    [other.result, other.way, other.next_hop, other.rule],
    ['route', 'route', `127.0.0.2:${port}`, 'egress.routing[3]'],
  );
  const text = (await relay.command('route', 'u@plain.test', '--campaign', 'dead')).stdout;
  assert.match(text, /Rule +egress\.routing\[2\] \(dead-list\): discarded/);
});
