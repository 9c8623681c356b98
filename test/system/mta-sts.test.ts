/** A real relay, DNS and an HTTPS server that announce a policy: it holds over a restart, and without either of them. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeSelfSigned } from '../../src/native.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';
import { WebHost } from '../support/web-host.ts';

const skip = lacksOpenssl || (await WebHost.lacks());
const POLICY = 'version: STSv1\r\nmode: enforce\r\nmx: mx.one.test\r\nmax_age: 86400\r\n';

test('a policy holds over a restart; a damaged file is told of and fetched again', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const stranger = makeSelfSigned(['mx.one.test'], 5, 'ecdsa');
  const sink = await ScriptedSink.start({ tls: { cert: stranger.certificate, key: stranger.key } });
  t.after(() => sink.stop());
  const fetched: string[] = [];
  const web = await WebHost.start(authority.issue(['mta-sts.one.test']), (request, response) => {
    fetched.push(`${request.headers.host}${request.url}`);
    response.writeHead(200, { 'content-type': 'text/plain' }).end(POLICY);
  });
  t.after(() => web.stop());
  const record = { TXT: ['v=STSv1; id=1'] };
  const dns = await DnsServer.start({
    'one.test': { MX: [[10, 'mx.one.test']] },
    'mx.one.test': { A: ['127.0.0.1'] },
    '_mta-sts.one.test': record,
    'mta-sts.one.test': { A: [web.address] },
  });
  t.after(() => dns.stop());
  const settings = {
    accept_processes: 2,
    delivery: { mx_port: sink.port, ip_family: 'ipv4', mta_sts: { enabled: true } },
    dns: { servers: [dns.address], timeout_ms: 2000, tries: 1 },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
  };
  const relay = await RelayFixture.start(settings, { env: { NODE_EXTRA_CA_CERTS: authority.caFile } });
  t.after(() => relay.destroy());
  const folder = join(relay.dataDir, 'mta-sts');
  let count = 0;
  const submit = async (type: 'delivered' | 'deferred') => {
    const to = `a${count++}@one.test`;
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    await talk.accepted({ to: [to] });
    await talk.quit();
    return fate(relay.events, to, type);
  };

  assert.equal((await submit('deferred')).reason, 'tls_failed', 'the certificate is nobody’s');
  await eventually(() => assert.deepEqual(readdirSync(folder), ['one.test.json']));
  // Whichever process took it: the folder is the host's.
  assert.ok(
    fetched.length >= 1 && fetched.every((one) => one === 'mta-sts.one.test/.well-known/mta-sts.txt'),
  );

  await relay.stop();
  await web.stop();
  dns.remove('_mta-sts.one.test');
  await relay.start();
  assert.equal((await submit('deferred')).reason, 'tls_failed', 'kept, though nothing tells of it any more');

  await relay.kill();
  await relay.start();
  assert.equal((await submit('deferred')).reason, 'tls_failed', 'also when the relay was killed');

  await relay.stop();
  writeFileSync(join(folder, 'one.test.json'), '{"domain":"one.te');
  const damaged = relay.logLine('mta_sts.damaged', ({ path }) => String(path).endsWith('one.test.json'));
  await relay.start();
  assert.equal((await submit('delivered')).tls_verified, false, 'without the file nothing holds it');
  await damaged;
});
