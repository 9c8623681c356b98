/**
 * AUTH at next hops through the whole relay, over STARTTLS: Postfix with Cyrus SASL, GNU SASL, a scripted peer, and our own
 * server where no other has -PLUS.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { Postfix, skipWithoutPostfix } from '../services/postfix.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { run } from '../support/child.ts';
import { skipWithout } from '../support/programs.ts';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const MECHANISMS = ['PLAIN', 'LOGIN', 'CRAM-MD5', 'SCRAM-SHA-256'];
const PASSWORD = 'p=,ss wörd';
const WRONG = 'wr0ng s3cret';
const options = { timeout: 120_000, skip: lacksOpenssl };

let authority: Authority;

before(() => {
  if (lacksOpenssl === false) authority = new Authority();
});
after(() => authority?.remove());

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** A relay whose smarthost wants AUTH over TLS, with a certificate of our authority. */
async function relayTo(
  t: TestContext,
  port: number,
  auth: Settings,
  more: Settings = {},
): Promise<RelayFixture> {
  const relay = await RelayFixture.start({
    relay_networks: ['127.0.0.1'],
    retry: { initial_delay_ms: 60_000, jitter_ratio: 0 },
    delivery: {
      tls: { ca_file: authority.caFile },
      smarthost: { host: '127.0.0.1', port, tls: { mode: 'verify' }, auth },
    },
    log: { transcripts: { inbound: true, outbound: ['smart*'] } },
    ...more,
  });
  t.after(() => relay.destroy());
  return relay;
}

/** Nothing that is kept has one of the secrets in it, plain or encoded; nor has it what else an exchange of AUTH says. */
function assertNoSecret(relay: RelayFixture, ...secrets: string[]): void {
  const said = relay.log.filter(({ event }) => event === 'delivery.transcript');
  assert.ok(
    said.some(({ line }) => /^AUTH [A-Z0-9-]+( …)?$/.test(String(line))),
    'the dialog is in the log',
  );
  for (const { line } of said)
    assert.doesNotMatch(
      String(line),
      /^(334 .|235 .|AUTH \S+ .)(?<!…)|^[\w+/]+=*$(?<!^(DATA|QUIT|STARTTLS|RSET)$)/,
    );
  const kept = JSON.stringify(relay.log) + JSON.stringify(relay.events.events) + relay.stderr;
  for (const secret of secrets)
    for (const form of [
      secret,
      base64(secret),
      base64(`\0relay\0${secret}`),
      base64(`\0relay@postfix.test\0${secret}`),
    ])
      assert.ok(!kept.includes(JSON.stringify(form).slice(1, -1)), `${form} was kept`);
}

test('Postfix with Cyrus SASL over STARTTLS', {
  timeout: 180_000,
  skip: lacksOpenssl || skipWithoutPostfix(),
}, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const postfix = await Postfix.start({
    mechanisms: MECHANISMS,
    user: 'relay',
    password: PASSWORD,
    identity: authority.issue(['127.0.0.1']),
    relayPort: sink.port,
  });
  t.after(() => postfix.close());
  for (const mechanism of MECHANISMS)
    await t.test(mechanism, async (t) => {
      const auth = (password: string) => ({ username: 'relay', password });
      const relay = await relayTo(t, postfix.ports.get(mechanism) as number, auth(WRONG));
      const talk = await Talk.hello({ port: relay.port });
      await talk.send({ to: 'a@x.test', content: `Subject: by ${mechanism}\r\n\r\nx\r\n` });
      const deferred = await relay.events.one('deferred', ({ type }) => type === 'deferred');
      assert.equal(deferred.reason, 'auth_failed');
      assert.match(
        String(deferred.detail),
        new RegExp(`^AUTH ${mechanism}: 535 5\\.7\\.8 .*127\\.0\\.0\\.1`),
      );
      const from = sink.messages.length;
      relay.configure({ delivery: { smarthost: { auth: auth(PASSWORD) } } });
      await relay.reload();
      await relay.queue('flush', '--all');
      const delivered = await relay.events.one('delivered', ({ type }) => type === 'delivered', 30_000);
      assert.match(String(delivered.tls_version), /^TLSv1\.3$/);
      await sink.received(from + 1);
      const content = sink.messages[from]?.content.toString() ?? '';
      assert.match(
        content,
        /\(Authenticated sender: relay(?:@postfix\.test)?\)\s+by postfix\.test \(Postfix\) with ESMTPSA/,
      );
      assert.match(content, new RegExp(`Subject: by ${mechanism}\r\n`));
      assert.match(postfix.log, new RegExp(`sasl_method=${mechanism}, sasl_username=relay`));
      assertNoSecret(relay, WRONG, PASSWORD);
    });
});

