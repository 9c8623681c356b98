import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { Bans } from '../../src/policy/bans.ts';
import { policyMemoryBytes, policySizes } from '../../src/policy/host-memory.ts';
import { configOf, policyMemory } from '../session/dialog-fixture.ts';

function load(policy: object): { problems: string[]; warnings: string[] } {
  const read = (): string => JSON.stringify({ hostname: 'mx1.test', policy });
  try {
    return { problems: [], warnings: loadConfig('/etc/relay.json', {}, { read }).warnings };
  } catch (error) {
    const { problems } = error as { problems?: string[] };
    return { problems: problems ?? assert.fail(String(error)), warnings: [] };
  }
}

test('what a config cannot mean is named with its key', () => {
  for (const [policy, message] of [
    [{ dnsbl: { exempt: ['nonsense'] } }, /policy\.dnsbl\.exempt\[0\]: must be a network, a domain/],
    [{ dnsbl: { enabled: true } }, /policy\.dnsbl\.zones: needs at least one list/],
    [{ dnsbl: { zones: [{ zone: 'a.b', answers: ['127.0.0.2-x'] }] } }, /answers\[0\]: must be an address/],
    [{ dnsbl: { zones: [{ zone: 'a.b', answers: ['192.0.2.1'] }] } }, /answers\[0\]: must lie within 127/],
    [{ dnsbl: { zones: [{ zone: 'a.b', answers: ['0.0.0.0/0'] }] } }, /answers\[0\]: must lie within 127/],
    [
      { dnsbl: { zones: [{ zone: 'a.b', answers: ['127.0.0.2-128.0.0.1'] }] } },
      /answers\[0\]: must lie within/,
    ],
    [
      { rates: { limits: [{ count: 'connections', per: 'user', limit: 1 }] } },
      /limits\[0\]\.per: connections cannot/,
    ],
    [
      { rates: { limits: [{ count: 'commands', per: 'sender_domain', limit: 1 }] } },
      /commands cannot be counted/,
    ],
    [{ bans: { duration_ms: 5000, max_duration_ms: 2000 } }, /bans\.duration_ms: must not exceed/],
    [{ tarpit: { delay_ms: 5000, max_delay_ms: 2000 } }, /tarpit\.delay_ms: must not exceed/],
    [{ greylist: { delay_ms: 5000, retry_window_ms: 2000 } }, /greylist\.delay_ms: must be less/],
    [{ proxy_protocol: { networks: ['host'] } }, /proxy_protocol\.networks\[0\]: must be a network/],
    [{ xclient_networks: ['10.0.0.0/33'] }, /xclient_networks\[0\]: must be a network/],
    [{ xforward_networks: ['*'] }, /xforward_networks\[0\]: must be a network/],
  ] as const)
    assert.match(load(policy).problems.join('\n'), message);
  assert.match(load({ rates: { enabled: true, limits: [] } }).warnings.join(), /rates\.limits: is empty/);
  assert.match(
    load({ shares: { client_percent: 60 } }).warnings.join(),
    /shares\.network_percent: is less than/,
  );
  assert.match(
    load({ greylist: { enabled: true, mode: 'reject' } }).warnings.join(),
    /greylist\.mode: reject/,
  );
  const exempt = [
    '10.0.0.0/8',
    '2001:db8::1',
    'example.com',
    '.example.com',
    'relay_networks',
    'authenticated',
  ];
  assert.deepEqual(load({ helo: { exempt } }), { problems: [], warnings: [] });
});

test('max_counters, bans.max_entries and greylist.max_entries say how much memory there is', () => {
  const bytes = (policy: object): number => policyMemoryBytes(policySizes(configOf({ policy }), 1));
  const least = bytes({ max_counters: 1024, bans: { max_entries: 64 }, greylist: { max_entries: 1024 } });
  assert.ok(
    bytes({ max_counters: 1_048_576, bans: { max_entries: 64 }, greylist: { max_entries: 1024 } }) >
      least + 16e6,
  );
  assert.ok(
    bytes({ max_counters: 1024, bans: { max_entries: 65_536 }, greylist: { max_entries: 1024 } }) >
      least + 3e6,
  );
  assert.ok(
    bytes({ max_counters: 1024, bans: { max_entries: 64 }, greylist: { max_entries: 1_048_576 } }) >
      least + 16e6,
  );
});

test('failures are forgiven within window_ms, each ban grows, and forget_ms starts over', async () => {
  const bans = {
    max_failures: { auth: 2 },
    window_ms: 60_000,
    duration_ms: 10_000,
    growth: 3,
    forget_ms: 100_000,
  };
  const config = configOf({ policy: { bans } });
  const memory = policyMemory(config);
  const book = new Bans(memory.bans, memory.counters, config.policy.bans);
  const ip = [0, 0, 0xffff, 0xc0000201] as const;
  let nowMs = 1_000_000;
  const fail = () => book.failure(ip, 'auth', nowMs);
  assert.deepEqual([fail(), fail()], [null, null]);
  nowMs += 30_000; // half of the window: one of the two is forgotten
  assert.equal(fail(), null);
  const first = fail();
  assert.deepEqual(first, {
    network: '192.0.2.1',
    kind: 'auth',
    sinceMs: nowMs,
    untilMs: nowMs + 10_000,
    times: 1,
  });
  assert.equal(fail(), null, 'one ban at a time');
  nowMs += 11_000;
  assert.equal(book.find(ip, nowMs), null);
  const second = await fail();
  assert.deepEqual([second?.times, (second?.untilMs ?? 0) - nowMs], [2, 30_000]);
  nowMs += 30_000 + 100_001;
  fail();
  fail();
  assert.equal((await fail())?.times, 1);
});
