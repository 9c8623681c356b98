/** DANE (RFC 7672): a DNS server that says what is validated, a scripted peer with certificates that match or do not. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { after, before, test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { isUsable } from '../../src/delivery/security/dane.ts';
import { parsePolicy } from '../../src/delivery/security/sts-policy.ts';
import { reportDestination } from '../../src/mail/destination.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { TlsSession } from '../../src/mail/tls-session.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { type DnsName, DnsServer } from '../support/dns-server.ts';
import type { ScriptedSink, SinkTls } from '../support/scripted-sink.ts';
import { clientTls, fates, outcomeOf, startSender, startSink } from './harness.ts';

const skip = lacksOpenssl;
const authority = skip === false ? new Authority() : (undefined as unknown as Authority);
let dns: DnsServer;
before(async () => {
  dns = await DnsServer.start();
});
after(async () => {
  authority?.remove();
  await dns?.stop();
});

const sha = (bytes: Buffer, algorithm = 'sha256') => createHash(algorithm).update(bytes).digest('hex');
const certificateOf = (pem: string): Buffer => new X509Certificate(pem).raw;
const keyOf = (pem: string): Buffer =>
  new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
type Tlsa = [number, number, number, string];

interface Setting {
  tlsa?: Tlsa[];
  tls?: SinkTls;
  mode?: string;
  delivery?: object;
  /** Over the records of one.test, its host mx.one.test and the host's TLSA name. */
  domain?: DnsName;
  host?: DnsName;
  owner?: DnsName;
  ca?: string;
  sts?: string;
  more?: Record<string, DnsName>;
  /** A next hop at the sink's port instead of the domain's MX: the smarthost, or the route of this destination. */
  hop?: { host?: string; destination?: string; tls?: object };
  /** Key of the mail; default: as the hop says, or one.test. */
  key?: string;
}

interface Seen {
  fate: string | undefined;
  detail: string;
  sink: ScriptedSink;
  result: AttemptResult;
  sessions: TlsSession[];
}

async function attempt(setting: Setting): Promise<Seen> {
  const {
    tlsa,
    tls,
    mode = 'opportunistic',
    delivery,
    domain,
    host,
    owner,
    ca = '',
    sts,
    more,
    hop,
    key,
  } = setting;
  const sink = await startSink(tls === undefined ? {} : { tls });
  const owned = `_${sink.port}._tcp.mx.one.test`;
  dns.set('one.test', { MX: [[10, 'mx.one.test']], secure: true, ...domain });
  dns.set('mx.one.test', { A: ['127.0.0.1'], secure: true, ...host });
  dns.set(owned, { ...(tlsa === undefined ? {} : { TLSA: tlsa }), secure: true, ...owner });
  for (const [name, records] of Object.entries(more ?? {}))
    dns.set(name.replace('PORT', `${sink.port}`), records);
  const slot = clientTls(ca);
  const policy = sts === undefined ? undefined : { policy: async () => parsePolicy(sts) };
  const destination = hop === undefined ? 'one.test' : (hop.destination ?? 'smarthost');
  const next = { host: hop?.host ?? 'mx.one.test', port: sink.port, ...(hop?.tls && { tls: hop.tls }) };
  const hops = destination === 'smarthost' ? { smarthost: next } : { routes: { [destination]: next } };
  const harness = startSender(
    {
      dns: { servers: [dns.address], tries: 1, timeout_ms: 2000 },
      delivery: {
        mx_port: sink.port,
        refuse_loopback_mx: false,
        ip_family: 'ipv4',
        dane: { mode },
        ...(hop === undefined ? {} : hops),
        ...delivery,
      } as never,
    } as never,
    undefined,
    slot,
    policy as never,
  );
  const result = await harness.attempt({ recipients: ['a@one.test'], destination: key ?? destination });
  const outcome = outcomeOf(result);
  harness.stop();
  return {
    fate: fates(result)[0],
    detail: outcome.kind === 'delivered' ? '' : outcome.detail,
    sink,
    result,
    sessions: harness.tlsSessions,
  };
}

