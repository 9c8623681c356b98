/** The HTTP plane of a running relay: who gets in, what is refused and how, and that mail never waits for it. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeSelfSigned } from '../../src/native.ts';
import { freePort } from '../support/free-port.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';
import { wrongWords } from '../support/wrong-words.ts';
import { type Answer, ask, type WithPlane, withPlane } from './plane-fixture.ts';

interface ProblemBody {
  status: number;
  code: string;
  detail: string;
  needed_role?: string;
}

function assertProblem({ status, headers, body }: Answer, expected: number, code: string): ProblemBody {
  const problem = body as ProblemBody;
  assert.deepEqual([status, problem.code, problem.status], [expected, code, expected], JSON.stringify(body));
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/);
  assert.equal(headers.get('cache-control'), 'no-store');
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
  return problem;
}

/** What a client gets that writes these octets, until the connection ends. */
function raw(url: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = '';
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(text));
    socket.setEncoding('utf8').on('data', (part: string) => {
      got += part;
    });
    socket.once('close', () => resolve(got)).once('error', reject);
  });
}

test('who may ask what', async (t) => {
  const plane = await withPlane(t, { tokens_file: 'who/tokens.json' });
  const { get, relay } = plane;
  const viewer = await plane.token('--role', 'viewer');
  const inject = await plane.token('--role', 'inject');
  const bound = await plane.token('--role', 'admin', '--tenant', 'shop');
  const elsewhere = await plane.token('--role', 'admin', '--network', '192.0.2.0/24');
  const status = await get('/api/v1/status', viewer);
  assert.equal((status.body as { pid: number }).pid, relay.pid);
  assert.deepEqual(wrongWords(status.body, 'status'), []);
  // At once, however the plane looked at the file before.
  for (let i = 0; i < 3; i++)
    assert.equal((await get('/api/v1/status', await plane.token('--role', 'viewer'))).status, 200);
  assertProblem(await get('/api/v1/status'), 401, 'token_needed');
  assert.equal((await get('/api/v1/status')).headers.get('www-authenticate'), 'Bearer');
  for (const wrong of ['x', viewer.slice(0, -1), `${viewer}x`, `${viewer.slice(0, -1)}!`, elsewhere])
    assertProblem(await get('/api/v1/status', wrong), 401, 'token_needed');
  assert.equal(assertProblem(await get('/api/v1/status', inject), 403, 'role_missing').needed_role, 'viewer');
  assertProblem(await get('/api/v1/status', bound), 403, 'tenant_token');
  // What is not there is told to those only who may ask for something.
  assertProblem(await get('/nothing/<here>'), 401, 'token_needed');
  const nothing = assertProblem(await get('/nothing/<here>', inject), 404, 'not_found');
  assert.ok(!nothing.detail.includes('here>'));
  const wrong = await get('/api/v1/status', viewer, { method: 'DELETE' });
  assertProblem(wrong, 405, 'method_not_allowed');
  assert.equal(wrong.headers.get('allow'), 'GET, HEAD, OPTIONS');
  const options = await get('/api/v1/status', viewer, { method: 'OPTIONS' });
  assert.deepEqual([options.status, options.headers.get('allow')], [204, 'GET, HEAD, OPTIONS']);
  assert.equal((await get('/api/v1/status', viewer, { method: 'HEAD' })).status, 200);

  const [id = ''] = viewer.split('_').slice(1);
  assert.equal((await relay.command('token', 'revoke', id)).code, 0);
  await eventually(async () => assert.equal((await get('/api/v1/status', viewer)).status, 401));
  // A file that cannot be read leaves what was known; the log says so.
  const unreadable = relay.logLine('http.tokens_unreadable');
  writeFileSync(join(relay.dataDir, 'who/tokens.json'), '{');
  await unreadable;
  assertProblem(await get('/api/v1/status', inject), 403, 'role_missing');
  assert.ok(!relay.rawLog.join('\n').includes(inject.slice(-32)));
});

