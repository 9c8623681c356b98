/** Every result type of RFC 8460 §4.3, each counted where it happens: DNS, HTTPS and SMTP hosts that are wrong in one way. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { Dns } from '../../src/delivery/names/dns.ts';
import { MtaSts } from '../../src/delivery/security/mta-sts.ts';
import { stsFetcher } from '../../src/delivery/security/sts-fetch.ts';
import type { TlsFailure, TlsSession } from '../../src/mail/tls-session.ts';
import { Authority, type Identity, lacksOpenssl } from '../support/authority.ts';
import { type DnsName, DnsServer } from '../support/dns-server.ts';
import type { SinkTls } from '../support/scripted-sink.ts';
import { clientTls, fates, startSender, startSink } from './harness.ts';

const skip = lacksOpenssl;
let authority: Authority;
let dns: DnsServer;
let good: Identity;
let policyHost: Identity;
before(async () => {
  if (skip !== false) return;
  authority = new Authority();
  good = authority.issue(['mx.one.test']);
  policyHost = authority.issue(['mta-sts.one.test']);
  dns = await DnsServer.start();
});
after(async () => {
  authority?.remove();
  await dns?.stop();
});

const ENFORCE = 'version: STSv1\nmode: enforce\nmx: mx.one.test\nmax_age: 1000\n';
const TESTING = ENFORCE.replace('enforce', 'testing');
const WRONG_TLSA: DnsName = { TLSA: [[3, 1, 1, '00'.repeat(32)]], secure: true };

interface Case {
  /** What the exchanger shows; null: no STARTTLS. */
  tls?: SinkTls | null;
  dane?: 'opportunistic' | 'require';
  /** Records of the domain, the host and its TLSA name. */
  domain?: DnsName;
  host?: DnsName;
  tlsa?: DnsName;
  /** What the policy host answers; a number is a status. */
  policy?: string | number;
  /** Its certificate; null: it is not there. */
  web?: Identity | null;
}