test('usage 3: the certificate or key of the record is good, whatever its name and dates', {
  skip,
}, async () => {
  const expired = authority.issue(['elsewhere.test'], { expired: true });
  for (const tlsa of [
    [3, 1, 1, sha(keyOf(expired.cert))],
    [3, 0, 2, sha(certificateOf(expired.cert), 'sha512')],
    [3, 1, 0, keyOf(expired.cert).toString('hex')],
  ] as Tlsa[]) {
    // One that does not match beside it, as in a change of keys.
    const seen = await attempt({ tls: expired, tlsa: [[3, 1, 1, '00'.repeat(32)], tlsa] });
    assert.equal(seen.fate, 'delivered', seen.detail);
    assert.equal(seen.result.tls?.verified, true);
    assert.deepEqual(seen.sink.handshakes, ['TLSv1.3 mx.one.test']);
    assert.deepEqual(
      seen.sessions.map(({ result, policy }) => [result, policy.type, policy.strings.length]),
      [['success', 'tlsa', 2]],
    );
  }
});

test('a certificate that no record names gets no mail, even one that is good otherwise', {
  skip,
}, async () => {
  const good = authority.issue(['mx.one.test']);
  const seen = await attempt({ tls: good, tlsa: [[3, 1, 1, 'ab'.repeat(32)]], ca: authority.ca });
  assert.equal(seen.fate, 'deferred tls_failed');
  assert.match(seen.detail, /DANE/);
  assert.equal(seen.sink.messages.length, 0);
  assert.ok(!seen.sink.commands.some((line) => line.includes('MAIL')));
  assert.deepEqual(
    seen.sessions.map(({ result, mx, address }) => [result, mx, address]),
    [['tlsa-invalid', 'mx.one.test', '127.0.0.1']],
  );
});

test('usage 2: the authority of the record, and the name of the host or of the domain', {
  skip,
}, async () => {
  const anchor: Tlsa = [2, 0, 1, sha(certificateOf(authority.ca))];
  const chained = (names: string[], over = {}) => {
    const { cert, key } = authority.issue(names, over);
    return { cert: `${cert}${authority.ca}`, key };
  };
  for (const [names, over, fate] of [
    [['mx.one.test'], {}, 'delivered'],
    [['one.test'], {}, 'delivered'],
    [['elsewhere.test'], {}, 'deferred tls_failed'],
    [['mx.one.test'], { expired: true }, 'deferred tls_failed'],
  ] as const) {
    const seen = await attempt({ tls: chained([...names], over), tlsa: [anchor] });
    assert.equal(seen.fate, fate, `${names} ${seen.detail}`);
  }
  const mismatch = await attempt({ tls: chained(['elsewhere.test']), tlsa: [anchor] });
  assert.equal(mismatch.sessions[0]?.result, 'certificate-host-mismatch');
  const expired = await attempt({ tls: chained(['mx.one.test'], { expired: true }), tlsa: [anchor] });
  assert.equal(expired.sessions[0]?.result, 'certificate-expired');
  const stranger = new Authority();
  const foreign = stranger.issue(['mx.one.test']);
  const seen = await attempt({ tls: { cert: foreign.cert + stranger.ca, key: foreign.key }, tlsa: [anchor] });
  assert.equal(seen.fate, 'deferred tls_failed');
  stranger.remove();
});

test('with records that are validated mail waits where STARTTLS is not offered or fails', {
  skip,
}, async () => {
  const { cert, key } = authority.issue(['mx.one.test']);
  const tlsa: Tlsa[] = [[3, 1, 1, sha(keyOf(cert))]];
  for (const tls of [undefined, { hidden: true }, { reply: '454 4.7.0 no' }, { fault: 'garbage' as const }]) {
    const seen = await attempt({ tlsa, ...(tls === undefined ? {} : { tls: { cert, key, ...tls } }) });
    assert.equal(seen.fate, 'deferred tls_failed');
    assert.equal(seen.sink.messages.length, 0);
    assert.equal(seen.sink.connections, 1, 'no second try without TLS');
    const result = seen.sessions[0]?.result;
    assert.equal(result, tls?.fault === undefined ? 'starttls-not-supported' : 'validation-failure');
  }
});

test('without usable records TLS is needed and the certificate is not judged', { skip }, async () => {
  const { cert, key } = authority.issue(['elsewhere.test'], { expired: true });
  for (const tlsa of [
    [1, 1, 1, 'ab'.repeat(32)],
    [3, 1, 1, 'ab'],
    [3, 7, 1, 'ab'.repeat(32)],
    // Known to be none only by OpenSSL.
    [3, 0, 0, 'abcd'],
  ] as Tlsa[]) {
    const seen = await attempt({ tls: { cert, key }, tlsa: [tlsa] });
    assert.equal(seen.fate, 'delivered', `${tlsa} ${seen.detail}`);
    assert.equal(seen.result.tls?.verified, false);
    const stripped = await attempt({ tls: { cert, key, hidden: true }, tlsa: [tlsa] });
    assert.equal(stripped.fate, 'deferred tls_failed');
  }
});

