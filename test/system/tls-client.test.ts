/** A real relay as TLS client, setting by setting: peers with every kind of certificate, faults, overrides, a revocation. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeSelfSigned } from '../../src/native.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { DnsServer } from '../support/dns-server.ts';
import type { LoggedEvent } from '../support/event-tail.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkTls } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const skip = lacksOpenssl;
const options = { skip, timeout: 120_000 };
const MODES = ['none', 'opportunistic', 'required', 'verify'] as const;
let first: Authority;
let second: Authority;
let dns: DnsServer;
let relay: RelayFixture;
/** By the name of what is wrong with them. */
const sinks = new Map<string, ScriptedSink>();
/** What verification says of each. */
const PROBLEMS: Record<string, RegExp | null> = {
  good: null,
  bundle: null,
  expired: /expired/,
  mismatched: /hostname mismatch/,
  stranger: /unable to get local issuer/,
  self: /self-signed/,
  revoked: /revoked/,
};

const sinkOf = (name: string): ScriptedSink => sinks.get(name) ?? assert.fail(name);
const crl = (): string => join(relay.dir, 'lists.pem');

async function addSink(name: string, tls: SinkTls): Promise<void> {
  sinks.set(name, await ScriptedSink.start({ tls }));
}

before(async () => {
  if (skip !== false) return;
  first = new Authority();
  second = new Authority('Other authority');
  const stranger = new Authority();
  const own = makeSelfSigned(['localhost'], 5, 'ecdsa');
  const revoked = first.issue(['localhost']);
  first.revoke(revoked.certFile);
  await addSink('good', first.issue(['localhost']));
  await addSink('bundle', second.issue(['localhost'], { rsa: true }));
  await addSink('expired', first.issue(['localhost'], { expired: true }));
  await addSink('mismatched', first.issue(['elsewhere.test']));
  await addSink('stranger', stranger.issue(['localhost']));
  await addSink('self', { cert: own.certificate, key: own.key });
  await addSink('revoked', revoked);
  await addSink('named', first.issue(['mail.elsewhere.test']));
  await addSink('asks', { ...first.issue(['localhost']), requestCert: true, ca: first.ca });
  await addSink('broken', { ...first.issue(['localhost']), fault: 'garbage' });
  await addSink('stripped', { ...first.issue(['localhost']), hidden: true });
  await addSink('implicit', { ...first.issue(['localhost']), implicit: true });
  await addSink('later', { ...first.issue(['localhost']), ...{ ticketKeys: Buffer.alloc(48, 7) } });
  stranger.remove();
  dns = await DnsServer.start();
  relay = new RelayFixture();
  writeFileSync(join(relay.dir, 'bundle.pem'), first.ca + second.ca);
  writeFileSync(crl(), first.crl());
  const client = first.issue(['relay.test']);
  const hop = (sink: string, tls?: object) => ({
    host: 'localhost',
    port: sinkOf(sink).port,
    ...(tls && { tls }),
  });
  const byMode = [...sinks.keys()].flatMap((sink) =>
    MODES.map((mode) => [
      `${mode}.${sink}.test`,
      hop(sink, { mode, implicit: sink === 'implicit' && mode !== 'none' }),
    ]),
  );
  relay.configure({
    tls: { watch_interval_ms: 100 },
    dns: { servers: [dns.address], timeout_ms: 2000, tries: 1 },
    retry: { initial_delay_ms: 600_000, max_delay_ms: 600_000 },
    delivery: {
      ip_family: 'ipv4',
      idle_connection_ms: 0,
      suspend_after_failures: 1000,
      mx_port: sinkOf('self').port,
      dane: { destinations: { 'dane.test': { mode: 'opportunistic' } } },
      routes: {
        ...Object.fromEntries(byMode),
        'sni.test': hop('named', { mode: 'verify', server_name: 'mail.elsewhere.test' }),
        'override.test': hop('self', { mode: 'verify' }),
        'general.test': hop('self'),
      },
      tls: {
        mode: 'verify',
        ca_file: '../bundle.pem',
        crl_file: '../lists.pem',
        cert_file: client.certFile,
        key_file: client.keyFile,
        broken_host_ttl_ms: 600_000,
        destinations: { 'override.test': { mode: 'required' } },
      },
    },
  });
  await relay.start();
});

after(async () => {
  await relay?.destroy();
  await dns?.stop();
  for (const sink of sinks.values()) await sink.stop();
  first?.remove();
  second?.remove();
});

let count = 0;
async function submit(domain: string): Promise<Record<string, unknown>> {
  const to = `a${count++}@${domain}`;
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: [to] });
  await talk.quit();
  const isFate = ({ type, recipient }: LoggedEvent): boolean => type !== 'accepted' && recipient === to;
  return relay.events.one(`fate of ${to}`, isFate, 30_000);
}

