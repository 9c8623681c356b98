/** A real relay of two processes that reports on TLS: counted today, sent the day after, by mail and by HTTPS. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { makeSelfSigned } from '../../src/native.ts';
import type { TlsReport } from '../../src/report/tls-rpt.ts';
import { makeKey } from '../native/dkim-rig.ts';
import { byMailauth } from '../services/dkim-verifiers.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { DnsServer } from '../support/dns-server.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const skip = lacksOpenssl;
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** What RFC 8460 §4.4 wants of a report, and nothing it does not know. */
function checkSchema(report: TlsReport): void {
  const keys = ['organization-name', 'date-range', 'contact-info', 'report-id', 'policies'];
  assert.deepEqual(Object.keys(report), keys);
  for (const key of ['organization-name', 'contact-info', 'report-id'] as const)
    assert.equal(typeof report[key], 'string');
  const { 'start-datetime': start, 'end-datetime': end } = report['date-range'];
  assert.equal(Date.parse(end) - Date.parse(start), 86_399_000);
  for (const { policy, summary, 'failure-details': details = [] } of report.policies) {
    assert.match(policy['policy-type'], /^(tlsa|sts|no-policy-found)$/);
    assert.equal(typeof policy['policy-domain'], 'string');
    for (const list of [policy['policy-string'], policy['mx-host']])
      assert.ok(list.every((one) => typeof one === 'string'));
    let failed = 0;
    for (const detail of details) {
      assert.match(
        detail['result-type'],
        /^(starttls-not-supported|certificate-(host-mismatch|expired|not-trusted)|validation-failure|tlsa-invalid|dnssec-invalid|dane-required|sts-(policy-fetch-error|policy-invalid|webpki-invalid))$/,
      );
      failed += detail['failed-session-count'];
    }
    assert.equal(failed, summary['total-failure-session-count']);
    assert.ok(Number.isInteger(summary['total-successful-session-count']));
  }
}

/** HTTPS that takes reports. */
async function startTaker(t: TestContext, authority: Authority) {
  const taken: { url: string; type: string; report: TlsReport }[] = [];
  const { cert, key } = authority.issue(['reports.test']);
  const server = createServer({ cert, key }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const report = JSON.parse(gunzipSync(Buffer.concat(parts)).toString()) as TlsReport;
      taken.push({
        url: `${request.method} ${request.url}`,
        type: `${request.headers['content-type']}`,
        report,
      });
      response.writeHead(201).end();
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  return { taken, port: (server.address() as AddressInfo).port };
}

async function submit(relay: RelayFixture, to: string): Promise<void> {
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: [to] });
  await talk.quit();
}

/** What was counted today was counted yesterday. */
async function nextDay(relay: RelayFixture): Promise<void> {
  await relay.stop();
  const dir = join(relay.dataDir, 'tls-rpt');
  const days = readdirSync(dir);
  assert.equal(days.length, 1, 'no midnight within the test');
  renameSync(join(dir, days[0] as string), join(dir, dayOf(Date.now() - 86_400_000)));
}

