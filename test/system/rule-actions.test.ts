/** Rules that bounce, and that tell a web address, in a running relay. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { until } from '../support/wait.ts';

const told: Record<string, unknown>[] = [];
const web = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    told.push(JSON.parse(body));
    response.end();
  });
});
await new Promise<void>((done) => web.listen(0, '127.0.0.1', done));
const sink = await ScriptedSink.start({ host: '127.0.0.1' });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'one.test': { MX: [[10, 'mx1.test']] },
  'x.test': { MX: [[10, 'mx1.test']] },
});
const rule = { match: { reply: 'xyzzy' }, threshold: { count: 1 }, target: 'from_domain', for_ms: 3_600_000 };
const relay = new RelayFixture({
  delivery: { mx_port: sink.port, suspend_after_failures: 1000 },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 3_600_000 },
  adaptive: { mode: 'off' },
  rules: [
    { ...rule, name: 'give-up', action: 'bounce' },
    {
      ...rule,
      name: 'tell',
      action: 'webhook',
      url: `http://127.0.0.1:${(web.address() as AddressInfo).port}/key`,
      allow_private: true,
    },
  ],
});
after(async () => {
  await relay.destroy();
  web.closeAllConnections();
  web.close();
  await Promise.all([sink.stop(), dns.stop()]);
});

async function submit(from: string, to: string): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ from, to });
  await talk.quit();
}

test('a rule fails further mail of its target, also after a kill; the report names it, and others go on', {
  timeout: 60_000,
}, async () => {
  sink.options.faults = { mail: '=451 4.0.0 xyzzy' };
  await relay.start();
  await submit('a@x.test', 'r1@one.test');
  await relay.events.one('acted', ({ type, rule: name }) => type === 'limit_changed' && name === 'give-up');
  delete sink.options.faults;
  const bounced = (to: string) =>
    relay.events.one(to, ({ type, recipient }) => type === 'bounced' && recipient === to);
  await submit('a@x.test', 'r2@one.test');
  const event = await bounced('r2@one.test');
  assert.deepEqual(
    [event.reason, event.status, event.detail],
    ['failed_by_rule', '5.7.1', 'rule give-up, after: 451 4.0.0 xyzzy'],
  );
  // The report to its sender, which has the null reverse-path and is no mail of the domain.
  await sink.received(1);
  const report = sink.messages[0];
  assert.deepEqual([report?.from, report?.recipients[0]?.address], ['', 'a@x.test']);
  assert.match(report?.content.toString() ?? '', /rule give-up, after: 451 4\.0\.0 xyzzy/);
  await submit('a@other.test', 'r3@one.test');
  await sink.received(2);
  await relay.kill();
  await relay.start();
  await submit('a@x.test', 'r4@one.test');
  await bounced('r4@one.test');
});

test('a rule told its web address', { timeout: 30_000 }, async () => {
  await until(() => told.length > 0, 'told.length > 0');
  const { time, ends_at, node, ...rest } = told[0] ?? {};
  assert.deepEqual(rest, {
    type: 'rule_acted',
    scope: 'from_domain',
    value: 'x.test',
    site: 'mx:mx1.test',
    rule: 'tell',
    action: 'webhook',
    reply: '451 4.0.0 xyzzy',
    matched: 1,
    of: 1,
  });
  assert.ok(Date.parse(String(ends_at)) > Date.parse(String(time)));
  assert.notEqual(node, undefined);
});
