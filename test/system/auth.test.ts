/** Users, quotas and AUTH at a smarthost, on real relays that are killed, reloaded and run in several processes. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { run } from '../support/child.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const options = { timeout: 90_000 };
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const plain = (user: string, password: string): string => `AUTH PLAIN ${base64(`\0${user}\0${password}`)}`;

async function relayWith(t: TestContext, settings: Settings): Promise<RelayFixture> {
  const relay = await RelayFixture.start({
    listeners: [{ host: '127.0.0.1', port: 0, auth: 'optional' }],
    relay_networks: [],
    delivery: { enabled: false },
    ...settings,
  });
  t.after(() => relay.destroy());
  return relay;
}

const users = (...list: object[]) => ({
  backends: [{ type: 'memory', users: list }],
  allow_without_tls: true,
  failure_delay_ms: 50,
});

async function loggedIn(relay: RelayFixture, user = 'u', password = 'p'): Promise<Talk> {
  const talk = await Talk.hello({ port: relay.port });
  assert.match(await talk.say(plain(user, password)), /^235 /);
  return talk;
}

test('a quota holds over kill -9 and restart', options, async (t) => {
  const auth = { ...users({ username: 'u', password: 'p' }), messages_per_day: 3, max_quota_users: 64 };
  const relay = await relayWith(t, { auth });
  const talk = await loggedIn(relay);
  for (let i = 0; i < 2; i++) await talk.send({ to: 'a@x.test' });
  await relay.kill();
  await relay.start();
  const again = await loggedIn(relay);
  await again.send({ to: 'a@x.test' });
  assert.match(await again.say('MAIL FROM:<a@x.test>'), /^451 4\.7\.1 Quota .* messages per day/);
  const other = await Talk.hello({ port: relay.port });
  assert.match(await other.say('MAIL FROM:<a@x.test>'), /^250/, 'who has not logged in has no quota');
});

test('a quota is one over the relay processes of a host, to the message', options, async (t) => {
  const auth = { ...users({ username: 'u', password: 'p', recipients_per_day: 45 }) };
  const relay = await relayWith(t, { auth, accept_processes: 2 });
  let accepted = 0;
  let refused = 0;
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      const talk = await loggedIn(relay);
      for (let i = 0; i < 5; i++) {
        await talk.say('MAIL FROM:<a@x.test>');
        await talk.say('RCPT TO:<b@x.test>');
        const data = await talk.say('DATA');
        const last = data.startsWith('354') ? await talk.say('Subject: x\r\n\r\nx\r\n.') : data;
        if (last.startsWith('250')) accepted++;
        else refused++;
        if (!last.startsWith('250')) await talk.say('RSET');
      }
      talk.socket.destroy();
    }),
  );
  assert.deepEqual([accepted, refused], [45, 15]);
});

test('users added, changed and deleted by command count at once', options, async (t) => {
  const auth = {
    backends: [{ type: 'file', path: 'users.txt' }],
    allow_without_tls: true,
    failure_delay_ms: 50,
  };
  const relay = await relayWith(t, { auth });
  const user = async (args: string[], input = ''): Promise<void> => {
    const ran = await run(process.execPath, [MAIN, '-c', relay.configPath, 'user', ...args], { input });
    assert.equal(ran.code, 0, ran.stderr);
  };
  const answer = async (password: string): Promise<string> => {
    const talk = await Talk.hello({ port: relay.port });
    const reply = await talk.say(plain('u', password));
    talk.socket.destroy();
    return reply.slice(0, 3);
  };
  const offered = async (): Promise<string | undefined> => {
    const talk = await Talk.open({ port: relay.port });
    const reply = await talk.say('EHLO c.test');
    talk.socket.destroy();
    return /AUTH (.*)/.exec(reply)?.[1];
  };
  assert.equal(await answer('p'), '454', 'the file is not there yet');
  assert.equal(await offered(), 'SCRAM-SHA-256 PLAIN LOGIN');
  await user(['add', 'u', 'sender_policy=login', '--scheme', 'argon2id'], 'p\n');
  const left = relay.logLine('auth.mechanisms_changed');
  assert.equal(await answer('p'), '235');
  assert.deepEqual((await left).not_offered, ['SCRAM-SHA-256']);
  assert.equal(await offered(), 'PLAIN LOGIN', 'nobody has a hash that SCRAM could use');
  const failed = relay.logLine('auth.failed');
  assert.equal(await answer('q'), '535');
  const { client_address: client, mechanism, ...rest } = await failed;
  assert.deepEqual([client, mechanism], ['127.0.0.1', 'PLAIN']);
  assert.ok(!JSON.stringify(rest).includes('"u"'));
  await user(['passwd', 'u'], 'q\n');
  assert.equal(await answer('p'), '535');
  assert.equal(await answer('q'), '235');
  await user(['delete', 'u']);
  assert.equal(await answer('q'), '535');
});

test(
  'a reload takes other users, another name and other limits; who is logged in stays it',
  options,
  async (t) => {
    const relay = await relayWith(t, { auth: users({ username: 'u', password: 'p' }) });
    const talk = await loggedIn(relay);
    relay.configure({
      auth: { ...users({ username: 'v', password: 'w' }), mechanisms: ['LOGIN', 'PLAIN'] },
      hostname: 'other.test',
      max_message_size: 4096,
      smtp: { max_recipients: 1, vrfy: true },
      database: { path: 'other.db' },
    });
    const { applied, needs_restart } = (await relay.reload()) as Record<string, string[]>;
    assert.deepEqual(applied?.sort(), [
      'auth.backends',
      'auth.mechanisms',
      'hostname',
      'max_message_size',
      'smtp.max_recipients',
      'smtp.vrfy',
    ]);
    assert.deepEqual(needs_restart, ['database.path']);
    const fresh = await Talk.open({ port: relay.port });
    assert.match(fresh.greeting, /^220 other\.test /);
    assert.match(await fresh.say('EHLO c.test'), /SIZE 4096\r?\n[\s\S]*AUTH LOGIN PLAIN/);
    assert.match(await fresh.say(plain('v', 'w')), /^235/);
    for (const [line, reply] of [
      ['MAIL FROM:<a@x.test>', /^250/],
      ['RCPT TO:<b@x.test>', /^250/],
      ['RCPT TO:<c@x.test>', /^452/],
    ] as const)
      assert.match(await fresh.say(line), reply);
    fresh.socket.destroy();
    await loggedIn(relay, 'v', 'w');
    const old = await Talk.hello({ port: relay.port });
    assert.match(await old.say(plain('u', 'p')), /^535/);
    await talk.send({ to: 'a@elsewhere.test' });
  },
);

test('on a Unix socket AUTH needs no TLS', options, async (t) => {
  const relay = await relayWith(t, {
    listeners: [
      { host: '127.0.0.1', port: 0, auth: 'required' },
      { path: 'smtp.sock', auth: 'required', submission: false },
    ],
    auth: { ...users({ username: 'u', password: 'p' }), allow_without_tls: false },
  });
  const tcp = await Talk.hello({ port: relay.port });
  assert.match(await tcp.say(plain('u', 'p')), /^538 5\.7\.11/);
  assert.match(await tcp.say('MAIL FROM:<a@x.test>'), /^530 5\.7\.0/);
  const unix = await Talk.hello({ path: join(relay.dataDir, 'smtp.sock') });
  assert.match(await unix.say(plain('u', 'p')), /^235/);
  await unix.send({ to: 'a@x.test' });
});

test(
  'what mail is selected by is kept: user, listener, Message-ID, chosen header fields',
  options,
  async (t) => {
    const relay = await relayWith(t, {
      listeners: [
        { name: 'submission', host: '127.0.0.1', port: 0, auth: 'required' },
        { host: '127.0.0.1', port: 0 },
      ],
      relay_networks: ['127.0.0.0/8'],
      auth: users({ username: 'ü"u', password: 'p' }),
      queue: { kept_headers: ['X-Campaign-ID', 'Subject'] },
    });
    const talk = await loggedIn(relay, 'ü"u');
    const campaign = 'x-campaign-id: spring\r\n sale\r\n';
    await talk.send({ to: 'a@x.test', content: `${campaign}Message-ID: <1@c.test>\r\n\r\nbody` });
    await talk.send({
      to: 'b@x.test',
      content: 'Subject: =?utf-8?q?M=C3=A4rz?=\r\n\r\nMessage-ID: <no@c.test>',
    });
    const long = `Message-ID: <2@c.test>\r\n${campaign}\r\n${`${'x'.repeat(998)}\r\n`.repeat(300)}`;
    await talk.send({ to: 'c@x.test', content: long });
    const event = await relay.events.one('accepted', ({ type }) => type === 'accepted');
    assert.equal(event.user, 'ü"u');
    assert.equal(event.protocol, 'ESMTPA');
    await relay.stop();
    const db = new DatabaseSync(join(relay.dataDir, 'queue.db'), { readOnly: true });
    t.after(() => db.close());
    const mails = db.prepare('SELECT id, message_id, auth_user, listener FROM mails ORDER BY id').all();
    const ids = mails.map(({ id }) => id as string);
    assert.deepEqual(
      mails.map((mail) => [mail.message_id, mail.auth_user, mail.listener]),
      ['1@c.test', `${ids[1]}@relay.test`, '2@c.test'].map((id) => [id, 'ü"u', 'submission']),
    );
    const kept = db.prepare('SELECT mail_id, name, value FROM mail_headers ORDER BY mail_id').all();
    assert.deepEqual(
      kept.map(({ mail_id, name, value }) => [ids.indexOf(mail_id as string), name, value]),
      [
        [0, 'x-campaign-id', 'spring sale'],
        [1, 'subject', 'März'],
        [2, 'x-campaign-id', 'spring sale'],
      ],
    );
  },
);

for (const mechanism of ['SCRAM-SHA-256', 'CRAM-MD5', 'PLAIN', 'LOGIN']) {
  test(`a smarthost with AUTH: ${mechanism}`, options, async (t) => {
    const sink = await ScriptedSink.start();
    t.after(() => sink.stop());
    const smarthost = await relayWith(t, {
      listeners: [{ host: '127.0.0.1', port: 0, auth: 'required' }],
      auth: users({ username: 'relay', password: 'p=,ss' }),
      delivery: { enabled: true, smarthost: { host: '127.0.0.1', port: sink.port } },
    });
    const hop = (password: string) => ({
      host: '127.0.0.1',
      port: smarthost.port,
      auth: { username: 'relay', password, mechanisms: [mechanism], allow_without_tls: true },
    });
    const relay = await relayWith(t, {
      relay_networks: ['127.0.0.1'],
      listeners: [{ host: '127.0.0.1', port: 0 }],
      retry: { initial_delay_ms: 200, jitter_ratio: 0 },
      delivery: { enabled: true, smarthost: hop('wr0ng') },
    });
    const talk = await Talk.hello({ port: relay.port });
    await talk.send({ to: 'a@x.test', content: 'Subject: through\r\n\r\nx\r\n' });
    const deferred = await relay.events.one('deferred', ({ type }) => type === 'deferred');
    assert.equal(deferred.reason, 'auth_failed');
    assert.match(String(deferred.detail), new RegExp(`^AUTH ${mechanism}: 535 5\\.7\\.8 `));
    relay.configure({ delivery: { smarthost: hop('p=,ss') } });
    await relay.reload();
    await relay.queue('flush', '--all');
    await sink.received(1);
    assert.match(sink.messages[0]?.content.toString() ?? '', /with ESMTPA id .*Subject: through/s);
    const kept = JSON.stringify(relay.log) + JSON.stringify(relay.events.events);
    assert.ok(!kept.includes('wr0ng') && !kept.includes(base64('\0relay\0wr0ng')));
  });
}
