/** Hostile clients of every kind beside good ones: the good ones are served, the hostile ones are banned. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hostile } from '../../bench/lib/hostile.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

test('garbage, slow octets, early talkers and guesses beside good clients: not one good message is refused', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({
    relay_networks: ['127.0.0.1'],
    delivery: { enabled: false },
    policy: {
      connections: { enabled: true, max_per_ip: 10, exempt: ['127.0.0.1'] },
      bans: { mode: 'reject', max_failures: { protocol: 20, unknown_user: 20 } },
      early_talker: { enabled: true, greet_delay_ms: 100 },
      tarpit: { enabled: true, delay_ms: 50, max_delay_ms: 500 },
    },
  });
  t.after(() => relay.destroy());
  const hostile = new Hostile({ port: relay.port, perSecond: 200, addresses: 30, stayMs: 2000 });
  t.after(() => hostile.stop());
  let accepted = 0;
  const good = async (): Promise<void> => {
    const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
    for (let i = 0; i < 40; i++) {
      await talk.accepted({ to: 'a@good.net' });
      accepted++;
      await new Promise((done) => setTimeout(done, 50));
    }
    await talk.quit();
  };
  await Promise.all(Array.from({ length: 10 }, good));
  hostile.stop();
  assert.equal(accepted, 400);
  assert.ok(hostile.connections > 200, `${hostile.connections} hostile connections`);
  assert.ok(hostile.turnedAway > hostile.connections / 4, `${hostile.turnedAway} of ${hostile.connections}`);
  const rules = new Set(relay.log.filter((line) => line.event === 'policy.hit').map((line) => line.rule));
  for (const rule of ['ban', 'early_talker', 'tarpit'])
    assert.ok(rules.has(rule), `${rule} was hit: ${[...rules]}`);
  const kinds = new Set(relay.log.filter((line) => line.event === 'policy.ban').map((line) => line.kind));
  assert.deepEqual([...kinds].sort(), ['protocol', 'unknown_user']);
  assert.equal((await relay.stop()).code, 0);
});
