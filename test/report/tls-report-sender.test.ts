/** TLS reports on their way (RFC 8460 §4.1, §5): when, to whom, once, and what becomes of those nobody takes. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { type AddressInfo, createServer as createPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { silentLog } from '../../src/base/log.ts';
import { checkTlsReports } from '../../src/config/dane-rules.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { makeSelfSigned } from '../../src/native.ts';
import { postReport } from '../../src/report/tls-report-post.ts';
import { TlsReportSender } from '../../src/report/tls-report-sender.ts';
import { type TlsReport, TlsReports } from '../../src/report/tls-rpt.ts';
import { until } from '../support/wait.ts';

const root = mkdtempSync(join(tmpdir(), 'tls-send-'));
after(() => rmSync(root, { recursive: true }));
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOON = Date.UTC(2026, 0, 15, 12);
const MIDNIGHT = Date.UTC(2026, 0, 16);

interface Sent {
  to: string;
  message?: string;
  report?: TlsReport;
}
const senders: TlsReportSender[] = [];
after(() => {
  for (const one of senders) one.stop();
});

/** A host with counts of two processes about one.test, and a third domain's. */
class Host {
  nowMs = NOON;
  readonly dir = mkdtempSync(join(root, 'host-'));
  readonly sent: Sent[] = [];
  readonly told: string[] = [];
  /** What is not taken, and why. */
  refuses: RegExp | null = null;
  records: Record<string, string[] | null> = {
    '_smtp._tls.one.test': ['v=TLSRPTv1; rua=mailto:tls@one.test,https://one.test/rpt'],
  };
  readonly config: Config;

  constructor(rules: object = {}) {
    const tls_rpt = {
      enabled: true,
      send: true,
      contact_info: 'tls@relay.test',
      write_interval_ms: 60_000,
      ...rules,
    };
    this.config = configSchema.parse({ hostname: 'relay.test', node_id: 'node_a.1', delivery: { tls_rpt } });
  }

  async count(domain: string, process = 0, result: 'success' | 'tlsa-invalid' = 'success'): Promise<void> {
    const { dir, config } = this;
    const txt = async (name: string) => this.records[name] ?? [];
    const reports = new TlsReports({ dir, process, config, log: silentLog, txt, now: () => this.nowMs });
    const policy = { domain, type: 'tlsa' as const, strings: ['3 1 1 ab'], mx: [`mx.${domain}`] };
    reports.take([
      { policy, result, mx: result === 'success' ? `mx.${domain}` : '', address: '192.0.2.1', detail: '' },
    ]);
    await reports.write();
    await reports.close();
  }

  /** The sender of a relay that has just started. */
  sender(): TlsReportSender {
    const take = (to: string, one: Sent): void => {
      if (this.refuses?.test(to)) throw new Error('nobody there');
      this.sent.push(one);
    };
    const tell = (event: string, fields?: Record<string, unknown>): void =>
      void this.told.push(`${event} ${fields?.domain} ${fields?.to ?? ''}`.trim());
    const sender = new TlsReportSender({
      dir: this.dir,
      config: () => this.config,
      log: { ...silentLog, warn: tell, info: tell },
      txt: async (name) => (name in this.records ? (this.records[name] as string[] | null) : []),
      mail: async ({ address, domain }, message) =>
        take(address, { to: `${address} by ${domain}`, message: message.toString() }),
      post: async (url, report) =>
        take(url, { to: url, report: JSON.parse(gunzipSync(report).toString()) as TlsReport }),
      now: () => this.nowMs,
    });
    senders.push(sender);
    return sender;
  }

  places(): string[] {
    return this.sent.map(({ to }) => to);
  }
}

/** Header fields of a message, unfolded, and its parts. */
function read(message: string): { fields: Map<string, string>; parts: string[]; report: TlsReport } {
  const end = message.indexOf('\r\n\r\n');
  const lines = message
    .slice(0, end)
    .replace(/\r\n[ \t]+/g, ' ')
    .split('\r\n');
  const fields = new Map(lines.map((line) => [line.split(':')[0] as string, line.replace(/^[^:]*: /, '')]));
  const boundary =
    /boundary="([^"]+)"/.exec(fields.get('Content-Type') ?? '')?.[1] ?? assert.fail('no boundary');
  const parts = message.slice(end).split(`--${boundary}`).slice(1, -1);
  const base64 = parts[1]?.split('\r\n\r\n')[1] ?? assert.fail('no report');
  return {
    fields,
    parts,
    report: JSON.parse(gunzipSync(Buffer.from(base64, 'base64')).toString()) as TlsReport,
  };
}