test('health is told to everybody; whatever name it is called by must be ours', async (t) => {
  const { get, url, relay } = await withPlane(t, { allowed_hosts: ['ops.example.com'] });
  assert.deepEqual((await get('/health/live')).body, { live: true });
  await eventually(async () =>
    assert.deepEqual((await get('/health/ready')).body, { ready: true, reasons: [], degraded: [] }),
  );
  const named = async (host: string): Promise<string> =>
    (await raw(url, `GET /health/live HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).split(
      '\r\n',
    )[0] ?? '';
  const { port } = new URL(url);
  for (const host of [
    `127.0.0.1:${port}`,
    'localhost',
    'LOCALHOST:1',
    '[::1]',
    'relay.test',
    'relay.test.',
    'ops.example.com',
  ])
    assert.equal(await named(host), 'HTTP/1.1 200 OK', host);
  for (const host of ['evil.example', '127.0.0.2', 'relay.test.evil.example', 'x@relay.test', ''])
    assert.equal(await named(host), 'HTTP/1.1 421 Misdirected Request', host);
  // A relay that drains takes no new mail.
  const client = await Talk.hello({ port: relay.port });
  for (const line of ['MAIL FROM:<a@a.test>', 'RCPT TO:<b@b.test>', 'DATA']) await client.say(line);
  relay.signal('SIGTERM');
  await eventually(async () => {
    const { status, body } = await get('/health/ready');
    assert.deepEqual([status, (body as { reasons: string[] }).reasons], [503, ['draining']]);
  });
  assert.equal((await get('/health/live')).status, 200);
});

test('requests that are too many, too long, too slow, or no HTTP', async (t) => {
  const plane = await withPlane(t, {
    requests_per_min: 5,
    request_timeout_ms: 1500,
    max_connections: 4,
    max_body_kb: 1,
  });
  const { url } = plane;
  const limited = await plane.token('--role', 'admin');
  const statusOf = async (init: RequestInit = {}): Promise<Answer> =>
    ask(`${url}/api/v1/status`, limited, init);
  await eventually(async () => assert.equal((await statusOf()).status, 200));
  let last = await statusOf();
  for (let i = 0; i < 6 && last.status === 200; i++) last = await statusOf();
  assertProblem(last, 429, 'too_many_requests');
  const waitS = Number(last.headers.get('retry-after'));
  assert.ok(waitS >= 1 && waitS <= 60, `${waitS}`);

  assert.match(await raw(url, 'HELO relay\r\n\r\n'), /^HTTP\/1\.1 400 Bad Request\r\n.*"code":"bad_http"/s);
  const long = `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`;
  assert.match(await raw(url, long), /^HTTP\/1\.1 431 .*"code":"header_too_large"/s);
  const health = 'GET /health/live HTTP/1.1\r\nHost: localhost\r\n';
  const bad = /^HTTP\/1\.1 400 .*"code":"bad_http"/s;
  assert.match(await raw(url, `${health}Host: other.test\r\n\r\n`), bad);
  assert.match(await raw(url, 'GET /health/live HTTP/1.1\r\n\r\n'), bad);
  const expecting = `${health}Expect: miracles\r\nConnection: close\r\n\r\n`;
  assert.match(await raw(url, expecting), /^HTTP\/1\.1 200 /);
  const whole = 'GET http://evil.test/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
  assert.match(await raw(url, whole), /^HTTP\/1\.1 421 /);
  const path = 'GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
  assert.match(await raw(url, path), /^HTTP\/1\.1 400 .*cache-control: no-store/s);
  // Neither header nor body may come for ever.
  const begun = await Promise.all([
    raw(url, 'GET /health/live HTTP/1.1\r\nHost: localhost\r\n'),
    raw(url, 'POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx'),
  ]);
  assert.match(begun[0] ?? '', /^HTTP\/1\.1 408 .*"code":"request_timeout"/s);
  assert.match(begun[1] ?? '', /HTTP\/1\.1 408 /);
  // Connections that say nothing keep nobody out: one of the client that has most of them ends.
  const idle = await Promise.all(Array.from({ length: 4 }, () => open(url)));
  assert.match(
    await raw(url, 'GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1\.1 200 /,
  );
  for (const socket of idle) socket.destroy();
  await eventually(async () => assert.equal((await ask(`${url}/health/live`)).status, 200));
});

function open(url: string): Promise<ReturnType<typeof connect>> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => resolve(socket));
    socket.on('error', () => {});
  });
}

test('more requests at once than allowed get 503, and health is asked beside them', async (t) => {
  const plane = await withPlane(t, { max_concurrent_requests: 1 });
  const token = await plane.token('--role', 'admin');
  await eventually(async () => assert.equal((await plane.get('/api/v1/status', token)).status, 200));
  // While the relay stands still, the first request waits for it.
  plane.relay.signal('SIGSTOP');
  const waits = plane.get('/api/v1/status', token);
  await eventually(async () => {
    const second = await plane.get('/api/v1/status', token);
    assertProblem(second, 503, 'too_many_at_once');
    assert.equal(second.headers.get('retry-after'), '1');
  });
  const health = plane.get('/health/live');
  plane.relay.signal('SIGCONT');
  assert.equal((await health).status, 200);
  assert.equal((await waits).status, 200);
});

test('a client that says whom it speaks for is believed where it is a trusted proxy', async (t) => {
  const plane = await withPlane(t, {
    behind_proxy: true,
    trusted_proxies: ['127.0.0.1'],
    requests_per_min: 20,
  });
  const token = await plane.token('--role', 'admin', '--network', '192.0.2.0/24');
  const from = (address: string): Promise<Answer> =>
    plane.get('/api/v1/status', token, { headers: { 'X-Forwarded-For': address } });
  await eventually(async () => assert.equal((await from('192.0.2.7')).status, 200));
  assert.equal((await from('198.51.100.7')).status, 401);
  assert.equal((await from('192.0.2.7, 198.51.100.7')).status, 401);
  for (const withPort of ['192.0.2.7:4711', '[::ffff:192.0.2.7]:4711', '[::ffff:192.0.2.7]'])
    assert.equal((await from(withPort)).status, 200, withPort);
  // A port or a text that is another one each time makes nobody another client.
  for (const text of ['203.0.113.9:', 'unknown-']) {
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => from(`${text}${i + 1}`)));
    assert.equal(answers.filter(({ status }) => status === 401).length, 20, text);
  }
  const direct = await withPlane(t);
  const other = await direct.token('--role', 'admin', '--network', '192.0.2.0/24');
  const forged = { headers: { 'X-Forwarded-For': '192.0.2.7' } };
  assert.equal((await direct.get('/api/v1/status', other, forged)).status, 401);
});

/** One message in. */
async function sendOne({ relay }: WithPlane): Promise<void> {
  const talk = await Talk.hello({ port: relay.port });
  assert.match(await talk.send({ to: 'b@b.test' }), /^250 /);
  talk.socket.destroy();
}

/** The pid in the plane's place. */
function planePid({ relay }: WithPlane): number {
  const children = readFileSync(`/proc/${relay.pid}/task/${relay.pid}/children`, 'utf8').trim().split(' ');
  const pid = children.find((one) =>
    readFileSync(`/proc/${one}/cmdline`, 'utf8').includes('plane-process.ts'),
  );
  assert.ok(pid !== undefined, children.join(' '));
  return Number(pid);
}

const QUIET = { delivery: { enabled: false, refuse_loopback_mx: false } };

test('a plane that dies or hangs is started again, and mail goes on meanwhile', async (t) => {
  const plane = await withPlane(
    t,
    { port: await freePort() },
    { ...QUIET, supervisor: { restart_delay_ms: 100, hang_timeout_ms: 5000 } },
  );
  const first = planePid(plane);
  let again = plane.relay.logLine('http.ready');
  process.kill(first, 'SIGKILL');
  await sendOne(plane);
  await again;
  assert.equal((await plane.get('/health/live')).status, 200);
  const second = planePid(plane);
  assert.notEqual(second, first);
  const hangs = plane.relay.logLine('http.hangs', undefined, 30_000);
  again = plane.relay.logLine('http.ready', undefined, 40_000);
  process.kill(second, 'SIGSTOP');
  await sendOne(plane);
  assert.equal((await hangs).pid, second);
  await again;
  assert.equal((await plane.get('/health/live')).status, 200);
  const third = planePid(plane);
  assert.equal((await plane.relay.stop()).code, 0);
  await eventually(() => assert.throws(() => process.kill(third, 0), { code: 'ESRCH' }));
});

test('it ends with the relay, also with one that is killed', async (t) => {
  const plane = await withPlane(t, {}, QUIET);
  const pid = planePid(plane);
  plane.relay.signal('SIGKILL');
  await plane.relay.exited();
  await eventually(() => assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' }));
});

test('a reload turns it on and off, and gives it another port; mail goes on', async (t) => {
  const relay = await RelayFixture.start(QUIET);
  t.after(() => relay.destroy());
  let ready = relay.logLine('http.ready');
  relay.configure({ http: { enabled: true, port: 0 } });
  await relay.reload();
  const url = String((await ready).address);
  assert.equal((await ask(`${url}/health/live`)).status, 200);
  ready = relay.logLine('http.ready');
  relay.configure({ http: { allowed_hosts: ['ops.example.com'] } });
  await relay.reload();
  const other = String((await ready).address);
  await assert.rejects(ask(`${url}/health/live`));
  assert.equal((await ask(`${other}/health/live`)).status, 200);
  // What does not concern it leaves it alone.
  relay.configure({ smtp: { vrfy: true } });
  await relay.reload();
  assert.equal((await ask(`${other}/health/live`)).status, 200);
  // A port that is taken is a problem of the reload, and tried again.
  const taken = createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await new Promise((listening) => taken.once('listening', listening));
  relay.configure({ http: { port: (taken.address() as AddressInfo).port } });
  const { code, stdout, stderr } = await relay.command('reload');
  assert.notEqual(code, 0);
  assert.match(stdout + stderr, /http cannot listen on 127\.0\.0\.1 port \d+: .*EADDRINUSE/);
  ready = relay.logLine('http.ready', undefined, 30_000);
  taken.close();
  assert.equal((await ask(`${String((await ready).address)}/health/live`)).status, 200);
  relay.configure({ http: { enabled: false } });
  await relay.reload();
  await assert.rejects(ask(`${other}/health/live`));
});

test('several relay processes have one plane', async (t) => {
  const plane = await withPlane(t, {}, { ...QUIET, accept_processes: 2 });
  const token = await plane.token('--role', 'viewer');
  await eventually(async () => {
    const { body } = await plane.get('/api/v1/status', token);
    assert.deepEqual(
      (body as { processes: { state: string }[] }).processes.map(({ state }) => state),
      ['ready', 'ready'],
    );
  });
  assert.deepEqual((await plane.get('/health/ready')).body, { ready: true, reasons: [], degraded: [] });
});

test('a start ends where the plane cannot serve', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await new Promise((listening) => taken.once('listening', listening));
  const { port } = taken.address() as AddressInfo;
  const cases: [object, number, RegExp][] = [
    [{ port }, 69, /http cannot listen on 127\.0\.0\.1 port \d+: .*EADDRINUSE/],
    [{ host: '0.0.0.0', behind_proxy: false }, 78, /http\.host: 0\.0\.0\.0 is reached from elsewhere/],
    [{ tls: { cert_file: 'none.pem' } }, 78, /none\.pem/],
  ];
  for (const [http, code, said] of cases) {
    const relay = new RelayFixture({ ...QUIET, http: { enabled: true, port: 0, ...http } });
    t.after(() => relay.destroy());
    relay.launch();
    assert.equal((await relay.exited()).code, code, relay.output());
    assert.match(relay.stderr, said);
  }
  const folder = new RelayFixture({ ...QUIET });
  t.after(() => folder.destroy());
  const { certificate, key } = makeSelfSigned(['relay.test'], 10, 'ecdsa');
  writeFileSync(join(folder.dir, 'cert.pem'), certificate + key, { mode: 0o600 });
  folder.configure({ http: { enabled: true, host: '0.0.0.0', port: 0, tls: { cert_file: '../cert.pem' } } });
  folder.launch();
  assert.equal((await folder.exited()).code, 78);
  assert.match(folder.stderr, /there is no token in .*tokens\.json: make one with protorelay token create/);
});

test('over TLS, with a certificate that is renewed', async (t) => {
  const relay = new RelayFixture({ ...QUIET, tls: { watch_interval_ms: 100 } });
  t.after(() => relay.destroy());
  const file = join(relay.dir, 'cert.pem');
  const put = (name: string): string => {
    const { certificate, key } = makeSelfSigned([name], 10, 'ecdsa');
    writeFileSync(file, certificate + key, { mode: 0o600 });
    return certificate;
  };
  put('first.test');
  relay.configure({ http: { enabled: true, port: 0, tls: { cert_file: '../cert.pem' } } });
  const ready = relay.logLine('http.ready');
  await relay.start();
  const url = String((await ready).address);
  assert.match(url, /^https:/);
  assert.equal(await certificateOf(url), 'first.test');
  const renewed = relay.logLine('http.certificate_renewed');
  put('second.test');
  await renewed;
  assert.equal(await certificateOf(url), 'second.test');
  const unusable = relay.logLine('http.certificate_unusable');
  writeFileSync(file, 'nothing', { mode: 0o600 });
  await unusable;
  assert.equal(await certificateOf(url), 'second.test');
});

/** The name in the certificate; the answer must be there as well. */
function certificateOf(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { rejectUnauthorized: false, headers: { Host: 'localhost' }, agent: false as const };
    const asked = request(`${url}/health/live`, options, (response) => {
      const { subjectaltname = '' } = (response.socket as import('node:tls').TLSSocket).getPeerCertificate();
      response.resume();
      response.once('end', () =>
        response.statusCode === 200
          ? resolve(subjectaltname.replace('DNS:', ''))
          : reject(response.statusCode),
      );
    });
    asked.once('error', reject).end();
  });
}