test('records count only where MX, addresses and they themselves are validated', { skip }, async () => {
  const tls = authority.issue(['elsewhere.test']);
  const tlsa: Tlsa[] = [[3, 1, 1, 'ab'.repeat(32)]];
  for (const unsigned of ['domain', 'host', 'owner'] as const) {
    const seen = await attempt({ tls, tlsa, [unsigned]: { ...(unsigned === 'owner' ? { TLSA: tlsa } : {}), secure: false } }); // biome-ignore format: one call
    assert.equal(seen.fate, 'delivered', unsigned);
    assert.equal(seen.sessions[0]?.policy.type, 'no-policy-found');
  }
  assert.equal((await attempt({ tls, tlsa })).fate, 'deferred tls_failed');
  assert.equal((await attempt({ tls, tlsa, mode: 'off' })).fate, 'delivered');
});

test('what cannot be looked up is not circumvented: the mail waits', { skip }, async () => {
  const tls = authority.issue(['mx.one.test']);
  for (const fault of ['SERVFAIL', 'REFUSED', 'timeout'] as const) {
    const seen = await attempt({ tls, owner: { fault } });
    assert.equal(
      seen.fate,
      fault === 'SERVFAIL' ? 'deferred dns_temporary' : 'deferred dns_unavailable',
      fault,
    );
    assert.match(seen.detail, /^TLSA _\d+\._tcp\.mx\.one\.test: /);
    assert.equal(seen.sink.connections, 0);
    assert.equal(seen.sessions[0]?.result, 'dnssec-invalid');
  }
  for (const setting of [{ domain: { fault: 'SERVFAIL' } }, { host: { fault: 'SERVFAIL' } }] as Setting[]) {
    const seen = await attempt({ tls, ...setting });
    assert.equal(seen.fate, 'deferred dns_temporary');
    assert.equal(seen.sink.connections, 0);
  }
  // An answer too long for UDP is fetched over TCP.
  const truncated = await attempt({ tls, owner: { TLSA: [[3, 1, 1, sha(keyOf(tls.cert))]], fault: 'truncate' } }); // biome-ignore format: one call
  assert.equal(truncated.fate, 'delivered');
  assert.equal(truncated.result.tls?.verified, true);
});

test('a domain without MX, and a host that is an alias', { skip }, async () => {
  const tls = authority.issue(['other.test']);
  const match: Tlsa[] = [[3, 1, 1, sha(keyOf(tls.cert))]];
  const miss: Tlsa[] = [[3, 1, 1, 'ab'.repeat(32)]];
  const own = { MX: [], A: ['127.0.0.1'] };
  const implicit = await attempt({ tls, domain: own, more: { '_PORT._tcp.one.test': { TLSA: match, secure: true } } }); // biome-ignore format: one call
  assert.equal(implicit.result.tls?.verified, true);
  assert.deepEqual(implicit.sink.handshakes, ['TLSv1.3 one.test']);
  const alias = { CNAME: 'real.test', secure: true };
  const real = { A: ['127.0.0.1'], secure: true };
  // The records of where it leads come first, then those of the alias itself.
  const first = await attempt({ tls, tlsa: miss, host: alias, more: { 'real.test': real, '_PORT._tcp.real.test': { TLSA: match, secure: true } } }); // biome-ignore format: one call
  assert.equal(first.fate, 'delivered', first.detail);
  assert.deepEqual(first.sink.handshakes, ['TLSv1.3 real.test']);
  const second = await attempt({ tls, tlsa: match, host: alias, more: { 'real.test': real } });
  assert.equal(second.fate, 'delivered', second.detail);
  assert.deepEqual(second.sink.handshakes, ['TLSv1.3 mx.one.test']);
});

test('require: no mail to a domain whose hosts have no usable records', { skip }, async () => {
  const tls = authority.issue(['mx.one.test']);
  for (const tlsa of [[], [[1, 1, 1, 'ab'.repeat(32)]]] as Tlsa[][]) {
    const seen = await attempt({ tls, tlsa, mode: 'require', ca: authority.ca });
    assert.equal(seen.fate, 'deferred tls_failed');
    assert.equal(seen.sink.connections, 0);
    assert.equal(seen.sessions[0]?.result, 'dane-required');
  }
  const good: Tlsa[] = [[3, 1, 1, sha(keyOf(tls.cert))]];
  assert.equal((await attempt({ tls, tlsa: good, mode: 'require' })).fate, 'delivered');
  const unsigned = await attempt({ tls, tlsa: good, mode: 'require', domain: { secure: false } });
  assert.equal(unsigned.fate, 'deferred tls_failed');
});