test('a day that is over is one report, of all processes, to each place the domain names', async () => {
  const host = new Host({
    max_send_delay_ms: 0,
    organization_name: 'Example',
    from_address: 'tls@sender.test',
  });
  await host.count('one.test', 0);
  await host.count('one.test', 1, 'tlsa-invalid');
  await host.count('one.test', 1);
  await host.count('silent.test');
  const sender = host.sender();
  await sender.round();
  host.nowMs = MIDNIGHT + 119_000;
  await sender.round();
  assert.equal(host.sent.length, 0, 'the processes may not have written the last of the day yet');
  host.nowMs = MIDNIGHT + 120_000;
  await sender.round();
  assert.deepEqual(host.places(), ['tls@one.test by one.test', 'https://one.test/rpt']);
  const [mail, post] = host.sent;
  const message = mail?.message ?? '';
  const { fields, parts, report } = read(message);
  assert.deepEqual(report, post?.report);
  assert.deepEqual(report, {
    'organization-name': 'Example',
    'date-range': { 'start-datetime': '2026-01-15T00:00:00Z', 'end-datetime': '2026-01-15T23:59:59Z' },
    'contact-info': 'tls@relay.test',
    'report-id': '2026-01-15.one.test.node-a-1@relay.test',
    policies: [
      {
        policy: {
          'policy-type': 'tlsa',
          'policy-string': ['3 1 1 ab'],
          'policy-domain': 'one.test',
          'mx-host': ['mx.one.test'],
        },
        summary: { 'total-successful-session-count': 2, 'total-failure-session-count': 1 },
        'failure-details': [
          { 'result-type': 'tlsa-invalid', 'receiving-ip': '192.0.2.1', 'failed-session-count': 1 },
        ],
      },
    ],
  });
  assert.equal(fields.get('From'), '<tls@sender.test>');
  assert.equal(fields.get('To'), '<tls@one.test>');
  assert.equal(fields.get('TLS-Report-Domain'), 'one.test');
  assert.equal(fields.get('TLS-Report-Submitter'), 'sender.test');
  assert.equal(fields.get('Date'), 'Fri, 16 Jan 2026 00:02:00 +0000');
  assert.equal(
    fields.get('Subject'),
    'Report Domain: one.test Submitter: sender.test Report-ID: <2026-01-15.one.test.node-a-1@relay.test>',
  );
  assert.match(fields.get('Content-Type') ?? '', /^multipart\/report; report-type="tlsrpt"; boundary=/);
  assert.match(fields.get('Message-ID') ?? '', /^<[^@>]+@relay\.test>$/);
  assert.match(parts[0] ?? '', /^\r\nContent-Type: text\/plain; charset="us-ascii"\r\n/);
  assert.match(
    parts[1] ?? '',
    /^\r\nContent-Type: application\/tlsrpt\+gzip\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\tfilename="sender\.test!one\.test!1768435200!1768521599\.json\.gz"\r\n/,
  );
  assert.ok(message.split('\r\n').every((line) => line.length <= 998 && !line.includes('\n')));
  await sender.round();
  await host.sender().round();
  assert.equal(host.sent.length, 2, 'once, also after a restart');
  assert.deepEqual(host.told, ['tls_rpt.sent one.test tls@one.test', 'tls_rpt.sent one.test https://one.test/rpt'].map((line) => line.replace(' tls@', ' mailto:tls@'))); // biome-ignore format: one line
});

