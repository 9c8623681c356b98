import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { configSchema } from '../../src/config/schema.ts';
import { type TlsSession, tlsFailure } from '../../src/mail/tls-session.ts';
import { ruaOf, type TlsReport, TlsReports } from '../../src/report/tls-rpt.ts';

const root = mkdtempSync(join(tmpdir(), 'tls-rpt-'));
after(() => rmSync(root, { recursive: true }));
const NOON = Date.UTC(2026, 0, 15, 12);
const TXT: Record<string, string[]> = {
  '_smtp._tls.one.test': ['v=spf1 -all', 'v=TLSRPTv1; rua=mailto:tls@one.test,https://one.test/rpt;'],
};

let folders = 0;
function start(rules: object = {}, dir = join(root, `${folders++}`), process = 0) {
  const clock = { nowMs: NOON };
  const warned: string[] = [];
  const asked: string[] = [];
  const reports = new TlsReports({
    dir,
    process,
    config: configSchema.parse({
      hostname: 'relay.test',
      delivery: { tls_rpt: { enabled: true, ...rules } },
    }),
    log: { ...silentLog, warn: (event) => void warned.push(event) },
    txt: async (name) => {
      asked.push(name);
      return TXT[name] ?? [];
    },
    now: () => clock.nowMs,
  });
  const read = (file: string) => JSON.parse(readFileSync(join(dir, file), 'utf8')) as TlsReport;
  return { reports, clock, warned, asked, read, dir };
}

const policy = { domain: 'one.test', type: 'tlsa' as const, strings: ['3 1 1 ab'], mx: ['mx.one.test'] };
const session = (over: Partial<TlsSession> = {}): TlsSession => ({
  policy,
  result: 'success',
  mx: 'mx.one.test',
  address: '192.0.2.1',
  detail: '',
  ...over,
});
const failed = (detail = 'no match'): TlsSession => session({ result: 'tlsa-invalid', detail });
const sums = (report: TlsReport): [number, number][] =>
  report.policies.map(({ summary }) => [
    summary['total-successful-session-count'],
    summary['total-failure-session-count'],
  ]);

test('sessions are counted by policy and failure, in the format of RFC 8460', async () => {
  const { reports, read, asked } = start({ organization_name: 'Example', contact_info: 'tls@relay.test' });
  const none = { domain: 'one.test', type: 'no-policy-found' as const, strings: [], mx: [] };
  reports.take([session(), failed(), session()]);
  reports.take([failed(), failed('another'), session({ policy: none, result: 'starttls-not-supported' })]);
  await reports.write();
  const report = read('2026-01-15/one.test.json');
  assert.deepEqual(report, {
    'organization-name': 'Example',
    'date-range': { 'start-datetime': '2026-01-15T00:00:00Z', 'end-datetime': '2026-01-15T23:59:59Z' },
    'contact-info': 'tls@relay.test',
    'report-id': '2026-01-15-one.test-0@relay.test',
    policies: [
      {
        policy: {
          'policy-type': 'tlsa',
          'policy-string': ['3 1 1 ab'],
          'policy-domain': 'one.test',
          'mx-host': ['mx.one.test'],
        },
        summary: { 'total-successful-session-count': 2, 'total-failure-session-count': 3 },
        'failure-details': [
          {
            'result-type': 'tlsa-invalid',
            'receiving-mx-hostname': 'mx.one.test',
            'receiving-ip': '192.0.2.1',
            'failed-session-count': 2,
            'failure-reason-code': 'no match',
          },
          {
            'result-type': 'tlsa-invalid',
            'receiving-mx-hostname': 'mx.one.test',
            'receiving-ip': '192.0.2.1',
            'failed-session-count': 1,
            'failure-reason-code': 'another',
          },
        ],
      },
      {
        policy: {
          'policy-type': 'no-policy-found',
          'policy-string': [],
          'policy-domain': 'one.test',
          'mx-host': [],
        },
        summary: { 'total-successful-session-count': 0, 'total-failure-session-count': 1 },
        'failure-details': [
          {
            'result-type': 'starttls-not-supported',
            'receiving-mx-hostname': 'mx.one.test',
            'receiving-ip': '192.0.2.1',
            'failed-session-count': 1,
            'failure-reason-code': '',
          },
        ],
      },
    ],
    rua: ['mailto:tls@one.test', 'https://one.test/rpt'],
  });
  reports.take([session()]);
  await reports.close();
  assert.deepEqual(asked, ['_smtp._tls.one.test'], 'asked once a day');
  assert.deepEqual(sums(read('2026-01-15/one.test.json')), [[3, 3], [0, 1]]); // biome-ignore format: one line
});

test('each domain and day has its file; a restart goes on with that of its day', async () => {
  const first = start();
  first.reports.take([session(), failed()]);
  await first.reports.close();
  const second = start({}, first.dir);
  second.reports.take([session(), failed()]);
  second.clock.nowMs += 86_400_000;
  second.reports.take([session(), session({ policy: { ...policy, domain: 'two.test' } })]);
  await second.reports.close();
  assert.deepEqual(sums(second.read('2026-01-15/one.test.json')), [[2, 2]]);
  assert.equal(
    second.read('2026-01-15/one.test.json').policies[0]?.['failure-details'][0]?.['failed-session-count'],
    2,
  );
  assert.deepEqual(sums(second.read('2026-01-16/one.test.json')), [[1, 0]]);
  assert.deepEqual(readdirSync(join(first.dir, '2026-01-16')).sort(), ['one.test.json', 'two.test.json']);
  const other = start({}, first.dir, 1);
  other.reports.take([session()]);
  await other.reports.close();
  assert.deepEqual(sums(other.read('2026-01-15/one.test~1.json')), [[1, 0]]);
});