test('a report is sent once, by mail and HTTPS, despite what TLS there is', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const taker = await startTaker(t, authority);
  const own = makeSelfSigned(['mx.reports.test'], 5, 'ecdsa');
  const sink = await ScriptedSink.start({ tls: { cert: own.certificate, key: own.key } });
  t.after(() => sink.stop());
  const secure = true;
  const signing = makeKey('ed25519');
  const dns = await DnsServer.start({
    's._domainkey.relay.test': { TXT: [signing.record] },
    'one.test': { MX: [[10, 'mx.one.test']], secure },
    'mx.one.test': { A: ['127.0.0.1'], secure },
    '_smtp._tls.one.test': {
      TXT: [`v=TLSRPTv1; rua=mailto:tls@reports.test,https://reports.test:${taker.port}/v1`],
    },
    'reports.test': { MX: [[10, 'mx.reports.test']], A: ['127.0.0.1'], secure },
    'mx.reports.test': { A: ['127.0.0.1'], secure },
    [`_${sink.port}._tcp.mx.reports.test`]: { TLSA: [[3, 1, 1, 'ab'.repeat(32)]], secure },
  });
  t.after(() => dns.stop());
  const keyFile = join(authority.caFile, '../dkim.pem');
  writeFileSync(keyFile, signing.pem, { mode: 0o600 });
  const relay = await RelayFixture.start(
    {
      accept_processes: 2,
      dkim: { keys: [{ domain: 'relay.test', selector: 's', file: keyFile }] },
      delivery: {
        mx_port: sink.port,
        ip_family: 'ipv4',
        tls: { plain_retry: false },
        dane: { mode: 'opportunistic' },
        tls_rpt: { enabled: true, write_interval_ms: 100 },
      },
      dns: { servers: [dns.address], timeout_ms: 2000, tries: 1 },
      retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
    },
    { env: { NODE_EXTRA_CA_CERTS: authority.caFile } },
  );
  t.after(() => relay.destroy());
  for (let i = 0; i < 3; i++) {
    await submit(relay, `a${i}@one.test`);
    await fate(relay.events, `a${i}@one.test`, 'delivered');
  }
  await nextDay(relay);

  const tls_rpt = { send: true, contact_info: 'postmaster@relay.test', max_send_delay_ms: 0 };
  relay.configure({ delivery: { tls_rpt } });
  const before = sink.messages.length;
  await relay.start();
  const delivered = await fate(relay.events, 'tls@reports.test', 'delivered', 30_000);
  assert.deepEqual([delivered.sender, delivered.destination], ['', 'despite-tls:reports.test']);
  await submit(relay, 'b@reports.test');
  assert.equal(
    (await fate(relay.events, 'b@reports.test', 'deferred')).reason,
    'tls_failed',
    'all other mail is held to TLSA',
  );
  await eventually(() => assert.equal(taker.taken.length, 1));
  const { url, type, report } = taker.taken[0] as (typeof taker.taken)[0];
  assert.deepEqual([url, type], ['POST /v1', 'application/tlsrpt+gzip']);
  checkSchema(report);
  assert.equal(report['date-range']['start-datetime'].slice(0, 10), dayOf(Date.now() - 86_400_000));
  assert.equal(report['contact-info'], 'postmaster@relay.test');
  const [{ policy, summary } = assert.fail('no policy')] = report.policies;
  assert.deepEqual([policy['policy-type'], policy['policy-domain']], ['no-policy-found', 'one.test']);
  // Sessions, not messages: each process may have kept its connection for the next.
  assert.ok(summary['total-successful-session-count'] >= 1 && summary['total-successful-session-count'] <= 3);

  const message = sink.messages[before] ?? assert.fail('no mail');
  assert.equal(message.from, '');
  // RFC 8460 §3: reports have to be signed by the domain that they are from.
  assert.deepEqual(await byMailauth([message.content], { 's._domainkey.relay.test': signing.record }), [
    ['pass'],
  ]);
  const text = message.content.toString();
  assert.match(text, /^TLS-Report-Domain: one\.test\r$/m);
  assert.match(text, /^TLS-Report-Submitter: relay\.test\r$/m);
  assert.match(text, /^Content-Type: multipart\/report; report-type="tlsrpt";\r$/m);
  const base64 =
    /\tfilename="[^"]+\.json\.gz"\r\n\r\n([A-Za-z0-9+/=\r\n]+)--/.exec(text)?.[1] ?? assert.fail(text);
  assert.deepEqual(JSON.parse(gunzipSync(Buffer.from(base64, 'base64')).toString()), report);

  const marker = join(relay.dataDir, 'tls-rpt', dayOf(Date.now() - 86_400_000), 'one.test.sent');
  await eventually(() => assert.match(readFileSync(marker, 'utf8'), /"done":true/));
  await relay.stop();
  await relay.start();
  await submit(relay, 'c@one.test');
  await fate(relay.events, 'c@one.test', 'delivered');
  const today = join(relay.dataDir, 'tls-rpt', dayOf(Date.now()));
  await eventually(() =>
    assert.ok(existsSync(today) && readdirSync(today).some((name) => name.startsWith('one.test'))),
  );
  assert.equal(taker.taken.length, 1, 'nothing twice');
  assert.equal(sink.messages.filter(({ from }) => from === '').length, 1);
  const counted = readdirSync(today).filter((name) => name.startsWith('reports.test'));
  for (const name of counted) {
    const { policies } = JSON.parse(readFileSync(join(today, name), 'utf8')) as TlsReport;
    assert.ok(
      policies.every((one) => one.policy['policy-type'] === 'tlsa'),
      'the report’s own session is not counted',
    );
  }
});

test('no report goes to an address behind our walls', { skip, timeout: 60_000 }, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const taker = await startTaker(t, authority);
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const dns = await DnsServer.start({
    'one.test': { MX: [[10, 'mx.one.test']] },
    'mx.one.test': { A: ['127.0.0.1'] },
    'reports.test': { A: ['127.0.0.1'] },
    '_smtp._tls.one.test': {
      TXT: [
        `v=TLSRPTv1; rua=https://reports.test:${taker.port}/v1,https://[::1]:${taker.port}/,https://nowhere.test/`,
      ],
    },
  });
  t.after(() => dns.stop());
  const relay = await RelayFixture.start({
    delivery: { mx_port: sink.port, ip_family: 'ipv4', tls_rpt: { enabled: true, write_interval_ms: 100 } },
    dns: { servers: [dns.address], timeout_ms: 2000, tries: 1 },
  });
  t.after(() => relay.destroy());
  await submit(relay, 'a@one.test');
  await fate(relay.events, 'a@one.test', 'delivered');
  await nextDay(relay);
  const tls_rpt = { send: true, contact_info: 'a@relay.test', max_send_delay_ms: 0, send_timeout_ms: 5000 };
  relay.configure({ delivery: { refuse_loopback_mx: true, tls_rpt } });
  const refused = (what: RegExp) =>
    relay.logLine('tls_rpt.not_sent', ({ error }) => what.test((error as Error).message));
  const all = [refused(/^reports\.test has no public address/), refused(/^::1 has no public address/), refused(/^nowhere\.test has no address/)]; // biome-ignore format: one line
  await relay.start();
  await Promise.all(all);
  assert.equal(taker.taken.length, 0);
});