test('each mode with each kind of certificate: who gets mail, and what the event says', options, async () => {
  for (const [sink, problem] of Object.entries(PROBLEMS))
    for (const mode of MODES) {
      const event = await submit(`${mode}.${sink}.test`);
      const what = `${mode} ${sink}`;
      if (mode === 'verify' && problem !== null) {
        assert.deepEqual([event.type, event.reason], ['deferred', 'tls_failed'], what);
        assert.match(String(event.detail), problem, what);
        continue;
      }
      assert.equal(event.type, 'delivered', what);
      const tls = [event.tls_version, String(event.tls_cipher).startsWith('TLS_'), event.tls_verified];
      if (mode === 'none') assert.deepEqual(tls, [undefined, false, undefined], what);
      else assert.deepEqual(tls, ['TLSv1.3', true, problem === null], what);
    }
  assert.deepEqual(new Set(sinkOf('good').handshakes.map((line) => line.replace(' resumed', ''))), new Set(['TLSv1.3 localhost'])); // biome-ignore format: one line
});

test('a peer without STARTTLS, one whose TLS is broken, and TLS from the first byte', options, async () => {
  const seen = async (sink: string): Promise<string[]> => {
    const all: string[] = [];
    for (const mode of MODES) {
      const { type, tls_version } = await submit(`${mode}.${sink}.test`);
      all.push(`${type} ${tls_version ?? '-'}`);
    }
    return all;
  };
  assert.deepEqual(await seen('stripped'), ['delivered -', 'delivered -', 'deferred -', 'deferred -']);
  assert.deepEqual(await seen('broken'), ['delivered -', 'delivered -', 'deferred -', 'deferred -']);
  for (const mode of MODES.slice(1)) assert.equal((await submit(`${mode}.implicit.test`)).tls_verified, true);
});

test('SNI, a destination’s own rule, the general rule, our certificate', options, async () => {
  assert.equal((await submit('sni.test')).tls_verified, true);
  assert.deepEqual(sinkOf('named').handshakes, ['TLSv1.3 mail.elsewhere.test']);
  const own = await submit('override.test');
  assert.deepEqual([own.type, own.tls_verified], ['delivered', false], 'wins over the route’s verify');
  assert.equal((await submit('general.test')).reason, 'tls_failed');
  await submit('verify.asks.test');
  assert.deepEqual(sinkOf('asks').handshakes, ['TLSv1.3 localhost relay.test']);
});

test(
  'the host with broken TLS is remembered, forgotten after its time, and not tried in the clear where that is off',
  options,
  async () => {
    // biome-ignore format: one line
    const sink = sinkOf('broken');
    const asked = (): number => sink.commands.filter((line) => line.endsWith('STARTTLS')).length;
    await submit('opportunistic.broken.test');
    const before = asked();
    for (let i = 0; i < 3; i++) assert.equal((await submit('opportunistic.broken.test')).type, 'delivered');
    assert.equal(asked(), before, 'remembered');
    relay.configure({ delivery: { tls: { plain_retry: false } } });
    await relay.reload();
    assert.equal((await submit('opportunistic.broken.test')).reason, 'tls_failed', 'nor from memory');
    relay.configure({ delivery: { tls: { plain_retry: true, broken_host_ttl_ms: 1 } } });
    await relay.stop();
    await relay.start();
    const again = asked();
    for (let i = 1; i <= 2; i++) {
      assert.equal((await submit('opportunistic.broken.test')).type, 'delivered');
      assert.equal(asked(), again + i, 'forgotten by now');
    }
    relay.configure({ delivery: { tls: { plain_retry: false } } });
    await relay.reload();
    assert.equal((await submit('opportunistic.broken.test')).reason, 'tls_failed');
  },
);

test(
  'a certificate that is revoked while the relay runs is refused as soon as the list says so',
  options,
  async () => {
    const sink = sinkOf('later');
    for (let i = 0; i < 2; i++) assert.equal((await submit('verify.later.test')).tls_verified, true);
    assert.match(sink.handshakes[1] ?? '', /resumed/, 'with a session that could be resumed');
    const { cert } = sink.options.tls as { cert: string };
    const file = join(relay.dir, 'later.crt');
    writeFileSync(file, cert);
    first.revoke(file);
    const list = first.crl();
    writeFileSync(crl(), list);
    await eventually(async () => {
      const event = await submit('verify.later.test');
      assert.deepEqual([event.type, event.reason], ['deferred', 'tls_failed']);
      assert.match(String(event.detail), /revoked/);
    });
    // The list of the other authority in the same file, and none of the bundle's second: neither is held against anybody.
    appendFileSync(crl(), second.crl());
    await relay.reload();
    assert.equal((await submit('verify.bundle.test')).tls_verified, true);
    assert.equal((await submit('verify.good.test')).tls_verified, true);
  },
);

test('TLSA records of a domain are kept to where nothing else of the config wants TLS', options, async () => {
  const port = sinkOf('self').port;
  const { cert } = sinkOf('self').options.tls as { cert: string };
  const key = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  const secure = true;
  dns.set('dane.test', { MX: [[10, 'mx.dane.test']], secure });
  dns.set('mx.dane.test', { A: ['127.0.0.1'], secure });
  dns.set(`_${port}._tcp.mx.dane.test`, {
    TLSA: [[3, 1, 1, createHash('sha256').update(key).digest('hex')]],
    secure,
  });
  const config = JSON.parse(readFileSync(relay.configPath, 'utf8')) as { delivery: Record<string, unknown> };
  relay.writeConfig({ ...config, delivery: { ...config.delivery, routes: {}, tls: { mode: 'none' } } });
  await relay.stop();
  await relay.start();
  const event = await submit('dane.test');
  assert.deepEqual([event.type, event.tls_verified], ['delivered', true], String(event.detail));
});