test('reports leave at times of their own within the delay, the same after a restart', async () => {
  const host = new Host();
  assert.equal(host.config.delivery.tls_rpt.max_send_delay_ms, 4 * HOUR, 'RFC 8460 §4.1');
  const domains = Array.from({ length: 40 }, (_, i) => `d${i}.test`);
  for (const domain of domains) {
    host.records[`_smtp._tls.${domain}`] = [`v=TLSRPTv1; rua=mailto:tls@${domain}`];
    await host.count(domain);
  }
  const at: number[] = [];
  for (let hour = 0; hour <= 4; hour++) {
    host.nowMs = MIDNIGHT + 120_000 + hour * HOUR;
    await host.sender().round();
    at.push(host.sent.length);
  }
  assert.equal(at[4], 40);
  assert.ok((at[0] as number) < 5 && (at[2] as number) > 5 && (at[2] as number) < 35, at.join());
  assert.equal(new Set(host.places()).size, 40);
});

test('what is not taken is tried again each hour, alone, for a day', async () => {
  const host = new Host({ max_send_delay_ms: 0 });
  await host.count('one.test');
  host.refuses = /^https/;
  host.nowMs = MIDNIGHT + HOUR;
  await host.sender().round();
  assert.deepEqual(host.places(), ['tls@one.test by one.test']);
  await host.sender().round();
  host.nowMs += HOUR;
  await host.sender().round();
  const failures = (): number => host.told.filter((line) => line.startsWith('tls_rpt.not_sent')).length;
  assert.equal(failures(), 2, 'not again at once');
  host.refuses = null;
  host.nowMs += HOUR;
  await host.sender().round();
  assert.deepEqual(host.places(), ['tls@one.test by one.test', 'https://one.test/rpt']);
  const lost = new Host({ max_send_delay_ms: 0 });
  await lost.count('one.test');
  lost.refuses = /./;
  const sender = lost.sender();
  for (let hour = 1; hour <= 40; hour++) {
    lost.nowMs = MIDNIGHT + hour * HOUR;
    await sender.round();
  }
  assert.equal(lost.told.length, 2 * 24, 'two places, 24 times');
});

test('places: as DNS has them now, or had them; nothing odd among them', async () => {
  const host = new Host({ max_send_delay_ms: 0 });
  const rua = (text: string): string[] => [`v=TLSRPTv1; rua=${text}`];
  host.records = {
    '_smtp._tls.gone.test': rua('mailto:a@gone.test'),
    '_smtp._tls.down.test': rua('mailto:a@down.test'),
  };
  for (const domain of ['gone.test', 'down.test', 'odd.test', 'many.test', 'none.test'])
    await host.count(domain);
  host.records = {
    '_smtp._tls.down.test': null,
    '_smtp._tls.odd.test': rua('mailto:a%40odd.test?subject=x,mailto:nobody,mailto:a%0d%0aBcc:%20x@odd.test,mailto:%ff@odd.test,mailto:b@odd.test'), // biome-ignore format: one line
    '_smtp._tls.many.test': rua(Array.from({ length: 20 }, (_, i) => `mailto:a${i}@many.test`).join()),
  };
  host.nowMs = MIDNIGHT + HOUR;
  await host.sender().round();
  const places = host.places().map((place) => place.split(' ')[0]);
  assert.deepEqual(places.filter((one) => !one?.endsWith('many.test')).sort(), [
    'a@down.test',
    'a@odd.test',
    'b@odd.test',
  ]);
  assert.equal(places.length, 3 + 8);
});

test('nothing is sent while it is off, of a day that is not over, or of one long past', async () => {
  const off = new Host({ max_send_delay_ms: 0, send: false });
  const host = new Host({ max_send_delay_ms: 0 });
  for (const one of [off, host]) {
    await one.count('one.test');
    one.nowMs = MIDNIGHT + HOUR;
  }
  await off.sender().round();
  assert.equal(off.sent.length, 0);
  host.nowMs = MIDNIGHT - 1000;
  await host.sender().round();
  host.nowMs = MIDNIGHT + 4 * DAY;
  await host.sender().round();
  assert.equal(host.sent.length, 0);
  host.nowMs = MIDNIGHT + 2 * DAY;
  await host.sender().round();
  assert.equal(host.sent.length, 2, 'the relay was down');
});

