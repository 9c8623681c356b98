/** Fifty domains on two hosts: a relay sends their mail over a few connections, and that of a domain with MTA-STS over its own. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { WebHost } from '../support/web-host.ts';

const skip = lacksOpenssl || (await WebHost.lacks());
const ENFORCED = 'd7.test';
const POLICY =
  'version: STSv1\r\nmode: enforce\r\nmx: mx1.site.test\r\nmx: mx2.site.test\r\nmax_age: 86400\r\n';
const DOMAINS = Array.from({ length: 50 }, (_, i) => `d${i}.test`);
const MX: [number, string][] = [
  [10, 'mx1.site.test'],
  [10, 'mx2.site.test'],
];
const EACH = 2;
const PER_CONNECTION = 20;

test('few connections for fifty domains, none with more messages than it may carry, and one of its own for MTA-STS', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const tls = (name: string) => {
    const { cert, key } = authority.issue([name]);
    return { cert, key };
  };
  const first = await ScriptedSink.start({ host: '127.0.0.1', tls: tls('mx1.site.test') });
  const { port } = first;
  const second = await ScriptedSink.start({ host: '127.0.0.2', port, tls: tls('mx2.site.test') });
  const sinks = [first, second];
  const web = await WebHost.start(authority.issue([`mta-sts.${ENFORCED}`]), (_, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' }).end(POLICY);
  });
  const dns = await DnsServer.start({
    ...Object.fromEntries(DOMAINS.map((domain) => [domain, { MX }])),
    'mx1.site.test': { A: ['127.0.0.1'] },
    'mx2.site.test': { A: ['127.0.0.2'] },
    [`_mta-sts.${ENFORCED}`]: { TXT: ['v=STSv1; id=1'] },
    [`mta-sts.${ENFORCED}`]: { A: [web.address] },
  });
  const relay = new RelayFixture(
    {
      delivery: {
        mx_port: port,
        ip_family: 'ipv4',
        mta_sts: { enabled: true },
        // Nobody has TLS but the domain whose policy wants it.
        tls: { mode: 'none', ca_file: authority.caFile },
      },
      delivery_threads: 1,
      dns: { servers: [dns.address] },
      shaping: { overrides_file: 'own.json' },
    },
    { env: { NODE_EXTRA_CA_CERTS: authority.caFile } },
  );
  t.after(async () => {
    await relay.destroy();
    await Promise.all([...sinks, web, dns].map((one) => one.stop()));
  });
  writeFileSync(
    join(relay.dataDir, 'own.json'),
    JSON.stringify({ default: { max_connections: 2, messages_per_connection: PER_CONNECTION } }),
  );
  await relay.start();
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  for (const domain of DOMAINS)
    for (let i = 0; i < EACH; i++) await talk.accepted({ to: [`u${i}@${domain}`] });
  await talk.quit();
  for (const domain of DOMAINS)
    for (let i = 0; i < EACH; i++) {
      const { tls_verified } = await fate(relay.events, `u${i}@${domain}`, 'delivered');
      assert.equal(tls_verified ?? null, domain === ENFORCED ? true : null, domain);
    }
  const total = sinks.reduce((sum, { connections }) => sum + connections, 0);
  assert.ok(total <= 20, `${total} connections`);
  let ofMany = 0;
  for (const { messages, handshakes, violations } of sinks) {
    assert.deepEqual(violations, []);
    assert.equal(handshakes.length <= EACH, true);
    for (const carried of Map.groupBy(messages, ({ connection }) => connection).values()) {
      const domains = new Set(carried.map(({ recipients }) => recipients[0]?.address.split('@')[1]));
      assert.ok(carried.length <= PER_CONNECTION);
      if (domains.has(ENFORCED)) assert.equal(domains.size, 1);
      else if (domains.size > 1) ofMany++;
    }
  }
  assert.ok(ofMany > 0, 'a connection serves several domains');
  assert.ok(sinks.some(({ handshakes }) => handshakes.length > 0));
});