test('keep_days, max_domains and write_interval_ms bound what is kept', async () => {
  const { reports, warned, dir, read } = start({ keep_days: 2, max_domains: 1, write_interval_ms: 100 });
  for (const day of ['2026-01-10', '2026-01-13', '2026-01-14', 'notes']) mkdirSync(join(dir, day), { recursive: true }); // biome-ignore format: one line
  reports.take([session(), session({ policy: { ...policy, domain: 'two.test' } })]);
  reports.take([session({ policy: { ...policy, domain: '../../etc/x' } })]);
  await reports.write();
  assert.deepEqual(readdirSync(dir).sort(), ['2026-01-13', '2026-01-14', '2026-01-15', 'notes']);
  assert.deepEqual(readdirSync(join(dir, '2026-01-15')), ['one.test.json']);
  assert.ok(warned.includes('tls_rpt.not_counted'));
  for (let i = 0; i < 200; i++) {
    reports.take([failed(`reason ${i}`)]);
    reports.take([session({ policy: { ...policy, strings: [`3 1 1 ${i}`] } })]);
  }
  await reports.close();
  const report = read('2026-01-15/one.test.json');
  assert.equal(report.policies.length, 16);
  assert.equal(report.policies[0]?.['failure-details'].length, 16);
  const [good, bad] = sums(report).reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
  assert.deepEqual([good, bad], [201, 200], 'the sums know of all');
});

test('what others wrote is cut: a policy of many long lines, a host of many words', async () => {
  const { reports, read } = start();
  const long = 'x'.repeat(1000);
  const strings = Array.from({ length: 500 }, () => long);
  reports.take([
    session({ policy: { ...policy, strings, mx: strings }, result: 'tlsa-invalid', detail: long }),
  ]);
  await reports.close();
  const text = JSON.stringify(read('2026-01-15/one.test.json'));
  assert.ok(text.length < 8000, `${text.length} characters`);
});

test('a folder that cannot be written is told of, and nothing is lost meanwhile', async () => {
  const { reports, warned, dir, read } = start();
  writeFileSync(dir, 'in the way');
  reports.take([session()]);
  await reports.write();
  assert.ok(warned.includes('tls_rpt.not_written'));
  rmSync(dir);
  reports.take([session()]);
  await reports.close();
  assert.deepEqual(sums(read('2026-01-15/one.test.json')), [[2, 0]]);
});

test('a resolver that does not answer keeps nobody from stopping', { timeout: 60_000 }, async () => {
  const dir = join(root, `${folders++}`);
  const reports = new TlsReports({
    dir,
    process: 0,
    config: configSchema.parse({}),
    log: silentLog,
    txt: () => new Promise(() => {}),
    now: () => NOON,
  });
  reports.take([session(), session({ policy: { ...policy, domain: 'two.test' } })]);
  void reports.write();
  await reports.close();
  assert.deepEqual(readdirSync(join(dir, '2026-01-15')).sort(), ['one.test.json', 'two.test.json']);
});

test('rua: of the one record of TLS-RPT', () => {
  assert.deepEqual(ruaOf(['v=TLSRPTv1;rua=mailto:a@x.test']), ['mailto:a@x.test']);
  assert.deepEqual(ruaOf(['v=TLSRPTv1; rua = https://x.test/a , mailto:b@x.test ; x=1']), [
    'https://x.test/a',
    'mailto:b@x.test',
  ]);
  for (const records of [
    [],
    ['v=TLSRPTv2;rua=mailto:a@x'],
    ['v=TLSRPTv1;'],
    ['v=TLSRPTv1;rua=ftp://x'],
    ['v=TLSRPTv1;rua=mailto:a@x', 'v=TLSRPTv1;rua=mailto:b@x'],
  ])
    assert.deepEqual(ruaOf(records), []);
});

test('reasons of OpenSSL have their result type', () => {
  for (const [reason, type] of [
    ['no matching DANE TLSA records', 'tlsa-invalid'],
    ['certificate has expired', 'certificate-expired'],
    ['certificate is not yet valid', 'certificate-expired'],
    ['hostname mismatch', 'certificate-host-mismatch'],
    ['self-signed certificate in certificate chain', 'certificate-not-trusted'],
    ['unable to get local issuer certificate', 'certificate-not-trusted'],
    ['certificate revoked', 'certificate-not-trusted'],
    ['no handshake in time', 'validation-failure'],
  ] as const)
    assert.equal(tlsFailure(reason), type, reason);
});

test('reports are off unless enabled, and kept for 30 days', () => {
  assert.deepEqual(configSchema.parse({}).delivery.tls_rpt, {
    enabled: false,
    keep_days: 30,
    max_domains: 10_000,
    write_interval_ms: 60_000,
    send: false,
    max_send_delay_ms: 14_400_000,
    send_timeout_ms: 30_000,
  });
});
