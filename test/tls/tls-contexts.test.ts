/** Contexts over real handshakes: what a reload and a changed file do, and what they do not. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { makeSelfSigned, TLS_VERIFY } from '../../src/native.ts';
import { TlsContexts, trustedBySystem } from '../../src/tls/tls-contexts.ts';
import { Rig } from '../native/rig.ts';
import { clientSlot, secured } from '../native/tls-rig.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'contexts-'));
const certFile = join(folder, 'server.crt');
const keyFile = join(folder, 'server.key');
after(() => rmSync(folder, { recursive: true }));

let rig: Rig | null = null;
let contexts: TlsContexts | null = null;
afterEach(async () => {
  contexts?.stop();
  contexts = null;
  await rig?.close();
  rig = null;
});

function write(name: string, days = 100): void {
  const { certificate, key } = makeSelfSigned([name], days, 'ecdsa');
  writeFileSync(certFile, certificate);
  writeFileSync(keyFile, key);
}

function config(tls: object = {}, delivery: object = {}): Config {
  return configSchema.parse({
    listeners: [{ host: '127.0.0.1', port: 0, tls: 'optional' }],
    tls: { cert_file: certFile, key_file: keyFile, watch_interval_ms: 0, ...tls },
    delivery: { tls: { mode: 'none', ...delivery } },
  });
}

/** Subject that a new client sees. */
async function subject(slot: number): Promise<string> {
  rig ??= new Rig({ holdAfterVerbs: false });
  const ask = { verify: TLS_VERIFY.ask as number };
  return (await secured(rig, { server: slot, client: clientSlot() }, ask)).clientFacts.subject;
}

test('a reload brings the new certificate; connections stay; a bad one changes nothing and is named', async () => {
  const said: LogLine[] = [];
  write('one.test');
  contexts = new TlsContexts({ config: config(), log: recordingLog(said) });
  const { server } = contexts.load();
  rig = new Rig({ holdAfterVerbs: false });
  const old = await secured(rig, { server, client: clientSlot() }, { verify: TLS_VERIFY.ask as number });
  assert.equal(old.clientFacts.subject, 'CN=one.test');
  write('two.test');
  assert.deepEqual(contexts.reconfigure(config()), []);
  assert.equal(await subject(server), 'CN=two.test');
  writeFileSync(keyFile, makeSelfSigned(['x'], 1, 'ecdsa').key);
  const [problem] = contexts.reconfigure(config());
  assert.match(problem ?? '', /^tls\.key_file: .* key of another certificate/);
  assert.equal(said.at(-1)?.event, 'tls.reload_refused');
  assert.equal(await subject(server), 'CN=two.test');
  rig.reactor.sendLatin1(old.client, 'still here\r\n');
  rig.reactor.flush();
  await rig.until(() => rig?.lines().includes('still here') ?? false);
});

test('a file that changes is read again by itself', async () => {
  const said: LogLine[] = [];
  write('first.test');
  contexts = new TlsContexts({ config: config({ watch_interval_ms: 20 }), log: recordingLog(said) });
  const { server } = contexts.load();
  assert.equal(await subject(server), 'CN=first.test');
  const loads = () => said.filter(({ event }) => event === 'tls.loaded').length;
  await new Promise((done) => setTimeout(done, 60));
  assert.equal(loads(), 1, 'nothing changed, nothing is read');
  write('second.test');
  while (loads() < 2) await new Promise((done) => setTimeout(done, 5));
  assert.equal(await subject(server), 'CN=second.test');
});

test('what cannot be used at the start stops it, with key and file', () => {
  write('start.test');
  const start = (tls: object, delivery: object = {}) =>
    new TlsContexts({ config: config(tls, delivery), log: recordingLog([]) }).load();
  assert.throws(
    () => start({ cert_file: join(folder, 'gone.crt') }),
    /^RelayError: tls\.cert_file: .*gone\.crt is not there/,
  );
  assert.throws(() => start({ ciphers: 'WHAT' }), /tls: .*cipher/);
  assert.throws(() => start({ ciphersuites: 'WHAT' }), /tls: .*cipher/);
  assert.throws(() => start({ client_ca_file: keyFile }), /tls: /);
  assert.throws(() => start({ client_crl_file: keyFile }), /tls: /);
  const away = { mode: 'verify', ca_file: join(folder, 'gone.pem') };
  assert.throws(() => start({}, away), /delivery\.tls\.ca_file: .*gone\.pem is not there/);
  assert.throws(() => start({}, { mode: 'required', crl_file: keyFile }), /delivery\.tls: /);
  assert.doesNotThrow(() => start({}, { mode: 'none', ca_file: join(folder, 'gone.pem') }));
});

