/** `shaping suggest`: a relay of two processes that sends to hosts that look like those of one, with what it sent there. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

test('sites below one domain are named with their traffic of all processes; with the lines in a file they are one', {
  timeout: 60_000,
}, async (t) => {
  const sink = await ScriptedSink.start({ maxMessages: 3, atMaxMessages: 'close' });
  const dns = await DnsServer.start({
    'one.test': { MX: [[10, 'mx-one.hosting.example']] },
    'two.test': { MX: [[10, 'mx-two.hosting.example']] },
    'mx-one.hosting.example': { A: ['127.0.0.1'] },
    'mx-two.hosting.example': { A: ['127.0.0.1'] },
  });
  const relay = new RelayFixture({
    accept_processes: 2,
    delivery: { mx_port: sink.port, ip_family: 'ipv4' },
    dns: { servers: [dns.address] },
    shaping: { overrides_file: 'own.json' },
  });
  t.after(async () => {
    await relay.destroy();
    await Promise.all([sink.stop(), dns.stop()]);
  });
  const own = join(relay.dataDir, 'own.json');
  writeFileSync(own, '{}');
  await relay.start();
  const submit = async (to: string): Promise<void> => {
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    await talk.accepted({ to: [to, `b-${to}`] });
    await talk.quit();
  };
  for (let i = 0; i < 12; i++) await submit(`r${i}@${i % 3 === 0 ? 'two' : 'one'}.test`);
  await sink.received(12);
  const suggest = async () => JSON.parse((await relay.command('shaping', 'suggest', '--json')).stdout);
  await eventually(async () => {
    const { alike, relay_running } = await suggest();
    assert.equal(relay_running, true);
    assert.deepEqual(
      alike.map(({ by, value, sites }: { by: string; value: string; sites: Record<string, unknown>[] }) => [
        by,
        value,
        sites.map(({ site, messages, recipients }) => [site, messages, recipients]),
      ]),
      [
        [
          'mx_domain',
          'hosting.example',
          [
            ['mx:mx-one.hosting.example', 8, 16],
            ['mx:mx-two.hosting.example', 4, 8],
          ],
        ],
      ],
    );
    const [{ sites }] = alike;
    const opened = sites.reduce(
      (sum: number, { connections }: { connections: number }) => sum + connections,
      0,
    );
    assert.equal(opened, sink.connections);
  });
  const text = (await relay.command('shaping', 'suggest')).stdout;
  assert.match(text, /^Sites with MX hosts below hosting\.example$/m);
  const { overrides } = await suggest();
  writeFileSync(own, JSON.stringify(overrides));
  assert.equal((await relay.command('shaping', 'check')).code, 0);
  const { site } = JSON.parse((await relay.command('route', 'a@one.test', '--json')).stdout);
  assert.equal(site, 'hosting.example');
  await relay.stop();
  const stopped = await suggest();
  assert.deepEqual([stopped.relay_running, stopped.alike], [false, []]);
});