test('a domain’s own mode wins; one with a TLS mode of its own is left to that', { skip }, async () => {
  const tls = authority.issue(['elsewhere.test']);
  const tlsa: Tlsa[] = [[3, 1, 1, 'ab'.repeat(32)]];
  const dane = (mode: string, own: string) => ({
    dane: { mode, destinations: { 'one.test': { mode: own } } },
  });
  assert.equal((await attempt({ tls, tlsa, delivery: dane('opportunistic', 'off') })).fate, 'delivered');
  assert.equal((await attempt({ tls, tlsa, delivery: dane('off', 'opportunistic') })).fate, 'deferred tls_failed'); // biome-ignore format: one call
  const own = { tls: { destinations: { 'one.test': { mode: 'opportunistic' } } } };
  assert.equal((await attempt({ tls, tlsa, delivery: own })).fate, 'delivered');
});

test('DANE goes before MTA-STS, in both directions', { skip }, async () => {
  const sts = 'version: STSv1\nmode: enforce\nmx: another.test\nmax_age: 1000\n';
  const tls = authority.issue(['mx.one.test']);
  // The certificate is of no trusted issuer and the host none of the policy, but DANE vouches for it.
  const good = await attempt({ tls, sts, tlsa: [[3, 1, 1, sha(keyOf(tls.cert))]] });
  assert.equal(good.fate, 'delivered', good.detail);
  const bad = await attempt({ tls, sts: sts.replace('another', 'mx.one'), ca: authority.ca, tlsa: [[3, 1, 1, 'ab'.repeat(32)]] }); // biome-ignore format: one call
  assert.equal(bad.fate, 'deferred tls_failed');
  const without = await attempt({ tls, sts: sts.replace('another', 'mx.one'), ca: authority.ca });
  assert.equal(without.fate, 'delivered');
  assert.equal(without.sessions[0]?.policy.type, 'sts');
  const named = await attempt({ tls, sts, ca: authority.ca });
  assert.deepEqual([named.fate, named.sessions[0]?.result], ['deferred tls_failed', 'validation-failure']);
});

test('a host whose records cannot be known, or do not match, is left out while another does', {
  skip,
}, async () => {
  const tls = authority.issue(['mx.one.test']);
  const match: Tlsa[] = [[3, 1, 1, sha(keyOf(tls.cert))]];
  const domain: DnsName = { MX: [[10, 'mx.one.test'], [20, 'mx2.one.test']] }; // biome-ignore format: one line
  const more = { 'mx2.one.test': { A: ['127.0.0.1'], secure: true }, '_PORT._tcp.mx2.one.test': { TLSA: match, secure: true } }; // biome-ignore format: one line
  const unknown = await attempt({ tls, domain, more, owner: { fault: 'SERVFAIL' } });
  assert.deepEqual([unknown.fate, unknown.sink.handshakes], ['delivered', ['TLSv1.3 mx2.one.test']]);
  const wrong = await attempt({ tls, domain, more, tlsa: [[3, 1, 1, 'ab'.repeat(32)]] });
  assert.equal(wrong.fate, 'delivered');
  assert.equal(wrong.sink.connections, 2);
  assert.deepEqual(
    wrong.sessions.map(({ mx, result }) => [mx, result]),
    [
      ['mx.one.test', 'tlsa-invalid'],
      ['mx2.one.test', 'success'],
    ],
  );
});

test('records ask for TLS also where the general mode is none', { skip }, async () => {
  const tls = authority.issue(['mx.one.test']);
  const seen = await attempt({ tls, tlsa: [[3, 1, 1, sha(keyOf(tls.cert))]], delivery: { tls: { mode: 'none' } } }); // biome-ignore format: one call
  assert.deepEqual([seen.fate, seen.result.tls?.verified], ['delivered', true]);
});