test('a smarthost that refuses the password over and over is named in the log', options, async (t) => {
  const tls = authority.issue(['127.0.0.1']);
  const sink = await ScriptedSink.start({
    tls,
    capabilities: ['AUTH PLAIN'],
    auth: () => '535 5.7.8 who are you?',
  });
  t.after(() => sink.stop());
  const relay = await relayTo(t, sink.port, { username: 'relay', password: WRONG });
  const suspended = relay.logLine('destination.suspended', undefined, 60_000);
  const talk = await Talk.hello({ port: relay.port });
  for (let i = 0; i < 8; i++) await talk.send({ to: `a${i}@x.test` });
  const { reason, destination } = await suspended;
  assert.equal(destination, 'smarthost');
  assert.match(String(reason), /^AUTH PLAIN: 535 5\.7\.8 who are you\?/);
  assert.deepEqual(sink.messages, [], 'no mail without AUTH');
  assertNoSecret(relay, WRONG);
});

test('without TLS, or with that of another, a smarthost learns no password', options, async (t) => {
  const other = new Authority();
  t.after(() => other.remove());
  for (const tls of [undefined, other.issue(['127.0.0.1'])]) {
    const sink = await ScriptedSink.start({
      ...(tls === undefined ? {} : { tls }),
      capabilities: ['AUTH PLAIN LOGIN'],
      auth: () => '235 2.7.0 thank you',
    });
    t.after(() => sink.stop());
    const relay = await relayTo(t, sink.port, { username: 'relay', password: PASSWORD });
    const talk = await Talk.hello({ port: relay.port });
    await talk.send({ to: 'a@x.test' });
    const deferred = await relay.events.one('deferred', ({ type }) => type === 'deferred');
    assert.equal(deferred.reason, 'tls_failed');
    assert.ok(!sink.commands.some((line) => line.includes('AUTH')));
  }
});

test(
  'XOAUTH2 over STARTTLS: a token that was renewed is used, a refused one explained',
  options,
  async (t) => {
    const good = `AUTH XOAUTH2 ${base64('user=relay\x01auth=Bearer t0ken-2\x01\x01')}`;
    const sink = await ScriptedSink.start({
      tls: authority.issue(['127.0.0.1']),
      capabilities: ['PIPELINING', 'AUTH XOAUTH2'],
      auth(line) {
        if (line === good) return '235 2.7.0 accepted';
        return line === '' ? '535 5.7.8 token expired' : `334 ${base64('{"status":"401"}')}`;
      },
    });
    t.after(() => sink.stop());
    const auth = (token: string) => ({ username: 'relay', access_token: token });
    const relay = await relayTo(t, sink.port, auth('t0ken-1'));
    const talk = await Talk.hello({ port: relay.port });
    await talk.send({ to: 'a@x.test' });
    const deferred = await relay.events.one('deferred', ({ type }) => type === 'deferred');
    assert.match(String(deferred.detail), /^AUTH XOAUTH2: 535 5\.7\.8 token expired/);
    relay.configure({ delivery: { smarthost: { auth: auth('t0ken-2') } } });
    await relay.reload();
    await relay.queue('flush', '--all');
    await sink.received(1);
    assert.deepEqual(sink.messages[0]?.fromParams, ['AUTH=<>']);
    assertNoSecret(relay, 't0ken-1', 't0ken-2', 'user=relay\x01auth=Bearer t0ken-1\x01\x01');
  },
);

test('who submitted a message is passed on, from memory and from the queue', options, async (t) => {
  let open = true;
  const sink = await ScriptedSink.start({
    tls: authority.issue(['127.0.0.1']),
    capabilities: ['PIPELINING', 'AUTH PLAIN'],
    auth: () => (open ? '235 2.7.0 accepted' : '454 4.7.0 later'),
  });
  t.after(() => sink.stop());
  const relay = await relayTo(
    t,
    sink.port,
    { username: 'relay', password: PASSWORD },
    {
      listeners: [{ host: '127.0.0.1', port: 0, auth: 'optional' }],
      auth: {
        backends: [{ type: 'memory', users: [{ username: 'u', password: 'p', senders: ['@x.test'] }] }],
        allow_without_tls: true,
      },
    },
  );
  const user = await Talk.hello({ port: relay.port });
  await user.say(`AUTH PLAIN ${base64('\0u\0p')}`);
  const stranger = await Talk.hello({ port: relay.port });
  const send = (talk: Talk, to: string, submitter: string) =>
    talk.send({ from: 'a@x.test', to, mailParameters: ` AUTH=${submitter}` });
  await send(user, 'one@y.test', 'e+3Dmc2@x.test');
  await send(user, 'two@y.test', 'e+3Dmc2@elsewhere.test');
  await send(stranger, 'three@y.test', 'e+3Dmc2@x.test');
  await sink.received(3);
  open = false;
  // Connections that were let in before stay usable: a new one is needed.
  relay.configure({ delivery: { idle_connection_ms: 0 } });
  await relay.reload();
  await send(user, 'four@y.test', 'e+3Dmc2@x.test');
  await relay.events.one('deferred', ({ type }) => type === 'deferred', 30_000);
  await relay.kill();
  open = true;
  await relay.start();
  await relay.queue('flush', '--all');
  await sink.received(4);
  const told = sink.messages.map(({ recipients, fromParams }) => [recipients[0]?.address, ...fromParams]);
  assert.deepEqual(told.sort(), [
    ['four@y.test', 'AUTH=e+3Dmc2@x.test'],
    ['one@y.test', 'AUTH=e+3Dmc2@x.test'],
    ['three@y.test', 'AUTH=<>'],
    ['two@y.test', 'AUTH=<>'],
  ]);
});

