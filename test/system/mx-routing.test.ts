/** Mail by MX with a DNS server of our own: preference, fallback, null MX, DNS failures, loops. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

let first: ScriptedSink;
let second: ScriptedSink;
let dns: DnsServer;
let relay: RelayFixture;

before(async () => {
  first = await ScriptedSink.start({ host: '127.0.0.1' });
  second = await ScriptedSink.start({ host: '127.0.0.2', port: first.port });
  dns = await DnsServer.start({
    'mx1.test': { A: ['127.0.0.1'] },
    'mx2.test': { A: ['127.0.0.2'] },
    'dead.test': { A: ['127.0.0.3'] },
    'one.test': {
      MX: [
        [10, 'mx1.test'],
        [20, 'mx2.test'],
      ],
    },
    'fallback.test': {
      MX: [
        [10, 'dead.test'],
        [20, 'mx2.test'],
      ],
    },
    'equal.test': {
      MX: [
        [10, 'mx1.test'],
        [10, 'mx2.test'],
      ],
    },
    'implicit.test': { A: ['127.0.0.2'] },
    'alias.test': { CNAME: 'one.test' },
    'null.test': { MX: [[0, '.']] },
    'servfail.test': { fault: 'SERVFAIL' },
    'heals.test': { fault: 'SERVFAIL' },
    'nothing.test': { TXT: ['no address'] },
    'mxless.test': { MX: [[10, 'gone.test']] },
    'silent.test': { fault: 'timeout' },
    'truncated.test': { MX: [[10, 'mx2.test']], fault: 'truncate' },
  });
  relay = await RelayFixture.start({
    delivery: { mx_port: first.port, connect_timeout_ms: 2000 },
    dns: { servers: [dns.address], timeout_ms: 300, tries: 1, negative_ttl_ms: 0, cache_max_ttl_ms: 0 },
    retry: { initial_delay_ms: 200, max_delay_ms: 400, max_attempts: 50 },
  });
});

after(async () => {
  await relay?.destroy();
  await Promise.all([first?.stop(), second?.stop(), dns?.stop()]);
});

async function submit(...to: string[]): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to });
  await talk.quit();
}

const got = (sink: ScriptedSink, address: string): number =>
  sink.messages.filter((message) => message.recipients.some((to) => to.address === address)).length;

test('the MX of lowest preference gets the mail', { timeout: 60_000 }, async () => {
  await submit('a@one.test');
  await fate(relay.events, 'a@one.test', 'delivered');
  assert.deepEqual([got(first, 'a@one.test'), got(second, 'a@one.test')], [1, 0]);
});

test('an MX that fails after EHLO: the next preference gets it in the same attempt', {
  timeout: 60_000,
}, async (t) => {
  t.after(() => {
    delete first.options.faults;
  });
  const faults = [{ mail: '450' }, { mail: 'drop' }, { rcpt: '451' }, { data: '421' }, { dot: '452' }];
  for (const [i, fault] of faults.entries()) {
    first.dropAll();
    first.options.faults = fault;
    const address = `fails${i}@one.test`;
    await submit(address);
    const delivered = await fate(relay.events, address, 'delivered');
    assert.equal(delivered.attempt, 1, JSON.stringify(fault));
    assert.deepEqual([got(first, address), got(second, address)], [0, 1]);
  }
});

test('a dead MX: the next preference gets it in the same attempt', { timeout: 60_000 }, async () => {
  await submit('a@fallback.test');
  const delivered = await fate(relay.events, 'a@fallback.test', 'delivered');
  assert.equal(got(second, 'a@fallback.test'), 1);
  assert.equal(delivered.attempt, 1);
});

test('equal preferences are both used', { timeout: 60_000 }, async () => {
  for (let i = 0; i < 24; i++) {
    await submit(`e${i}@equal.test`);
    await fate(relay.events, `e${i}@equal.test`, 'delivered');
    // A kept connection would be used again: each message shall choose anew.
    first.dropAll();
    second.dropAll();
  }
  const reached = (sink: ScriptedSink) =>
    sink.messages.filter((m) => m.recipients[0]?.address.endsWith('@equal.test')).length;
  assert.ok(reached(first) > 0 && reached(second) > 0, `${reached(first)} and ${reached(second)}`);
});

test('no MX: the address record is the implicit MX', { timeout: 60_000 }, async () => {
  await submit('a@implicit.test');
  await fate(relay.events, 'a@implicit.test', 'delivered');
  assert.equal(got(second, 'a@implicit.test'), 1);
});

test('a CNAME is followed, the recipient is not rewritten', { timeout: 60_000 }, async () => {
  await submit('a@alias.test');
  await fate(relay.events, 'a@alias.test', 'delivered');
  assert.equal(got(first, 'a@alias.test'), 1);
});

test('a truncated answer is asked for again over TCP', { timeout: 60_000 }, async () => {
  await submit('a@truncated.test');
  await fate(relay.events, 'a@truncated.test', 'delivered');
  assert.equal(got(second, 'a@truncated.test'), 1);
});

test('a null MX bounces with 5.1.10', { timeout: 60_000 }, async () => {
  await submit('a@null.test');
  const bounced = await fate(relay.events, 'a@null.test', 'bounced');
  assert.equal(bounced.reason, 'null_mx');
  assert.equal(bounced.status, '5.1.10');
});

test('a domain that does not exist bounces with 5.1.2', { timeout: 60_000 }, async () => {
  await submit('a@no-such-domain.test');
  const bounced = await fate(relay.events, 'a@no-such-domain.test', 'bounced');
  assert.equal(bounced.reason, 'no_such_domain');
  assert.equal(bounced.status, '5.1.2');
});

test('SERVFAIL and silence defer; mail goes when the name server is well again', {
  timeout: 60_000,
}, async () => {
  await submit('a@servfail.test', 'a@silent.test', 'a@heals.test');
  const [failed, silent] = await Promise.all([
    fate(relay.events, 'a@servfail.test', 'deferred'),
    fate(relay.events, 'a@silent.test', 'deferred'),
    fate(relay.events, 'a@heals.test', 'deferred'),
  ]);
  assert.equal(failed.reason, 'dns_temporary');
  assert.equal(silent.reason, 'dns_unavailable');
  dns.set('heals.test', { MX: [[5, 'mx1.test']] });
  await fate(relay.events, 'a@heals.test', 'delivered');
});

test('an MX whose host has no address: neither delivered nor lost', { timeout: 60_000 }, async () => {
  await submit('a@mxless.test', 'a@nothing.test');
  await relay.events.one(
    'fate of a@mxless.test',
    (e) => e.recipient === 'a@mxless.test' && e.type !== 'accepted',
  );
  const nothing = await relay.events.one('fate of a@nothing.test', (e) => e.recipient === 'a@nothing.test');
  assert.equal(nothing.type, 'bounced');
});

test('an MX that is ourselves is a loop: bounced with 5.4.6', { timeout: 60_000 }, async (t) => {
  const own = await RelayFixture.start({
    delivery: { refuse_loopback_mx: true, mx_port: first.port },
    dns: { servers: [dns.address], timeout_ms: 300, tries: 1 },
  });
  t.after(() => own.destroy());
  const talk = await Talk.hello({ port: own.port, host: '127.0.0.1' });
  await talk.accepted({ to: 'a@one.test' });
  await talk.quit();
  const bounced = await fate(own.events, 'a@one.test', 'bounced');
  assert.equal(bounced.reason, 'mail_loop');
  assert.equal(bounced.status, '5.4.6');
});

test('a static route wins over MX', { timeout: 60_000 }, async (t) => {
  const routed = await RelayFixture.start({
    delivery: { routes: { 'One.Test': { host: '127.0.0.2', port: second.port } }, mx_port: first.port },
    dns: { servers: [dns.address], timeout_ms: 300, tries: 1 },
  });
  t.after(() => routed.destroy());
  const talk = await Talk.hello({ port: routed.port, host: '127.0.0.1' });
  await talk.accepted({ to: 'routed@one.test' });
  await talk.quit();
  await fate(routed.events, 'routed@one.test', 'delivered');
  assert.deepEqual([got(first, 'routed@one.test'), got(second, 'routed@one.test')], [0, 1]);
});
