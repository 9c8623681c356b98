/** What a running relay finds out about its sources: an address that is not there, SPF that does not cover one; and the events of it. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ControlClient } from '../../src/control/client.ts';
import { DnsServer } from '../support/dns-server.ts';
import { RelayFixture } from '../support/relay-fixture.ts';

const names = {
  'a1.test': { A: ['127.0.0.2'] },
  '2.0.0.127.in-addr.arpa': { PTR: ['a1.test'] },
  'part.test': { TXT: ['v=spf1 ip4:127.0.0.0/30 -all'] },
};
const dns = await DnsServer.start({ ...names, 'bounce.test': { TXT: ['v=spf1 include:part.test -all'] } });
const relay = new RelayFixture({
  dns: { servers: [dns.address], negative_ttl_ms: 0, cache_max_ttl_ms: 0 },
  delivery: { ehlo_name: 'a1.test' },
  return_path: { domain: 'bounce.test', secrets_file: 'keys' },
  egress: {
    sources: [
      { name: 'a1', address: '127.0.0.2' },
      { name: 'far', address: '192.0.2.77' },
    ],
  },
});
writeFileSync(join(relay.dataDir, 'keys'), 'a secret of more than sixteen\n', { mode: 0o600 });
after(async () => {
  await relay.destroy();
  await dns.stop();
});

const change = (source: string, check: string, ok: boolean) =>
  relay.events.one(
    `${check} of ${source}`,
    (one) => one.type === 'source_state' && one.source === source && one.check === check && one.ok === ok,
  );

test('SPF and addresses of sources: listed, and told when they change', { timeout: 60_000 }, async () => {
  await relay.start();
  const missing = await change('far', 'address', false);
  assert.equal(missing.state, 'suspended');
  const uncovered = await change('far', 'spf', false);
  assert.match(String(uncovered.detail), /^192\.0\.2\.77 is not covered by bounce\.test \(fail\)$/);
  const client = await ControlClient.connect(join(relay.dataDir, 'control.sock'));
  const reports = (await client?.sources()) ?? [];
  client?.close();
  assert.deepEqual(
    reports.map(({ name, state }) => [name, state]),
    [
      ['a1', 'usable'],
      ['far', 'suspended'],
    ],
  );
  const a1 = reports[0];
  assert.deepEqual(
    a1?.findings.map(({ check, ok }) => [check, ok]),
    [
      ['address', true],
      ['ptr', true],
      ['ehlo_name', true],
      ['spf', true],
    ],
  );
  assert.equal(
    relay.events.events.filter(({ type, source }) => type === 'source_state' && source === 'a1').length,
    0,
  );

  // Its record is broken, and mended: each reload looks anew.
  dns.set('bounce.test', { TXT: ['v=spf1 include:gone.test -all'] });
  await relay.reload();
  const broken = await change('a1', 'spf', false);
  assert.match(String(broken.detail), /permerror: include:gone\.test of bounce\.test has no SPF record/);
  assert.equal(broken.state, 'usable');
  dns.set('bounce.test', { TXT: ['v=spf1 include:part.test -all'] });
  await relay.reload();
  await change('a1', 'spf', true);
});
