/** Limits learned of refusals, warm-ups and rules in a running relay: what they hold back, what a kill leaves, what operators see. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const limited = await ScriptedSink.start({ host: '127.0.0.1' });
const { port } = limited;
const warmed = await ScriptedSink.start({ host: '127.0.0.2', port });
const ruled = await ScriptedSink.start({ host: '127.0.0.3', port });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'mx2.test': { A: ['127.0.0.2'] },
  'mx3.test': { A: ['127.0.0.3'] },
  'limited.test': { MX: [[10, 'mx1.test']] },
  'warmed.test': { MX: [[10, 'mx2.test']] },
  'ruled.test': { MX: [[10, 'mx3.test']] },
});
const relay = new RelayFixture({
  delivery: { mx_port: port, suspend_after_failures: 1000 },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 100, max_delay_ms: 200, max_attempts: 100 },
  adaptive: { first_probe_ms: 300 },
  warmup: [
    {
      source: '',
      providers: ['mx:mx2.test'],
      plan_messages_per_day: [20, 40],
      time_zone: 'UTC',
      window: '00:00-24:00',
    },
  ],
  rules: [
    {
      name: 'stop',
      match: { reply: 'xyzzy' },
      threshold: { count: 1 },
      action: 'pause',
      target: 'from_domain',
      for_ms: 3_600_000,
    },
  ],
});
after(async () => {
  await relay.destroy();
  await Promise.all([limited.stop(), warmed.stop(), ruled.stop(), dns.stop()]);
});

async function submit(from: string, ...to: string[]): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  for (const one of to) await talk.accepted({ from, to: one });
  await talk.quit();
}

const change = (by: string, cause: string) =>
  relay.events.one(
    `${by} ${cause}`,
    (event) => event.type === 'limit_changed' && event.by === by && event.cause === cause,
  );
const linesOf = (name: string): Record<string, never>[] =>
  readFileSync(join(relay.dataDir, name), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

test('what a peer refuses is sent slower, also after a kill, until it takes mail again', {
  timeout: 60_000,
}, async () => {
  limited.options.faults = { mail: '=421 4.7.28 unusual rate of mail from your address' };
  await relay.start();
  await submit('a@x.test', 'r1@limited.test', 'r2@limited.test');
  const cut = await change('adaptive', 'rate_limit');
  assert.deepEqual(
    [cut.scope, cut.value, cut.site, cut.messages_per_s_before, cut.refusals],
    ['source', '', 'mx:mx1.test', null, 1],
  );
  assert.match(String(cut.reply), /^421 4\.7\.28 unusual rate/);
  await eventually(() => assert.equal(linesOf('adaptive.jsonl')[0]?.key, 'source\t\tmx:mx1.test'));
  await relay.kill();
  delete limited.options.faults;
  await relay.start();
  const opened = await change('adaptive', 'probe_accepted');
  assert.ok(Number(opened.messages_per_s) > 0);
  await limited.received(2);
  const shown = JSON.parse((await relay.command('shaping', 'show', '--json')).stdout);
  const learned = shown.find(({ provider }: { provider: string }) => provider === 'mx:mx1.test')?.learned;
  assert.equal(learned?.[0]?.scope, 'source');
});

test('a warm-up lets through what its day allows, and a kill leaves no smaller count', {
  timeout: 60_000,
}, async () => {
  await submit('a@x.test', ...Array.from({ length: 6 }, (_, i) => `r${i}@warmed.test`));
  await warmed.received(1);
  await relay.events.one(
    'the second waits',
    ({ type, reason, recipient }) =>
      type === 'deferred' && reason === 'limit_reached' && String(recipient).endsWith('@warmed.test'),
  );
  assert.ok(warmed.messages.length <= 2);
  await relay.kill();
  const [kept] = linesOf('warmup.jsonl') as unknown as { record: { sent: number } }[];
  assert.ok((kept?.record.sent ?? 0) >= warmed.messages.length);
  await relay.start();
  const status = JSON.parse((await relay.command('warmup', 'status', '--json')).stdout);
  assert.equal(status[0].sites[0].site, 'mx:mx2.test');
  assert.ok(status[0].sites[0].sent >= warmed.messages.length);
  await relay.command('warmup', 'set', 'default', 'mx:mx2.test', '3');
  await relay.command('queue', 'flush', '--destination', 'warmed.test', '--yes');
  const set = await change('warmup', 'set');
  assert.deepEqual([set.messages_per_day, set.step], [null, 3]);
  await eventually(async () => {
    await relay.command('queue', 'flush', '--destination', 'warmed.test', '--yes');
    assert.equal(warmed.messages.length, 6);
  }, 15_000);
});

test('a rule holds up mail of the domain that was refused, and no other', { timeout: 60_000 }, async () => {
  ruled.options.faults = { mail: '=451 4.0.0 xyzzy' };
  await submit('a@shop.test', 'r1@ruled.test');
  const acted = await change('rule', 'threshold');
  assert.deepEqual(
    [acted.rule, acted.scope, acted.value, acted.action],
    ['stop', 'from_domain', 'shop.test', 'pause'],
  );
  delete ruled.options.faults;
  await submit('b@shop.test', 'r2@ruled.test');
  const held = await relay.events.one(
    'the second is held',
    ({ recipient, reason }) => recipient === 'r2@ruled.test' && reason === 'limit_reached',
  );
  assert.match(String(held.detail), /rule stop \(return_path_domain shop\.test at mx:mx3\.test\)/);
  await submit('b@other.test', 'r3@ruled.test');
  await ruled.received(1);
  assert.deepEqual(
    ruled.messages[0]?.recipients.map(({ address }) => address),
    ['r3@ruled.test'],
  );
});
