/**
 * Addresses that exist beside the grammar of RFC 5321, from a client to the host that has them: found in DNS, relayed as
 * written, told in reports; and smtp.strict_addresses, which a reload switches.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

let sink: ScriptedSink;
let six: ScriptedSink;
let dns: DnsServer;
let relay: RelayFixture;

before(async () => {
  sink = await ScriptedSink.start({ host: '127.0.0.1' });
  six = await ScriptedSink.start({ host: '::1', port: sink.port });
  dns = await DnsServer.start({
    'mx_1.odd.test': { A: ['127.0.0.1'] },
    'my_host.test': { MX: [[10, 'mx_1.odd.test']] },
    '_own.my_host.test': { A: ['127.0.0.1'] },
    'plain.test': { MX: [[10, 'mx_1.odd.test']] },
    'xn--bcher-kva.test': { A: ['127.0.0.1'] },
  });
  relay = await RelayFixture.start({
    delivery: { mx_port: sink.port, refuse_loopback_mx: false },
    dns: { servers: [dns.address] },
  });
});

after(async () => {
  await relay?.destroy();
  await Promise.all([sink?.stop(), six?.stop(), dns?.stop()]);
});

/** As given, and as the host gets it where that is not the same. */
const TAKEN: [written: string, sent?: string][] = [
  ['a..b@plain.test'],
  ['user.@plain.test'],
  ['.user@plain.test'],
  [`${'l'.repeat(120)}@plain.test`],
  ['x@My_Host.test'],
  ['x@_own.my_host.test'],
  ['x@plain.test.', 'x@plain.test'],
  ['a..b.@my_host.test.', 'a..b.@my_host.test'],
  ['x@[::1]'],
  ['x@[IPv6:::1]'],
];

test('from a client to the host, as sender and as recipient; the report comes back to such a sender', async () => {
  const talk = await Talk.open({ port: relay.port, host: '127.0.0.1' });
  assert.match(await talk.say('EHLO [::1]'), /^250/);
  for (const [i, [written, sent = written]] of TAKEN.entries()) {
    await talk.accepted({ from: written, to: written });
    await fate(relay.events, written, 'delivered');
    const got = [...sink.messages, ...six.messages].find(({ recipients }) => recipients[0]?.address === sent);
    assert.equal(got?.from, sent);
    assert.match(got.content.toString('latin1'), /^Received: from \[::1\] /m);
    const to = `bounce-550+${i}@my_host.test`;
    await talk.accepted({ from: written, to });
    await fate(relay.events, to, 'bounced');
    await fate(relay.events, written, 'delivered');
  }
  await talk.quit();
  for (const host of [sink, six])
    for (const { recipients, from } of host.messages)
      for (const address of [from, ...recipients.map((one) => one.address)])
        assert.ok(!address.endsWith('.'), `${address}: no line that RFC 5321 has no domain for`);
});

test('outside ASCII, with a dot at the end, to hosts with SMTPUTF8 and without', async (t) => {
  t.after(() => {
    delete sink.options.capabilities;
  });
  for (const [i, capabilities] of [['SMTPUTF8', '8BITMIME'], ['PIPELINING']].entries()) {
    sink.dropAll();
    sink.options.capabilities = capabilities;
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    const to = `u${i}@bücher.test.`;
    await talk.accepted({ to: [to, `v${i}@bücher.test.`], mailParameters: ' SMTPUTF8' });
    await talk.quit();
    await fate(relay.events, to, 'delivered');
    const sent = sink.messages.at(-1)?.recipients.map(({ address }) => address);
    const domain = i === 0 ? 'bücher.test' : 'xn--bcher-kva.test';
    assert.deepEqual(sent, [`u${i}@${domain}`, `v${i}@${domain}`]);
  }
});

test('smtp.strict_addresses refuses them after a reload, in open sessions too', async () => {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  relay.configure({ smtp: { strict_addresses: true } });
  await relay.reload();
  for (const [written] of TAKEN.filter(([one]) => !one.includes('IPv6:')))
    assert.match(await talk.say(`MAIL FROM:<${written}>`), /^501 5\.1\.7 /, written);
  assert.match(await talk.say('HELO my_host'), /^501 5\.5\.4 /);
  assert.match(await talk.say('MAIL FROM:<a.b@plain.test>'), /^250 /);
  assert.match(await talk.say('RCPT TO:<a..b@plain.test>'), /^501 5\.1\.3 /);
  await talk.quit();
});
