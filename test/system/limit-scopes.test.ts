/** Limits for what a refusal names, in a running relay: a block of addresses, a signature. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const sink = await ScriptedSink.start({ host: '127.0.0.1' });
const second = await ScriptedSink.start({ host: '127.0.0.2', port: sink.port });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'mx2.test': { A: ['127.0.0.2'] },
  'one.test': { MX: [[10, 'mx1.test']] },
  'two.test': { MX: [[10, 'mx2.test']] },
});
const relay = new RelayFixture({
  delivery: { mx_port: sink.port },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 60_000 },
  adaptive: { first_probe_ms: 60_000 },
  attributes: { trusted_networks: ['127.0.0.0/8'] },
  replies: { file: 'own.json' },
  egress: {
    sources: [
      { name: 'a1', address: '127.1.0.1' },
      { name: 'a2', address: '127.1.0.2' },
      { name: 'b1', address: '127.2.0.1' },
    ],
    pools: [
      { name: 'a1', members: [{ source: 'a1' }] },
      { name: 'a2', members: [{ source: 'a2' }] },
      { name: 'b1', members: [{ source: 'b1' }] },
    ],
  },
});
const rule = { class: 'rate_limit', move: 'slow_down', code: '4xx', source: 'test' };
writeFileSync(
  join(relay.dataDir, 'own.json'),
  JSON.stringify({
    rules: [
      { ...rule, id: 'block', pattern: 'netblock', scope: 'netblock' },
      { ...rule, id: 'signature', pattern: 'dkim', scope: 'dkim_domain' },
    ],
  }),
);
after(async () => {
  await relay.destroy();
  await Promise.all([sink.stop(), second.stop(), dns.stop()]);
});

async function submit(pool: string, to: string, fields = ''): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const content = `X-ProtoRelay-Pool: ${pool}\r\n${fields}From: a@x.test\r\n\r\nhello\r\n`;
  await talk.accepted({ from: 'a@x.test', to, content });
  await talk.quit();
}

const held = (to: string) =>
  relay.events.one(to, ({ recipient, reason }) => recipient === to && reason === 'limit_reached');
const cut = (scope: string) =>
  relay.events.one(scope, (event) => event.type === 'limit_changed' && event.scope === scope);

test('a block of addresses is slowed for all sources in it; others go on', {
  timeout: 60_000,
}, async () => {
  await relay.start();
  await submit('b1', 'r0@one.test');
  await sink.received(1);
  sink.options.faults = { mail: '=421 4.7.28 unusual rate of mail from your netblock' };
  await submit('a1', 'r1@one.test');
  const change = await cut('netblock');
  assert.deepEqual([change.value, change.site], ['127.1.0.0/24', 'mx:mx1.test']);
  delete sink.options.faults;
  await submit('a2', 'r2@one.test');
  await submit('b1', 'r3@one.test');
  await sink.received(2);
  assert.equal(sink.messages[1]?.recipients[0]?.address, 'r3@one.test');
  const why = await relay.command('queue', 'why', 'r2@one.test');
  assert.match(why.stdout, /pause \(netblock\) of mx:mx1\.test from a2/);
  assert.match(why.stdout, /adaptive, rate_limit: 421 4\.7\.28 unusual rate/);
});

test('a signature is slowed where the reply is about it, mail of other signatures is not', {
  timeout: 60_000,
}, async () => {
  second.options.faults = { dot: '=421 4.7.28 unusual rate of mail of your DKIM domain' };
  const of = (domain: string): string => `DKIM-Signature: v=1; d=${domain}; b=x\r\n`;
  await submit('b1', 's1@two.test', of('shop.test'));
  assert.equal((await cut('dkim_domain')).value, 'shop.test');
  delete second.options.faults;
  await submit('b1', 's2@two.test', of('shop.test'));
  assert.match(String((await held('s2@two.test')).detail), /dkim_domain shop\.test at mx:mx2\.test/);
  await submit('b1', 's3@two.test', of('blog.test'));
  await second.received(1);
  assert.equal(second.messages[0]?.recipients[0]?.address, 's3@two.test');
});