test('certificates that end soon, or have ended, are warned of', () => {
  const said: LogLine[] = [];
  write('soon.test', 3);
  let now = Date.now();
  contexts = new TlsContexts({ config: config(), log: recordingLog(said), now: () => now });
  contexts.load();
  now += 5 * 86_400_000;
  contexts.load();
  assert.deepEqual(
    said.filter(({ level }) => level === 'warn').map(({ event }) => event),
    ['tls.certificate_expires', 'tls.certificate_expired'],
  );
});

test('without a listener that wants TLS there is no server context; the system’s authorities are the default', () => {
  const plain = configSchema.parse({});
  contexts = new TlsContexts({ config: plain, log: recordingLog([]) });
  const { server, client } = contexts.load();
  assert.equal(server, -1);
  assert.ok(client >= 0);
});

/** Two connections one after the other: version of the first, and whether the second was resumed. */
async function twice(server: number, client: number): Promise<{ version: string; resumed: boolean }> {
  rig ??= new Rig({ holdAfterVerbs: false });
  const first = await secured(rig, { server, client }, { verify: TLS_VERIFY.ask, key: 'k' });
  rig.reactor.sendLatin1(first.server, '220 hello\r\n');
  rig.reactor.flush();
  await rig.until(() => rig?.lines().includes('220 hello') ?? false);
  const second = await secured(rig, { server, client }, { verify: TLS_VERIFY.ask, key: 'k' });
  return { version: first.clientFacts.version, resumed: second.clientFacts.resumed };
}

test('what the system trusts is its file, or what the environment names; where none can be read it is left to Node', (t) => {
  for (const name of ['SSL_CERT_FILE', 'SSL_CERT_DIR']) {
    const before = process.env[name];
    t.after(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
    delete process.env[name];
  }
  write('authority.test');
  const pem = readFileSync(certFile, 'utf8');
  const empty = join(folder, 'empty.pem');
  writeFileSync(empty, '\n');
  const bad = [join(folder, 'gone.pem'), folder, empty];
  assert.equal(trustedBySystem([...bad, certFile]), pem);
  assert.match(trustedBySystem(bad), /^-----BEGIN CERTIFICATE-----/);
  process.env.SSL_CERT_FILE = '/etc/ssl/certs/ca-certificates.crt';
  assert.notEqual(trustedBySystem([certFile]), pem);
});

test('versions and resumption follow the config, on either side', async () => {
  write('rules.test');
  const both = async (tls: object, delivery: object = {}) => {
    contexts = new TlsContexts({
      config: config(tls, { mode: 'opportunistic', ...delivery }),
      log: recordingLog([]),
    });
    const { server, client } = contexts.load();
    return twice(server, client);
  };
  assert.deepEqual(await both({}), { version: 'TLSv1.3', resumed: true });
  assert.equal((await both({ session_lifetime_ms: 0 })).resumed, false);
  assert.equal((await both({}, { resume_sessions: false })).resumed, false);
  // Without a suite of TLS 1.3 in common only 1.2 is left, which is below what one side wants.
  const apart = { ciphersuites: 'TLS_AES_128_GCM_SHA256' };
  const other = { ciphersuites: 'TLS_AES_256_GCM_SHA384' };
  await assert.rejects(
    both({ ...apart, min_version: 'TLSv1.3' }, other),
    /handshake failure|no shared cipher|protocol version/,
  );
  await assert.rejects(
    both(apart, { ...other, min_version: 'TLSv1.3' }),
    /handshake failure|no shared cipher|protocol version/,
  );
});