async function sessionsOf(setting: Case): Promise<{ fate: string | undefined; sessions: TlsSession[] }> {
  const { tls = good, dane, policy, web = policyHost } = setting;
  const sink = await startSink(tls === null ? {} : { tls });
  dns.set('one.test', { MX: [[10, 'mx.one.test']], secure: true, ...setting.domain });
  dns.set('mx.one.test', { A: ['127.0.0.1'], secure: true, ...setting.host });
  dns.set(`_${sink.port}._tcp.mx.one.test`, setting.tlsa ?? {});
  dns.set('_mta-sts.one.test', policy === undefined ? {} : { TXT: ['v=STSv1; id=1'] });
  dns.set('mta-sts.one.test', { A: ['127.0.0.1'] });
  const server = createServer({ cert: web?.cert, key: web?.key }, (_, response) => {
    response.writeHead(typeof policy === 'number' ? policy : 200, { 'content-type': 'text/plain' });
    response.end(String(policy));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  if (web === null) server.close();
  const rules = configSchema.parse({ dns: { servers: [dns.address], tries: 1, timeout_ms: 2000 } }).dns;
  const resolver = new Dns(rules);
  const sts = new MtaSts({
    dns: resolver,
    fetch: stsFetcher({ timeoutMs: 10_000, dns: resolver, ca: authority.ca, port }),
    maxDomains: 5,
    now: Date.now,
  });
  const slot = clientTls(authority.ca, { sessionSeconds: 0 });
  const delivery = {
    mx_port: sink.port,
    refuse_loopback_mx: false,
    ip_family: 'ipv4',
    tls: { handshake_timeout_ms: 5000 },
    dane: { mode: dane ?? 'off' },
  };
  const harness = startSender({ dns: rules, delivery: delivery as never }, undefined, slot, sts);
  const result = await harness.attempt({ recipients: ['a@one.test'], destination: 'one.test' });
  harness.stop();
  server.close();
  return { fate: fates(result)[0], sessions: harness.tlsSessions };
}

/** Settings, each with the policy it is counted under and what becomes of the mail. */
const CASES: Record<TlsFailure, () => [Case, TlsSession['policy']['type'], string][]> = {
  'starttls-not-supported': () => [
    [{ tls: null }, 'no-policy-found', 'delivered'],
    [{ tls: null, policy: ENFORCE }, 'sts', 'deferred tls_failed'],
    [{ tls: { ...good, reply: '454 4.7.0 not now' } }, 'no-policy-found', 'delivered'],
  ],
  'certificate-host-mismatch': () => [
    [{ tls: authority.issue(['mx.two.test']), policy: ENFORCE }, 'sts', 'deferred tls_failed'],
    [{ tls: authority.issue(['mx.two.test']), policy: TESTING }, 'sts', 'delivered'],
  ],
  'certificate-expired': () => [
    [
      { tls: authority.issue(['mx.one.test'], { expired: true }), policy: ENFORCE },
      'sts',
      'deferred tls_failed',
    ],
    [{ tls: authority.issue(['mx.one.test'], { expired: true }), policy: TESTING }, 'sts', 'delivered'],
  ],
  'certificate-not-trusted': () => {
    const stranger = new Authority();
    const tls = stranger.issue(['mx.one.test']);
    stranger.remove();
    return [
      [{ tls, policy: ENFORCE }, 'sts', 'deferred tls_failed'],
      [{ tls, policy: TESTING }, 'sts', 'delivered'],
    ];
  },
  'validation-failure': () => [
    [{ tls: { ...good, fault: 'garbage' } }, 'no-policy-found', 'delivered'],
    [{ policy: ENFORCE.replace('mx.one', 'other.one') }, 'sts', 'deferred tls_failed'],
    [{ policy: TESTING.replace('mx.one', 'other.one') }, 'sts', 'delivered'],
  ],
  'tlsa-invalid': () => [
    [{ dane: 'opportunistic', tlsa: WRONG_TLSA }, 'tlsa', 'deferred tls_failed'],
    [
      { dane: 'opportunistic', tlsa: { TLSA: [[0, 1, 1, '00'.repeat(32)]], secure: true } },
      'tlsa',
      'delivered',
    ],
  ],
  'dnssec-invalid': () => [
    [{ dane: 'opportunistic', tlsa: { fault: 'SERVFAIL' } }, 'tlsa', 'deferred dns_temporary'],
    [{ dane: 'opportunistic', domain: { fault: 'SERVFAIL' } }, 'tlsa', 'deferred dns_temporary'],
    [{ dane: 'opportunistic', host: { fault: 'SERVFAIL' } }, 'tlsa', 'deferred dns_temporary'],
  ],
  'dane-required': () => [[{ dane: 'require' }, 'no-policy-found', 'deferred tls_failed']],
  'sts-policy-fetch-error': () => [
    [{ policy: 404 }, 'sts', 'delivered'],
    [{ policy: ENFORCE, web: null }, 'sts', 'delivered'],
  ],
  'sts-policy-invalid': () => [[{ policy: 'version: STSv1\nmode: enforce\n' }, 'sts', 'delivered']],
  'sts-webpki-invalid': () => [
    [{ policy: ENFORCE, web: authority.issue(['www.one.test']) }, 'sts', 'delivered'],
    [{ policy: ENFORCE, web: authority.issue(['mta-sts.one.test'], { expired: true }) }, 'sts', 'delivered'],
  ],
};

for (const [result, cases] of Object.entries(CASES))
  test(`${result} is counted, once`, { skip, timeout: 60_000 }, async () => {
    for (const [setting, type, fate] of cases()) {
      const seen = await sessionsOf(setting);
      const what = JSON.stringify({ ...setting, tls: undefined, web: undefined });
      assert.deepEqual(
        seen.sessions.map((one) => [one.result, one.policy.type, one.policy.domain]),
        [[result, type, 'one.test']],
        what,
      );
      assert.equal(seen.fate, fate, what);
    }
  });

test('what is as its policy wants is a success, under that policy', { skip, timeout: 60_000 }, async () => {
  const key = new X509Certificate(good.cert).publicKey.export({ type: 'spki', format: 'der' });
  const hex = createHash('sha256').update(key).digest('hex');
  for (const [setting, type] of [
    [{}, 'no-policy-found'],
    [{ policy: ENFORCE }, 'sts'],
    [{ policy: TESTING }, 'sts'],
    [{ dane: 'opportunistic', tlsa: { TLSA: [[3, 1, 1, hex]], secure: true } }, 'tlsa'],
  ] as [Case, string][]) {
    const { sessions } = await sessionsOf(setting);
    assert.deepEqual(sessions.map((one) => [one.result, one.policy.type]), [['success', type]]); // biome-ignore format: one line
  }
});

test('a fetch that fails while a policy holds is told once, under that policy', async () => {
  const told: string[] = [];
  let id = 1;
  const sts = new MtaSts({
    dns: { txt: async () => ({ kind: 'found', records: [`v=STSv1; id=${id}`] }) },
    fetch: async () => (id === 1 ? ENFORCE : 'nothing'),
    maxDomains: 5,
    now: Date.now,
    failed: (domain, kept, { result }) => void told.push(`${domain} ${kept.mode} ${result}`),
  });
  await sts.policy('one.test');
  id = 2;
  for (let i = 0; i < 3; i++) assert.equal((await sts.policy('one.test'))?.mode, 'enforce');
  assert.deepEqual(told, ['one.test enforce sts-policy-invalid']);
});