test('a damaged report of one process is told of, and that of the other is sent', async () => {
  const host = new Host({ max_send_delay_ms: 0 });
  await host.count('one.test', 0);
  await host.count('one.test', 1);
  writeFileSync(join(host.dir, '2026-01-15', 'one.test.json'), '{"policies":');
  mkdirSync(join(host.dir, 'notes'));
  host.nowMs = MIDNIGHT + HOUR;
  await host.sender().round();
  assert.equal(host.told[0], 'tls_rpt.damaged one.test');
  const post = host.sent.find(({ report }) => report !== undefined);
  assert.equal(post?.report?.policies[0]?.summary['total-successful-session-count'], 1);
  assert.match(readFileSync(join(host.dir, '2026-01-15', 'one.test.sent'), 'utf8'), /"done":true/);
});

test('rounds come by themselves, and end with stop', { timeout: 60_000 }, async () => {
  const host = new Host({ max_send_delay_ms: 0, write_interval_ms: 100 });
  await host.count('one.test');
  host.nowMs = MIDNIGHT + HOUR;
  const sender = host.sender();
  await until(() => host.sent.length === 2, 'both places have it');
  sender.stop();
});

test('POST: the type and body of the RFC; only 2xx is taken; bounded in time; cut by a stop', {
  timeout: 60_000,
}, async (t) => {
  const identity = makeSelfSigned(['one.test'], 5, 'ecdsa');
  const seen: string[] = [];
  let status = 201;
  const web = createServer({ cert: identity.certificate, key: identity.key }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { host, 'content-type': type } = request.headers;
      seen.push(`${request.method} ${host}${request.url} ${type} ${Buffer.concat(parts)}`);
      if (status !== 0)
        response.writeHead(status, { location: 'https://one.test/else' }).end('x'.repeat(1e6));
    });
  });
  await new Promise<void>((done) => web.listen(0, '127.0.0.1', done));
  const hung = createPlain();
  await new Promise<void>((done) => hung.listen(0, '127.0.0.1', done));
  t.after(() => {
    web.close();
    web.closeAllConnections();
    hung.close();
  });
  const { port } = web.address() as AddressInfo;
  const url = `https://one.test:${port}/rpt?x=1`;
  const stop = new AbortController();
  const asked: string[] = [];
  const addressOf = async (host: string): Promise<string> => {
    asked.push(host);
    return '127.0.0.1';
  };
  const post = (to = url, timeoutMs = 10_000, ca: string | undefined = identity.certificate) =>
    postReport(to, Buffer.from('zip'), {
      timeoutMs,
      addressOf,
      signal: stop.signal,
      ...(ca === undefined ? {} : { ca }),
    });
  await post();
  assert.deepEqual(seen, [`POST one.test:${port}/rpt?x=1 application/tlsrpt+gzip zip`]);
  assert.deepEqual(asked, ['one.test']);
  for (status of [302, 404, 500]) await assert.rejects(post(), new RegExp(`answered ${status}`));
  await assert.rejects(postReport(url, Buffer.from('zip'), { timeoutMs: 10_000, addressOf, signal: stop.signal }), /self-signed/); // biome-ignore format: one line
  await assert.rejects(post(`http://one.test:${port}/`), /not an https address/);
  await assert.rejects(
    post(`https://one.test:${(hung.address() as AddressInfo).port}/`, 200),
    /aborted|timeout/i,
  );
  status = 0;
  const cut = post();
  await until(() => seen.length === 5, 'the request is there');
  stop.abort(new Error('the relay stops'));
  await assert.rejects(cut, /abort|stops/);
});

test('send needs enabled, and somebody to ask', () => {
  const problems = (tls_rpt: object): string[] => {
    const found: string[] = [];
    checkTlsReports(configSchema.parse({ delivery: { tls_rpt } }), (path) => void found.push(path.join('.')));
    return found;
  };
  const whole = { enabled: true, send: true, contact_info: 'tls@relay.test' };
  assert.deepEqual(problems(whole), []);
  assert.deepEqual(problems({ ...whole, from_address: 'a@b.test' }), []);
  assert.deepEqual(problems({ ...whole, from_address: 'a <a@b.test>' }), ['delivery.tls_rpt.from_address']);
  assert.deepEqual(problems({ ...whole, enabled: false }), ['delivery.tls_rpt.send']);
  assert.deepEqual(problems({ enabled: true, send: true }), ['delivery.tls_rpt.send']);
  assert.deepEqual(problems({ send: false }), []);
});
