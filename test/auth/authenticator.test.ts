/** The chain of backends: who wins, what a fault means, what is remembered, and that nothing tells who exists. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuthResult, Credentials } from '../../src/auth/auth.ts';
import { Authenticator } from '../../src/auth/authenticator.ts';
import { makeHash } from '../../src/auth/hashes.ts';
import { LoginDesk } from '../../src/auth/login-desk.ts';
import { openUserStore } from '../../src/auth/open-user-store.ts';
import { loadSecret } from '../../src/auth/secret.ts';
import { Aside } from '../../src/base/aside.ts';
import { configSchema } from '../../src/config/schema.ts';
import { cramDigest } from '../../src/protocol/sasl/cram-md5.ts';
import { scramKeys } from '../../src/protocol/sasl/scram.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'auth-chain-'));
const open: { close(): unknown }[] = [];
after(async () => {
  for (const one of open) await one.close();
  rmSync(dir, { recursive: true, force: true });
});

const SECRET = Buffer.alloc(32, 7);

function start(auth: object, logged: LogLine[] = [], now?: () => number): Authenticator {
  const one = new Authenticator(configSchema.parse({ auth }).auth, SECRET, recordingLog(logged), now);
  open.push(one);
  return one;
}

const ask = (one: Authenticator, credentials: Credentials): Promise<AuthResult> =>
  one.answer({ id: 1, credentials, client: '192.0.2.1' });
const login = (one: Authenticator, username: string, password: string): Promise<AuthResult> =>
  ask(one, { kind: 'password', username, password });
const resultOf = async (answer: Promise<AuthResult>): Promise<string> => (await answer).result;

const memory = (...users: object[]) => ({ type: 'memory', users });

test('memory: passwords, CRAM-MD5 and SCRAM', async () => {
  const one = start({ backends: [memory({ username: 'a', password: 'p', messages_per_day: 3 })] });
  const accepted = await login(one, 'a', 'p');
  assert.ok(accepted.result === 'accepted');
  assert.equal(accepted.user.rules.quotas.messagesPerDay, 3);
  assert.equal(await resultOf(login(one, 'a', 'P')), 'rejected');
  assert.equal(await resultOf(login(one, 'b', 'p')), 'rejected');
  assert.equal(await resultOf(login(one, 'b', 'b\0')), 'rejected');
  const challenge = '<1@x>';
  const cram = (username: string, password: string) =>
    resultOf(ask(one, { kind: 'cram-md5', username, challenge, digest: cramDigest(challenge, password) }));
  assert.equal(await cram('a', 'p'), 'accepted');
  assert.equal(await cram('a', 'q'), 'rejected');
  assert.equal(await cram('b', 'b'), 'rejected');
  const keys = await ask(one, { kind: 'scram', username: 'a' });
  assert.ok(keys.result === 'keys');
  assert.equal(keys.user?.name, 'a');
  const { salt, iterations, storedKey } = keys.keys;
  assert.deepEqual(Buffer.from(storedKey), scramKeys('p', salt, iterations).storedKey);
});

test('memory: more users than logins may wait have their SCRAM keys', async () => {
  const many = Array.from({ length: 30 }, (_, i) => ({ username: `u${i}`, password: 'p' }));
  const one = start({ backends: [memory(...many)], max_pending: 2 });
  const keys = await ask(one, { kind: 'scram', username: 'u29' });
  assert.ok(keys.result === 'keys' && keys.user !== null);
});

test('SCRAM: a user who does not exist has keys like others, the same after a restart', async () => {
  const auth = { backends: [memory({ username: 'a', password: 'p' })] };
  const [real, none] = [
    await ask(start(auth), { kind: 'scram', username: 'a' }),
    await ask(start(auth), { kind: 'scram', username: 'nobody' }),
  ];
  assert.ok(real.result === 'keys' && none.result === 'keys');
  assert.equal(none.user, null);
  assert.equal(none.keys.iterations, real.keys.iterations);
  assert.equal(none.keys.salt.length, real.keys.salt.length);
  assert.deepEqual(await ask(start(auth), { kind: 'scram', username: 'nobody' }), none);
  const other = await ask(start(auth), { kind: 'scram', username: 'nobody2' });
  assert.ok(other.result === 'keys');
  assert.notDeepEqual(other.keys.salt, none.keys.salt);
});

test('file: every kind of hash, reloaded when it changes, remembered logins with it', async () => {
  const path = join(dir, 'users.txt');
  const write = (users: Record<string, string>): void => {
    writeFileSync(
      `${path}.tmp`,
      Object.entries(users)
        .map(([name, hash]) => `${name}:${hash}\n`)
        .join(''),
    );
    renameSync(`${path}.tmp`, path);
  };
  const users = Object.fromEntries(
    (['bcrypt', 'scrypt', 'argon2id', 'sha512-crypt', 'scram-sha-256', 'plain'] as const).map((scheme) => [
      scheme,
      makeHash(`p-${scheme}`, scheme),
    ]),
  );
  write(users);
  const logged: LogLine[] = [];
  const one = start({ backends: [{ type: 'file', path }] }, logged);
  for (const scheme of Object.keys(users)) {
    assert.equal(await resultOf(login(one, scheme, `p-${scheme}`)), 'accepted', scheme);
    assert.equal(await resultOf(login(one, scheme, 'wrong')), 'rejected', scheme);
  }
  assert.equal(
    await resultOf(login(one, 'nobody', 'p-bcrypt')),
    'rejected',
    'the sample’s password lets no other in',
  );
  const scram = await ask(one, { kind: 'scram', username: 'scram-sha-256' });
  assert.ok(scram.result === 'keys' && scram.user !== null);
  const bcrypt = await ask(one, { kind: 'scram', username: 'bcrypt' });
  assert.ok(bcrypt.result === 'keys' && bcrypt.user === null, 'from bcrypt no SCRAM keys can be had');

  write({ ...users, bcrypt: makeHash('new', 'scrypt') });
  assert.equal(await resultOf(login(one, 'bcrypt', 'p-bcrypt')), 'rejected', 'though it was remembered');
  assert.equal(await resultOf(login(one, 'bcrypt', 'new')), 'accepted');
  rmSync(path);
  assert.equal(await resultOf(login(one, 'scrypt', 'p-scrypt')), 'unavailable');
  assert.equal(logged.filter(({ event }) => event === 'auth.backend_failed').length, 1);
  write(users);
  assert.equal(await resultOf(login(one, 'scrypt', 'p-scrypt')), 'accepted');
});

test('a verified login is remembered for its time, a failed one never', async () => {
  const path = join(dir, 'cache.txt');
  writeFileSync(path, `a:${makeHash('p', 'scrypt')}\n`);
  const one = start({ backends: [{ type: 'file', path }], cache_ttl_ms: 60_000, cache_max_entries: 10 });
  const msOf = async (password: string): Promise<number> => {
    const from = performance.now();
    await login(one, 'a', password);
    return performance.now() - from;
  };
  await msOf('p');
  const remembered = Math.min(await msOf('p'), await msOf('p'));
  const wrong = Math.min(await msOf('q'), await msOf('q'));
  assert.ok(remembered < wrong / 3, `${remembered} ms remembered, ${wrong} ms for a hash`);
  const without = start({ backends: [{ type: 'file', path }], cache_ttl_ms: 0 });
  await login(without, 'a', 'p');
  const from = performance.now();
  await login(without, 'a', 'p');
  assert.ok(performance.now() - from > remembered * 3);
});

test('an unknown user takes as long as a wrong password', async () => {
  const path = join(dir, 'timing.txt');
  writeFileSync(path, `a:${makeHash('p', 'scrypt')}\n`);
  const one = start({ backends: [{ type: 'file', path }] });
  const least = { a: Number.POSITIVE_INFINITY, nobody: Number.POSITIVE_INFINITY };
  await login(one, 'a', 'wrong');
  for (let i = 0; i < 5; i++)
    for (const username of ['a', 'nobody'] as const) {
      const from = performance.now();
      await login(one, username, 'wrong');
      least[username] = Math.min(least[username], performance.now() - from);
    }
  // A hash takes some hundred times as long as everything else; a busy machine does not blur that.
  assert.ok(least.nobody > least.a / 4 && least.a > least.nobody / 4, JSON.stringify(least));
});

test('what the stored hashes can serve: of files and tables, as they are now; nothing stored is as all', async () => {
  const file = join(dir, 'kinds.txt');
  const table = join(dir, 'kinds.db');
  const both = [
    { type: 'file', path: file },
    { type: 'database', path: table },
    { type: 'http', url: 'http://127.0.0.1:9/' },
  ];
  const all = { scram: true, cram: true };
  const none = { scram: false, cram: false };
  const one = start({ backends: both });
  assert.deepEqual(await one.serves(), all, 'neither is there yet');
  writeFileSync(file, `a:${makeHash('p', 'bcrypt')}\n`);
  const store = openUserStore(configSchema.parse({ auth: { backends: [both[1]] } }), {}, () => assert.fail());
  assert.deepEqual(await one.serves(), all, 'the table is empty');
  await store.add('b', makeHash('p', 'argon2id'), {});
  assert.deepEqual(await one.serves(), none);
  writeFileSync(file, `a:${makeHash('p', 'bcrypt')}\nc:{PLAIN}p\n`);
  assert.deepEqual(await one.serves(), { scram: false, cram: true });
  await store.add('d', makeHash('p', 'scram-sha-256'), {});
  await store.close();
  assert.deepEqual(await one.serves(), { scram: false, cram: true }, 'a table is looked at once');
  one.reconfigure(configSchema.parse({ auth: { backends: both } }).auth);
  assert.deepEqual(await one.serves(), all);
  assert.deepEqual(await start({ backends: [both[2]] }).serves(), none);
  const query = 'SELECT hash FROM users WHERE username = ?';
  assert.deepEqual(await start({ backends: [{ ...both[1], query }] }).serves(), all);
});

test('database: the table of protorelay user, and a query of one’s own', async () => {
  const path = join(dir, 'users.db');
  const config = configSchema.parse({ auth: { backends: [{ type: 'database', path }] } });
  const store = openUserStore(config, {}, () => assert.fail('no server is asked'));
  await store.add('a', makeHash('p', 'argon2id'), { senders: '@x.test', recipients_per_hour: '9' });
  await store.add('s', makeHash('p', 'scram-sha-256'), {});
  const one = start({ backends: [{ type: 'database', path }], cache_ttl_ms: 0 });
  const accepted = await login(one, 'a', 'p');
  assert.ok(accepted.result === 'accepted');
  assert.deepEqual(accepted.user.rules.senders, ['@x.test']);
  assert.equal(accepted.user.rules.quotas.recipientsPerHour, 9);
  assert.equal(await resultOf(login(one, 'a', 'q')), 'rejected');
  assert.equal(await resultOf(login(one, 'nobody', 'p')), 'rejected');
  const keys = await ask(one, { kind: 'scram', username: 's' });
  assert.ok(keys.result === 'keys' && keys.user !== null);
  await store.setHash('a', makeHash('q', 'scrypt'));
  assert.equal(await resultOf(login(one, 'a', 'q')), 'accepted', 'what changes in the table holds at once');
  await store.close();

  const query = `SELECT hash, 'login' AS sender_policy FROM users WHERE username = lower(?)`;
  const own = await login(start({ backends: [{ type: 'database', path, query }] }), 'A', 'q');
  assert.ok(own.result === 'accepted');
  assert.equal(own.user.rules.senderPolicy, 'login');
  const logged: LogLine[] = [];
  const broken = start(
    { backends: [{ type: 'database', path, query: 'SELECT x FROM y WHERE z = ?' }] },
    logged,
  );
  assert.equal(await resultOf(login(broken, 'a', 'q')), 'unavailable');
  assert.match(String(logged[0]?.fields.error), /no such table: y/);
});

interface Answers {
  server: Server;
  url: string;
  asked: { body: Record<string, unknown>; authorization: string | undefined }[];
  next: { status: number; body: string; delayMs?: number };
}

async function httpAnswers(): Promise<Answers> {
  const asked: Answers['asked'] = [];
  const answers: Answers = {
    server: createServer(),
    url: '',
    asked,
    next: { status: 200, body: '{"ok":true}' },
  };
  answers.server.on('request', (request, response) => {
    let text = '';
    request.on('data', (piece) => {
      text += piece;
    });
    request.on('end', () => {
      asked.push({ body: JSON.parse(text), authorization: request.headers.authorization });
      const { status, body, delayMs = 0 } = answers.next;
      setTimeout(() => response.writeHead(status).end(body), delayMs);
    });
  });
  await new Promise<void>((done) => answers.server.listen(0, '127.0.0.1', done));
  answers.url = `http://127.0.0.1:${(answers.server.address() as AddressInfo).port}/login`;
  open.push({ close: () => answers.server.closeAllConnections() }, answers.server);
  return answers;
}

test('http: asks, believes a clear answer only, and falls through to the next backend', async () => {
  const answers = await httpAnswers();
  const { url } = answers;
  const headers = { authorization: 'Bearer token' };
  const logged: LogLine[] = [];
  const one = start(
    {
      backends: [{ type: 'http', url, headers, timeout_ms: 1000 }, memory({ username: 'm', password: 'p' })],
      cache_ttl_ms: 0,
    },
    logged,
  );
  answers.next.body = '{"ok":true,"senders":["a@x.test"],"messages_per_hour":4,"other":1}';
  const accepted = await login(one, 'a', 'p');
  assert.ok(accepted.result === 'accepted');
  assert.equal(accepted.user.rules.quotas.messagesPerHour, 4);
  assert.deepEqual(answers.asked, [
    { body: { username: 'a', password: 'p', client: '192.0.2.1' }, authorization: 'Bearer token' },
  ]);
  for (const [status, body] of [
    [200, '{"ok":false}'],
    [401, ''],
    [403, 'no'],
  ] as const) {
    answers.next = { status, body };
    assert.equal(await resultOf(login(one, 'a', 'p')), 'rejected', body);
    assert.equal(await resultOf(login(one, 'm', 'p')), 'accepted');
  }
  for (const next of [
    { status: 500, body: '{"ok":true}' },
    { status: 302, body: '' },
    { status: 200, body: 'yes' },
    { status: 200, body: '{"ok":1}' },
    { status: 200, body: '{"ok":true,"messages_per_hour":"many"}' },
    { status: 200, body: `{"ok":true,"x":"${'x'.repeat(70_000)}"}` },
    { status: 200, body: '{"ok":true}', delayMs: 3000 },
  ]) {
    answers.next = next;
    assert.equal(await resultOf(login(one, 'a', 'p')), 'unavailable', JSON.stringify(next).slice(0, 60));
    assert.equal(await resultOf(login(one, 'm', 'p')), 'accepted', 'another backend knows');
  }
  assert.equal(
    logged.filter(({ event }) => event === 'auth.backend_failed').length,
    1,
    'one line in ten seconds',
  );
  assert.ok(!JSON.stringify(logged).includes('Bearer'));
});

test('more logins than may wait are turned away at once', async () => {
  const answers = await httpAnswers();
  answers.next = { status: 200, body: '{"ok":true}', delayMs: 100 };
  const one = start({ backends: [{ type: 'http', url: answers.url }], max_pending: 2 });
  const results = await Promise.all(['a', 'b', 'c'].map((name) => resultOf(login(one, name, 'p'))));
  assert.deepEqual(results, ['accepted', 'accepted', 'unavailable']);
  const waiting = ['c', 'd'].map((name) => resultOf(login(one, name, 'p')));
  assert.equal(await resultOf(login(one, 'a', 'p')), 'accepted', 'who is remembered need not wait');
  await Promise.all(waiting);
});

test('one client’s guesses take turns with others; names and passwords beyond any bound are not hashed', async () => {
  const answers = await httpAnswers();
  answers.next = { status: 200, body: '{"ok":false}', delayMs: 20 };
  const one = start({ backends: [{ type: 'http', url: answers.url }], max_pending: 400 });
  const from = (client: string, username: string, password = 'p'): Promise<string> =>
    resultOf(one.answer({ id: 1, credentials: { kind: 'password', username, password }, client }));
  const order: string[] = [];
  const guesses = Array.from({ length: 300 }, (_, i) =>
    from('198.51.100.1', `u${i}`).then((result) => void (result === 'rejected' && order.push('guess'))),
  );
  const honest = from('192.0.2.9', 'a').then(() => void order.push('honest'));
  await honest;
  assert.ok(order.length < 40, `${order.length} guesses went before`);
  await Promise.all(guesses);
  assert.ok(order.length < 130, 'a quarter of those that may wait');
  const asked = answers.asked.length;
  assert.equal(await from('192.0.2.9', 'a', 'x'.repeat(1025)), 'rejected');
  assert.equal(await from('192.0.2.9', 'x'.repeat(1025)), 'rejected');
  assert.equal(answers.asked.length, asked, 'nobody was asked');
});

test('who proved a login by SCRAM goes before strangers, who failed one behind them', async () => {
  const answers = await httpAnswers();
  answers.next = { status: 200, body: '{"ok":false}', delayMs: 20 };
  const config = configSchema.parse({
    listeners: [{ port: 0, auth: 'required' }],
    auth: { backends: [{ type: 'http', url: answers.url }], max_pending: 400, path: join(dir, 'desk') },
  });
  const strangers = Array.from({ length: 90 }, (_, i) => `198.51.100.${i}`);
  const failing = Array.from({ length: 10 }, (_, i) => `203.0.113.${i}`);
  // The places are taken before anybody waits. A client may have another address of its /64 by now.
  const clients = [...strangers.slice(0, 20), ...failing, ...strangers.slice(20), '2001:db8::9'];
  const order: string[] = [];
  const port = {
    loginAnswered: (_: number, { id }: { id: number }): void => void order.push(clients[id] as string),
  };
  const log = recordingLog([]);
  const desk = new LoginDesk(config, log, port, new Aside(log));
  open.push(desk);
  desk.take(0, {
    requests: [],
    failures: failing.map((client) => ({ client, session: 's', mechanism: 'SCRAM-SHA-256' })),
    proofs: [{ client: '2001:db8::1', username: 'u' }],
  });
  const credentials = { kind: 'password', username: 'u', password: 'p' } as const;
  desk.take(0, {
    requests: clients.map((client, id) => ({ id, credentials, client })),
    failures: [],
    proofs: [],
  });
  while (order.length < clients.length) await sleep(10);
  assert.ok(order.indexOf('2001:db8::9') < 40, `${order.indexOf('2001:db8::9')} went before who is known`);
  const last = order.indexOf('203.0.113.9');
  assert.ok(last > 60, `${last} went before the last that failed`);
});

test('a reload takes other users, and forgets logins', async () => {
  const one = start({ backends: [memory({ username: 'a', password: 'p' })] });
  assert.equal(await resultOf(login(one, 'a', 'p')), 'accepted');
  one.reconfigure(
    configSchema.parse({ auth: { backends: [memory({ username: 'a', password: 'q' })] } }).auth,
  );
  assert.equal(await resultOf(login(one, 'a', 'p')), 'rejected');
  assert.equal(await resultOf(login(one, 'a', 'q')), 'accepted');
});

const PAM_EXEC = ['/lib/x86_64-linux-gnu/security', '/lib/aarch64-linux-gnu/security', '/usr/lib/security']
  .map((folder) => join(folder, 'pam_exec.so'))
  .find((path) => existsSync(path));

test('pam: a service decides; a service that is not there is a fault', {
  skip: PAM_EXEC ? false : 'no pam_exec here',
}, async () => {
  const services = mkdtempSync(join(dir, 'pam.d-'));
  const check = join(services, 'check.sh');
  // pam_exec ends the password with NUL.
  writeFileSync(
    check,
    '#!/bin/sh\n[ "$PAM_USER" = a ] && [ "$PAM_RHOST" = 192.0.2.1 ] && [ "$(tr -d \'\\0\')" = "p ä" ]\n',
  );
  chmodSync(check, 0o755);
  const module = PAM_EXEC as string;
  writeFileSync(
    join(services, 'relay-test'),
    `auth sufficient ${module} expose_authtok quiet ${check}\nauth required pam_deny.so\naccount required pam_permit.so\n`,
  );
  writeFileSync(
    join(services, 'expired'),
    `auth sufficient ${module} expose_authtok quiet ${check}\nauth required pam_deny.so\naccount required pam_deny.so\n`,
  );
  const pam = (service: string, logged: LogLine[] = []) =>
    start({ backends: [{ type: 'pam', service, config_dir: services }], cache_ttl_ms: 0 }, logged);
  const one = pam('relay-test');
  assert.equal(await resultOf(login(one, 'a', 'p ä')), 'accepted');
  assert.equal(await resultOf(login(one, 'a', 'p')), 'rejected');
  assert.equal(await resultOf(login(one, 'b', 'p ä')), 'rejected');
  assert.equal(await resultOf(login(pam('expired'), 'a', 'p ä')), 'rejected', 'account rules count');
  const logged: LogLine[] = [];
  assert.equal(await resultOf(login(pam('missing', logged), 'a', 'p ä')), 'unavailable');
  assert.match(String(logged[0]?.fields.error), /PAM failed with code/);
});

test('the secret of an installation is made once, for itself alone', () => {
  const folder = join(dir, 'state');
  const secret = loadSecret(folder);
  assert.equal(secret.length, 32);
  assert.deepEqual(loadSecret(folder), secret);
  writeFileSync(join(folder, 'secret'), 'short');
  assert.notDeepEqual(loadSecret(folder), secret);
});
