/** Limits of sites in a relay: two domains of one provider, several delivery threads, a restart and a kill. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually, until } from '../support/wait.ts';

test('an hour’s messages are counted over all domains and threads, and through a restart; a reload changes limits', {
  timeout: 60_000,
}, async (t) => {
  const sink = await ScriptedSink.start();
  const mx = { MX: [[10, 'aspmx.l.google.com']] as [number, string][] };
  const dns = await DnsServer.start({
    'one.test': mx,
    'two.test': mx,
    'aspmx.l.google.com': { A: ['127.0.0.1'] },
  });
  const relay = new RelayFixture({
    delivery: { mx_port: sink.port, refuse_loopback_mx: false },
    delivery_threads: 2,
    dns: { servers: [dns.address] },
    shaping: { overrides_file: 'own.json' },
  });
  t.after(async () => {
    await relay.destroy();
    await Promise.all([sink.stop(), dns.stop()]);
  });
  const own = join(relay.dataDir, 'own.json');
  const limit = (google: object) =>
    writeFileSync(own, JSON.stringify({ providers: { google: { tls: 'opportunistic', ...google } } }));
  const submit = async (to: string): Promise<void> => {
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    await talk.accepted({ to: [to] });
    await talk.quit();
  };
  limit({ messages_per_h: 60 });
  await relay.start();
  await submit('a@one.test');
  await fate(relay.events, 'a@one.test', 'delivered');
  await submit('b@two.test');
  const waits = (): Promise<void> =>
    eventually(async () => {
      const [entry] = await relay.queueEntries('--destination', 'two.test');
      assert.ok(entry !== undefined && entry.state !== 'sending');
      assert.equal(entry.attempts, 0);
    });
  await waits();
  const file = join(relay.dataDir, 'limits.json');
  await until(() => existsSync(file) && readFileSync(file, 'utf8').includes('google'), 'counts in a file');
  await relay.kill();
  await relay.start();
  await submit('c@one.test');
  await waits();
  assert.equal(sink.messages.length, 1, 'a kill begins no new hour');
  limit({});
  await relay.reload();
  await relay.queue('flush', '--all');
  for (const to of ['b@two.test', 'c@one.test']) await fate(relay.events, to, 'delivered');
  assert.equal(sink.messages.length, 3);
});