test('what an MTA-STS policy in testing would have refused is counted, and the mail goes', {
  skip,
}, async () => {
  const sts = 'version: STSv1\nmode: testing\nmx: mx.one.test\nmax_age: 1000\n';
  const good = authority.issue(['mx.one.test']);
  for (const [tls, over, result] of [
    [good, {}, 'success'],
    [good, { ca: '' }, 'certificate-not-trusted'],
    [authority.issue(['elsewhere.test']), {}, 'certificate-host-mismatch'],
    [authority.issue(['mx.one.test'], { expired: true }), {}, 'certificate-expired'],
    [good, { sts: sts.replace('mx: mx', 'mx: other') }, 'validation-failure'],
    [{ ...good, hidden: true }, {}, 'starttls-not-supported'],
  ] as const) {
    const seen = await attempt({ tls, sts, ca: authority.ca, ...over });
    assert.equal(seen.fate, 'delivered');
    assert.deepEqual(
      seen.sessions.map((one) => [one.result, one.policy.type]),
      [[result, 'sts']],
    );
  }
});

test('usable records: usages 2 and 3 with data of the right length', () => {
  const record = { usage: 3, selector: 1, matching: 1, hex: 'ab'.repeat(32) };
  for (const [over, usable] of [
    [{}, true],
    [{ usage: 2, selector: 0 }, true],
    [{ usage: 0 }, false],
    [{ usage: 1 }, false],
    [{ usage: 255 }, false],
    [{ selector: 2 }, false],
    [{ matching: 2 }, false],
    [{ matching: 2, hex: 'ab'.repeat(64) }, true],
    [{ matching: 3 }, false],
    [{ matching: 0, hex: '' }, false],
    [{ matching: 0, hex: '30' }, true],
  ] as const)
    assert.equal(isUsable({ ...record, ...over }), usable, JSON.stringify(over));
});

test('DANE is off unless the operator says that the resolver validates', () => {
  assert.deepEqual(configSchema.parse({}).delivery.dane, { mode: 'off', destinations: {} });
});

test('a smarthost and a route that are host names are held to their TLSA records', { skip }, async () => {
  const cert = authority.issue(['elsewhere.test']);
  const good: Tlsa[] = [[3, 1, 1, sha(keyOf(cert.cert))]];
  const wrong: Tlsa[] = [[3, 1, 1, '00'.repeat(32)]];
  for (const hop of [{}, { host: 'MX.One.test' }, { destination: 'two.test' }]) {
    const seen = await attempt({ tls: cert, tlsa: good, hop });
    assert.equal(seen.fate, 'delivered', seen.detail);
    assert.equal(seen.result.tls?.verified, true);
    assert.deepEqual(seen.sink.handshakes, ['TLSv1.3 mx.one.test']);
    assert.deepEqual(seen.sessions, [], 'reports are of policy domains, which a next hop of ours is none');
    assert.equal((await attempt({ tls: cert, tlsa: wrong, hop })).fate, 'deferred tls_failed');
    assert.equal((await attempt({ tlsa: good, hop })).fate, 'deferred tls_failed', 'no STARTTLS');
    const unsigned = await attempt({ tls: cert, tlsa: wrong, hop, owner: { secure: false } });
    assert.deepEqual([unsigned.fate, unsigned.result.tls?.verified], ['delivered', false]);
    const bogus = await attempt({ tls: cert, tlsa: good, hop, owner: { fault: 'SERVFAIL' } });
    assert.equal(bogus.fate, 'deferred dns_temporary');
    assert.match(bogus.detail, /TLSA _\d+\._tcp\.mx\.one\.test: SERVFAIL/);
  }
});

test('TLS from the first byte at a next hop, by its TLSA records', { skip }, async () => {
  const cert = authority.issue(['elsewhere.test']);
  const tls = { ...cert, implicit: true };
  const hop = { tls: { implicit: true } };
  const seen = await attempt({ tls, tlsa: [[3, 1, 1, sha(keyOf(cert.cert))]], hop });
  assert.deepEqual([seen.fate, seen.result.tls?.verified], ['delivered', true]);
  const wrong = await attempt({ tls, tlsa: [[3, 1, 1, '00'.repeat(32)]], hop });
  assert.equal(wrong.fate, 'deferred tls_failed');
});