/** Our own server with the user 'relay', mail of whom goes to a sink. */
async function ownServer(t: TestContext, port = 0): Promise<RelayFixture> {
  const { certFile, keyFile } = authority.issue(['127.0.0.1', 'localhost']);
  const server = await RelayFixture.start({
    listeners: [{ host: '127.0.0.1', port: 0, tls: 'required', auth: 'required' }],
    tls: { cert_file: certFile, key_file: keyFile },
    auth: {
      backends: [{ type: 'memory', users: [{ username: 'relay', password: PASSWORD }] }],
      failure_delay_ms: 0,
    },
    delivery: port === 0 ? { enabled: false } : { smarthost: { host: '127.0.0.1', port } },
  });
  t.after(() => server.destroy());
  return server;
}

test('our own server: SCRAM-SHA-256-PLUS before SCRAM-SHA-256', options, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const server = await ownServer(t, sink.port);
  const login = server.logLine('auth.succeeded', undefined, 60_000);
  const relay = await relayTo(t, server.port, { username: 'relay', password: PASSWORD });
  const taken = relay.logLine('delivery.transcript', ({ line }) => /queued as/.test(String(line)), 30_000);
  const talk = await Talk.hello({ port: relay.port });
  await talk.send({ to: 'a@x.test' });
  await sink.received(1);
  const { mechanism, user } = await login;
  await taken;
  const said = relay.log.filter(({ event }) => event === 'delivery.transcript');
  const dialog = said.map(({ direction, line }) => `${direction} ${line}`);
  assert.deepEqual(dialog.slice(dialog.indexOf('sent AUTH SCRAM-SHA-256-PLUS …')).slice(0, 6), [
    'sent AUTH SCRAM-SHA-256-PLUS …',
    'received 334 …',
    'sent …',
    'received 334 …',
    'received 235 …',
    'sent MAIL FROM:<sender@client.test> SIZE=165 AUTH=<>',
  ]);
  const { queue_id: queueId } = await relay.events.one('delivered', ({ type }) => type === 'delivered');
  for (const { line, queue_id, session_id, peer_address } of said) {
    assert.equal(
      queue_id,
      /^(MAIL|RCPT|DATA|BDAT|\(content)/.test(String(line)) ? queueId : queue_id,
      `${line}`,
    );
    assert.deepEqual([session_id, peer_address], [said[0]?.session_id, '127.0.0.1']);
  }
  const closed = relay.logLine('delivery.closed');
  relay.configure({ log: { transcripts: { outbound: ['other.test'] } } });
  await relay.reload();
  await closed;
  await talk.send({ to: 'a@x.test' });
  await sink.received(2);
  assert.equal(relay.log.filter(({ event }) => event === 'delivery.opened').length, 1);
  assert.deepEqual([mechanism, user], ['SCRAM-SHA-256-PLUS', 'relay']);
  assert.match(sink.messages[0]?.content.toString() ?? '', /with ESMTPSA id/);
});

/** GNU SASL says STARTTLS without EHLO: this says EHLO for it, and then lets everything pass. */
async function greeted(t: TestContext, port: number): Promise<number> {
  const proxy = createServer(async (client) => {
    client.on('error', () => {});
    const talk = await Talk.hello({ port, host: '127.0.0.1' });
    const { socket } = talk;
    t.after(() => socket.destroy());
    socket.removeAllListeners('data');
    client.write(`${talk.greeting}\r\n`);
    client.pipe(socket).pipe(client);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.after(() => proxy.close());
  return (proxy.address() as AddressInfo).port;
}

for (const [version, priority] of [
  ['TLS 1.3: tls-exporter', 'NORMAL'],
  ['TLS 1.2: tls-unique', 'NORMAL:-VERS-ALL:+VERS-TLS1.2'],
] as const)
  test(`GNU SASL proves itself to our server with SCRAM-SHA-256-PLUS, ${version}`, {
    timeout: 90_000,
    skip: lacksOpenssl || skipWithout('gsasl'),
  }, async (t) => {
    const server = await ownServer(t);
    const port = await greeted(t, server.port);
    const gsasl = (password: string) =>
      run('gsasl', [
        ...['--smtp', '--starttls', '--connect', `localhost:${port}`, '--x509-ca-file', authority.caFile],
        ...['--mechanism', 'SCRAM-SHA-256-PLUS', '--authentication-id', 'relay', '--password', password],
        ...['--authorization-id', '', '--priority', priority],
      ]);
    const login = server.logLine('auth.succeeded', undefined, 60_000);
    login.catch(() => {}); // what gsasl says tells more
    const ran = await gsasl(PASSWORD);
    assert.match(ran.stdout + ran.stderr, /235 2\.7\.0/, ran.stdout + ran.stderr);
    assert.equal((await login).mechanism, 'SCRAM-SHA-256-PLUS');
    const refused = await gsasl('wrong');
    assert.match(refused.stdout + refused.stderr, /535 5\.7\.8/);
  });
