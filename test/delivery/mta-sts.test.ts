import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { Dns, type DnsAnswer } from '../../src/delivery/names/dns.ts';
import { MtaSts } from '../../src/delivery/security/mta-sts.ts';
import { stsFetcher } from '../../src/delivery/security/sts-fetch.ts';
import { allowsExchanger, parsePolicy } from '../../src/delivery/security/sts-policy.ts';
import { makeSelfSigned } from '../../src/native.ts';
import { DnsServer } from '../support/dns-server.ts';
import { clientTls, fates, outcomeOf, startSender, startSink } from './harness.ts';

const ENFORCE = 'version: STSv1\r\nmode: enforce\r\nmx: mx.one.test\r\nmx: *.pool.test\r\nmax_age: 1000\r\n';

test('policies as RFC 8461 has them, and what is none', () => {
  assert.deepEqual(parsePolicy(ENFORCE), {
    mode: 'enforce',
    mx: ['mx.one.test', '*.pool.test'],
    maxAgeMs: 1e6,
  });
  assert.deepEqual(
    parsePolicy('version: STSv1\nmode: none\nmax_age: 9999999999\nfuture: x')?.maxAgeMs,
    31_557_600_000,
  );
  assert.equal(parsePolicy(`mode: testing\n${ENFORCE}`)?.mode, 'testing', 'the first counts');
  for (const bad of [
    '',
    'version: STSv2\nmode: none\nmax_age: 1',
    'version: STSv1\nmode: perhaps\nmx: a\nmax_age: 1',
    'version: STSv1\nmode: enforce\nmax_age: 1',
    'version: STSv1\nmode: enforce\nmx: a',
    'version: STSv1\nmode: enforce\nmx: a\nmax_age: -1',
    '<html>',
  ])
    assert.equal(parsePolicy(bad), null, bad);
});

test('a wildcard stands for one label', () => {
  const policy = parsePolicy(ENFORCE);
  assert.ok(policy !== null);
  for (const [name, allowed] of [
    ['MX.one.test', true],
    ['a.pool.test', true],
    ['a.b.pool.test', false],
    ['pool.test', false],
    ['mx.two.test', false],
  ] as const)
    assert.equal(allowsExchanger(policy, name), allowed, name);
});

test('a policy is fetched once for each id, kept while it lasts, and survives what hides it', async () => {
  let records: DnsAnswer<string> = { kind: 'found', records: ['v=STSv1; id=1;', 'v=spf1 -all'] };
  let text: string | null = ENFORCE;
  let nowMs = 0;
  const fetched: string[] = [];
  const sts = new MtaSts({
    dns: { txt: async () => records },
    fetch: async (domain) => {
      fetched.push(domain);
      if (text === null) throw new Error('unreachable');
      return text;
    },
    maxDomains: 10,
    now: () => nowMs,
  });
  const mode = async () => (await sts.policy('one.test'))?.mode;
  assert.deepEqual(await Promise.all([mode(), mode()]), ['enforce', 'enforce']);
  assert.equal(await mode(), 'enforce');
  assert.equal(fetched.length, 1);
  text = null;
  records = { kind: 'found', records: ['v=STSv1; id=2'] };
  assert.equal(await mode(), 'enforce', 'the new one cannot be had');
  records = { kind: 'no-name' };
  assert.equal(await mode(), 'enforce', 'the record is gone');
  nowMs = 1_000_001;
  assert.equal(await mode(), undefined, 'its time is over');
  records = { kind: 'found', records: ['v=STSv1; id=3'] };
  const before = fetched.length;
  assert.equal(await mode(), 'failed');
  assert.equal(await mode(), 'failed');
  assert.equal(fetched.length, before + 1, 'a failed fetch is not repeated at once');
  nowMs += 300_001;
  text = 'version: STSv1\nmode: testing\nmx: x\nmax_age: 9';
  assert.equal(await mode(), 'testing');
  records = { kind: 'found', records: ['v=STSv1; id=4', 'v=STSv1; id=5'] };
  nowMs += 10_000;
  assert.equal(await mode(), undefined, 'two records are none');
});

const LABEL = makeSelfSigned(['mta-sts.one.test', 'mx.one.test'], 5, 'ecdsa');
let web: Server;
let dnsServer: DnsServer;
let answer = { status: 200, type: 'text/plain; charset=utf-8', body: ENFORCE };