test('a TLS mode of the next hop is the operator’s word, a DANE mode of its own another', {
  skip,
}, async () => {
  const cert = authority.issue(['elsewhere.test']);
  const wrong: Tlsa[] = [[3, 1, 1, '00'.repeat(32)]];
  const own = { tls: { mode: 'required' } };
  assert.equal((await attempt({ tls: cert, tlsa: wrong, hop: own })).fate, 'delivered');
  const both = { dane: { mode: 'off', destinations: { 'mx.one.test': { mode: 'opportunistic' } } } };
  assert.equal((await attempt({ tls: cert, tlsa: wrong, hop: own, delivery: both })).fate, 'deferred tls_failed'); // biome-ignore format: one line
  const off = { dane: { mode: 'opportunistic', destinations: { 'two.test': { mode: 'off' } } } };
  const routed = { destination: 'two.test' };
  assert.equal((await attempt({ tls: cert, tlsa: wrong, hop: routed, delivery: off })).fate, 'delivered');
  const general = { tls: { destinations: { 'two.test': { mode: 'required' } } } };
  assert.equal((await attempt({ tls: cert, tlsa: wrong, hop: routed, delivery: general })).fate, 'delivered');
});

test('require: no mail to a next hop without usable records, unless it is an address', { skip }, async () => {
  const cert = authority.issue(['elsewhere.test']);
  for (const setting of [{ hop: {} }, { hop: {}, tlsa: [[0, 1, 1, '00'.repeat(32)]] as Tlsa[] }]) {
    const seen = await attempt({ tls: cert, mode: 'require', ...setting });
    assert.equal(seen.fate, 'deferred tls_failed');
    assert.match(seen.detail, /no usable TLSA records/);
  }
  const tlsa: Tlsa[] = [[3, 1, 1, sha(keyOf(cert.cert))]];
  for (const host of ['mx.one.test', '127.0.0.1', 'localhost'])
    assert.equal(
      (await attempt({ tls: cert, mode: 'require', hop: { host }, tlsa })).fate,
      'delivered',
      host,
    );
});

test('a next hop that DNS does not know is looked up as without DANE', { skip }, async () => {
  const cert = authority.issue(['elsewhere.test']);
  const seen = await attempt({ tls: cert, hop: { host: 'nowhere.test' } });
  assert.deepEqual([seen.fate, seen.detail], ['deferred dns_temporary', 'next hop nowhere.test: no such name or no address']); // biome-ignore format: one line
  const local = await attempt({ tls: cert, hop: { host: 'localhost' } });
  assert.equal(local.fate, 'delivered');
});

test('a report about TLS goes despite it: no policy holds it, plain if need be, and it is not counted', {
  skip,
}, async () => {
  const cert = authority.issue(['elsewhere.test']);
  const key = reportDestination('one.test', { smarthost: false, routed: new Set() });
  assert.equal(key, 'despite-tls:one.test');
  const tlsa: Tlsa[] = [[3, 1, 1, '00'.repeat(32)]];
  const sts = 'version: STSv1\nmode: enforce\nmx: other.test\nmax_age: 1000';
  const delivery = { tls: { mode: 'verify', plain_retry: false } };
  const through = (setting: Setting): Promise<Seen> =>
    attempt({ mode: 'require', tlsa, sts, delivery, ...setting });
  assert.equal((await through({ tls: cert })).fate, 'deferred tls_failed');
  for (const tls of [cert, { ...cert, fault: 'garbage' as const }, undefined]) {
    const seen = await through({ key, ...(tls && { tls }) });
    assert.equal(seen.fate, 'delivered', seen.detail);
    assert.equal(seen.result.tls?.verified, tls === cert ? false : undefined);
    assert.deepEqual(seen.sessions, []);
  }
  const bogus = await through({ key, tls: cert, owner: { fault: 'SERVFAIL' } });
  assert.equal(bogus.fate, 'delivered', 'TLSA is not asked for');
  const off = await through({ key, tls: cert, delivery: { tls: { mode: 'none' } } });
  assert.deepEqual([off.fate, off.sink.handshakes], ['delivered', []]);
});

test('a report that goes by a route or the smarthost keeps to what the operator says of that', {
  skip,
}, async () => {
  const routed = new Set(['one.test']);
  assert.equal(reportDestination('one.test', { smarthost: false, routed }), 'one.test');
  assert.equal(reportDestination('two.test', { smarthost: true, routed }), 'two.test');
  assert.equal(reportDestination('x'.repeat(250), { smarthost: false, routed }), 'x'.repeat(250));
  // One that was queued before there was a route.
  const cert = authority.issue(['elsewhere.test']);
  const hop = { destination: 'two.test', tls: { mode: 'verify' } };
  const seen = await attempt({ tls: cert, hop, key: 'despite-tls:two.test' });
  assert.equal(seen.fate, 'deferred tls_failed');
});
