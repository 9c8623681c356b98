/** What one of two relay processes of a host learns of a peer, the other keeps to; also when the one that was to probe is killed. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { until } from '../support/wait.ts';

const sink = await ScriptedSink.start({ host: '127.0.0.1' });
const dns = await DnsServer.start({
  'mx1.test': { A: ['127.0.0.1'] },
  'one.test': { MX: [[10, 'mx1.test']] },
});
const relay = new RelayFixture({
  accept_processes: 2,
  delivery: { mx_port: sink.port },
  dns: { servers: [dns.address] },
  retry: { initial_delay_ms: 500, max_delay_ms: 500, max_attempts: 1000 },
  adaptive: { first_probe_ms: 6000 },
});
after(async () => {
  await relay.destroy();
  await Promise.all([sink.stop(), dns.stop()]);
});

const files = ['adaptive.jsonl', join('process-1', 'adaptive.jsonl')].map((name) =>
  join(relay.dataDir, name),
);
const learned = (): string[] =>
  files.map((file) => (existsSync(file) ? (readFileSync(file, 'utf8').split('\n', 1)[0] ?? '') : ''));

async function submit(count: number, name: string): Promise<void> {
  for (let i = 0; i < count; i++) {
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    await talk.accepted({ from: 'a@x.test', to: `${name}${i}@one.test` });
    await talk.quit();
  }
}

test('a refusal of one process pauses both, one message probes for both, and then all goes', {
  timeout: 120_000,
}, async () => {
  sink.options.faults = { mail: '=421 4.7.28 unusual rate of mail from your address' };
  await relay.start();
  await submit(1, 'first');
  await until(() => learned().every((line) => line.includes('"probing"')), 'both know', 20_000);
  const [one, other] = learned().map((line) => JSON.parse(line));
  assert.equal(one.rate.epoch, other.rate.epoch);
  assert.equal(one.reply, other.reply);
  // The sockets of the host lead to both processes; nothing goes while they wait.
  delete sink.options.faults;
  const before = sink.commands.filter((line) => line.includes('MAIL')).length;
  await submit(12, 'r');
  const pausedMs = Date.parse(
    String(
      (await relay.events.one('cut', ({ type, cause }) => type === 'limit_changed' && cause === 'rate_limit'))
        .closed_until,
    ),
  );
  await sleep(Math.max(0, pausedMs - Date.now() - 1000));
  assert.equal(sink.commands.filter((line) => line.includes('MAIL')).length, before, 'both pause');
  await until(() => learned().every((line) => line.includes('"climbing"')), 'both go on', 40_000);
  await until(() => sink.messages.length >= 1, 'a message was taken', 20_000);
});