before(async () => {
  web = createServer({ cert: LABEL.certificate, key: LABEL.key }, (request, response) => {
    const found = request.url === '/.well-known/mta-sts.txt' && request.headers.host === 'mta-sts.one.test';
    response.writeHead(found ? answer.status : 404, {
      'content-type': answer.type,
      location: 'https://x.test/',
    });
    response.end(answer.body);
  });
  await new Promise<void>((done) => web.listen(0, '127.0.0.1', done));
  dnsServer = await DnsServer.start({
    'one.test': {
      MX: [
        [10, 'mx.one.test'],
        [5, 'mx.evil.test'],
      ],
    },
    '_mta-sts.one.test': { TXT: ['v=STSv1; id=20260101;'] },
    'mta-sts.one.test': { A: ['127.0.0.1'] },
    'mx.one.test': { A: ['127.0.0.1'] },
    'mx.evil.test': { A: ['127.0.0.2'] },
    'two.test': { MX: [[10, 'mx.evil.test']] },
    '_mta-sts.two.test': { TXT: ['v=STSv1; id=1'] },
  });
});
after(async () => {
  web?.close();
  await dnsServer?.stop();
});

const dns = (): Dns => new Dns(configSchema.parse({ dns: { servers: [dnsServer.address] } }).dns);
const fetcher = (ca: string | undefined, timeoutMs = 5000) =>
  stsFetcher({ timeoutMs, dns: dns(), ca, port: (web.address() as AddressInfo).port });

test('the policy is fetched from mta-sts.DOMAIN, verified, without redirects, as plain text', async () => {
  assert.equal(await fetcher(LABEL.certificate)('one.test'), ENFORCE);
  await assert.rejects(fetcher(undefined)('one.test'), /self-signed|unable to verify/);
  await assert.rejects(fetcher(LABEL.certificate)('nowhere.test'), /no address/);
  const good = answer;
  for (const bad of [{ status: 302 }, { status: 404 }, { type: 'text/html' }, { body: 'x'.repeat(70_000) }]) {
    answer = { ...good, ...bad };
    await assert.rejects(fetcher(LABEL.certificate)('one.test'), JSON.stringify(bad).slice(0, 40));
  }
  answer = good;
});

test('a domain that enforces gets its mail from exchangers it names, with verified TLS, or not at all', async () => {
  const sink = await startSink({ tls: { cert: LABEL.certificate, key: LABEL.key } });
  const attempt = async (ca: string, over: object = {}, domain = 'one.test') => {
    const slot = clientTls(ca, { sessionSeconds: 0 });
    const options = { maxDomains: 5, now: Date.now };
    const fetch = domain === 'one.test' ? fetcher(LABEL.certificate) : async () => ENFORCE;
    const sts = new MtaSts({ ...options, dns: dns(), fetch });
    const harness = startSender(
      {
        dns: { servers: [dnsServer.address] },
        delivery: { mx_port: sink.port, refuse_loopback_mx: false, ip_family: 'ipv4', ...over } as never,
      } as never,
      undefined,
      slot,
      sts,
    );
    const result = await harness.attempt({ recipients: [`a@${domain}`], destination: domain });
    harness.stop();
    return result;
  };
  const good = await attempt(LABEL.certificate);
  assert.deepEqual(fates(good), ['delivered']);
  assert.equal(good.tls?.verified, true);
  const bad = await attempt('');
  assert.deepEqual(fates(bad), ['deferred tls_failed']);
  const stranger = await attempt(LABEL.certificate, {}, 'two.test');
  const outcome = outcomeOf(stranger);
  assert.ok(
    outcome.kind === 'deferred' &&
      /no mail exchanger of two\.test is one its MTA-STS policy names/.test(outcome.detail),
  );
  const own = { tls: { destinations: { 'one.test': { mode: 'opportunistic' } } } };
  assert.deepEqual(fates(await attempt('', own)), ['delivered'], 'the operator’s word for the domain wins');
  assert.equal(sink.messages.length, 2);
});

test('mta_sts: off unless enabled; its numbers are bounded', () => {
  const { mta_sts } = configSchema.parse({}).delivery;
  assert.deepEqual(mta_sts, {
    enabled: false,
    fetch_timeout_ms: 30_000,
    max_domains: 10_000,
    refresh_interval_ms: 86_400_000,
  });
});
