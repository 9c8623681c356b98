/** AUTH in a dialog: waits, hang-ups, long lines, what is logged, and whatever a client may send in an exchange. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AuthResult } from '../../src/auth/auth.ts';
import { cramDigest } from '../../src/protocol/sasl/cram-md5.ts';
import { type ChannelBinding, ScramClient, scramKeys } from '../../src/protocol/sasl/scram.ts';
import { createExchange, type Exchange, type MechanismName, type Step } from '../../src/session/sasl.ts';
import { DialogFixture } from './dialog-fixture.ts';

const SETTINGS = {
  listeners: [{ host: '127.0.0.1', port: 2525, auth: 'optional' }],
  auth: {
    backends: [{ type: 'memory', users: [{ username: 'test', password: 'pass' }] }],
    allow_without_tls: true,
    failure_delay_ms: 0,
  },
};
const GOOD = 'AUTH PLAIN AHRlc3QAcGFzcw==\r\n';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

function dialog(over: object = {}): { fixture: DialogFixture; id: number; say: (text: string) => string } {
  const fixture = new DialogFixture({ ...SETTINGS, ...over });
  const id = fixture.open();
  fixture.say(id, 'EHLO client.example\r\n');
  return { fixture, id, say: (text) => fixture.say(id, text) };
}

test('SCRAM-SHA-256 in a dialog, with and without an initial response', async () => {
  for (const initial of [true, false]) {
    const { say, fixture } = dialog();
    const client = new ScramClient('test', 'pass', 'nonce');
    let reply = say(`AUTH SCRAM-SHA-256${initial ? ` ${base64(client.first)}` : ''}\r\n`);
    if (!initial) {
      assert.equal(reply, '334 \r\n');
      reply = say(`${base64(client.first)}\r\n`);
    }
    const final = await client.final(Buffer.from(reply.slice(4), 'base64').toString());
    reply = say(`${base64(final as string)}\r\n`);
    assert.ok(client.isServer(Buffer.from(reply.slice(4), 'base64').toString()));
    assert.deepEqual(fixture.proofs, []);
    assert.match(say('\r\n'), /^235 2\.7\.0 /);
    assert.deepEqual(fixture.failures, []);
    assert.deepEqual(fixture.proofs, [{ client: '127.0.0.1', username: 'test' }]);
  }
});

test('SCRAM-SHA-256: a wrong password and a user who does not exist read the same', async () => {
  const heard: string[] = [];
  for (const [name, password] of [
    ['test', 'wrong'],
    ['nobody', 'nobody'],
  ] as const) {
    const { say, fixture } = dialog();
    const client = new ScramClient(name, password, 'nonce');
    const reply = say(`AUTH SCRAM-SHA-256 ${base64(client.first)}\r\n`);
    const final = await client.final(Buffer.from(reply.slice(4), 'base64').toString());
    heard.push(say(`${base64(final as string)}\r\n`));
    assert.deepEqual(
      fixture.failures.map(({ client: address, mechanism }) => [address, mechanism]),
      [['127.0.0.1', 'SCRAM-SHA-256']],
    );
  }
  assert.equal(heard[0], '535 5.7.8 Authentication credentials invalid\r\n');
  assert.equal(heard[1], heard[0]);
});

test('while the answer is awaited nothing is read, and what came along is answered after it', () => {
  const { fixture, id, say } = dialog();
  fixture.holdLogins = true;
  say('AUTH LOGIN\r\n');
  say('dGVzdA==\r\n');
  assert.equal(say('cGFzcw==\r\nMAIL FROM:<a@x.test>\r\nNOOP\r\n'), '');
  assert.equal(say('RSET\r\n'), '');
  const before = (fixture.reactor.sent[id] as string).length;
  fixture.answerLogins();
  fixture.reactor.flush();
  assert.deepEqual((fixture.reactor.sent[id] as string).slice(before).match(/^\d{3}/gm), [
    '235',
    '250',
    '250',
    '250',
  ]);
});

test('who authenticated in the clear is nobody after STARTTLS, to the policy too', () => {
  const limits = [{ count: 'messages', per: 'ip', limit: 1, interval_ms: 60_000 }];
  const { fixture, id, say } = dialog({
    listeners: [{ host: '127.0.0.1', port: 2525, auth: 'optional', tls: 'optional' }],
    tls: { cert_file: 'loaded-already.pem' },
    policy: { rates: { enabled: true, exempt: ['authenticated'], limits } },
  });
  assert.match(say(GOOD), /^235 /);
  assert.match(say('STARTTLS\r\n'), /^220 /);
  fixture.reactor.handshake(id, { facts: 'TLSv1.3 TLS_AES_128_GCM_SHA256 0 0 - - -' });
  say('EHLO client.example\r\n');
  const replies = ['MAIL FROM:<a@x.test>', 'RSET', 'MAIL FROM:<a@x.test>'].map((line) => say(`${line}\r\n`));
  assert.deepEqual(
    replies.map((reply) => reply.slice(0, 3)),
    ['250', '250', '450'],
  );
});

test('whoever hangs up or is drained while it waits leaves nothing behind', () => {
  for (const end of ['hangUp', 'drain', 'timeout'] as const) {
    const { fixture, id, say } = dialog();
    fixture.holdLogins = true;
    say(GOOD);
    if (end === 'hangUp') fixture.reactor.hangUp(id);
    else if (end === 'timeout') fixture.reactor.timeout(id);
    else fixture.server.drain(() => {});
    fixture.reactor.flush();
    fixture.answerLogins();
    assert.equal(fixture.server.open, 0, end);
    assert.ok(!(fixture.reactor.sent[id] as string).includes('235'));
  }
});

test('the delay counts from the client’s last word, and a good password has none', () => {
  const { fixture, id, say } = dialog({ auth: { ...SETTINGS.auth, failure_delay_ms: 1000 } });
  fixture.holdLogins = true;
  say('AUTH PLAIN AHRlc3QAd3Jvbmc=\r\n');
  fixture.nowMs += 400;
  fixture.clockSetMs = 86_400_000;
  fixture.answerLogins();
  fixture.reactor.flush();
  assert.equal(fixture.reactor.deadlineOf(id), 600);
  fixture.reactor.timeout(id);
  assert.match(fixture.reactor.sent[id] as string, /\r\n535 5\.7\.8 [^\r]*\r\n$/);
  say('AUTH PLAIN AHRlc3QAd3Jvbmc=\r\n');
  fixture.nowMs += 1001;
  fixture.answerLogins();
  fixture.reactor.flush();
  assert.match(
    fixture.reactor.sent[id] as string,
    /(535 5\.7\.8 [^\r]*\r\n.*){2}$/s,
    'late enough by itself',
  );
});

test('lines: 12,288 octets in an exchange, the limit of commands elsewhere', () => {
  const { say } = dialog({ auth: { ...SETTINGS.auth, max_auth_attempts: 100 } });
  const long = 'A'.repeat(12_288 - 2);
  say('AUTH PLAIN\r\n');
  assert.match(say(`${long.slice(0, 12_284)}\r\n`), /^501 5\.5\.2/, 'read, and no PLAIN message');
  say('AUTH PLAIN\r\n');
  assert.match(say(`${long}A\r\n`), /^500 5\.5\.6 Authentication exchange line is too long/);
  assert.match(say(`AUTH PLAIN ${long}\r\n`), /^500 5\.5\.6/);
  assert.match(say(`AUTH PLAIN ${'A'.repeat(12_000)}\r\n`), /^501 5\.5\.2/);
  assert.match(say(`NOOP ${'x'.repeat(2048 - 7)}\r\n`), /^250/);
  assert.match(say(`NOOP ${'x'.repeat(2048 - 6)}\r\n`), /^500 5\.5\.2 Line too long/);
  assert.match(
    say(`NOOP ${'é'.repeat(1022)}\r\n`),
    /^500 5\.5\.2 Line too long/,
    'octets count, not characters',
  );
  const without = new DialogFixture();
  assert.match(without.converse(`NOOP ${'x'.repeat(2048 - 6)}`), /^500 5\.5\.2 Line too long/);
});

test('a bare LF ends no line of an exchange', () => {
  const { say } = dialog();
  assert.match(say('AUTH LOGIN\r\n'), /^334 /);
  assert.match(say('dGVzdA==\ncGFzcw==\r\n'), /^501 5\.5\.2 [^\n]*\n$/);
  assert.match(say('AUTH PLAIN\nAHRlc3QAcGFzcw==\r\n'), /^500 5\.5\.2 [^\n]*\n$/);
  assert.match(say(GOOD), /^235 /);
});

test('neither transcript nor log has a name of a failed login, a password or a response', () => {
  const { fixture, say } = dialog({ log: { transcripts: { inbound: true } } });
  say('AUTH PLAIN AHVzZXIAc2VjcmV0\r\n');
  say('AUTH LOGIN\r\n');
  say('dXNlcg==\r\n');
  say('c2VjcmV0\r\n');
  say('AUTH NONE\r\n');
  say('c2VjcmV0\r\n');
  say('auth\tPLAIN c2VjcmV0\r\n');
  const text = JSON.stringify(fixture.logged);
  for (const secret of ['c2VjcmV0', 'dXNlcg', 'secret', 'VXNlcm5h', 'user'])
    assert.ok(!text.includes(secret), `${secret}: ${text}`);
  assert.ok(text.includes('AUTH …') && text.includes('334 …'));
  say(GOOD);
  assert.match(JSON.stringify(fixture.logged), /"auth\.succeeded".*"user":"test"/);
});

test('EHLO offers what the config lists and the backends can serve', () => {
  const { say } = dialog({ auth: { ...SETTINGS.auth, mechanisms: ['PLAIN'] } });
  assert.match(say('EHLO x\r\n'), /^250 AUTH PLAIN\r\n$/m);
  assert.match(say('AUTH LOGIN\r\n'), /^504 5\.5\.4/);
  const passwordsOnly = { ...SETTINGS.auth, backends: [{ type: 'http', url: 'http://127.0.0.1:9/' }] };
  assert.match(dialog({ auth: passwordsOnly }).say('EHLO x\r\n'), /^250 AUTH PLAIN LOGIN\r\n$/m);
});

const CHANNEL: ChannelBinding = { type: 'tls-exporter', octets: Buffer.from('binding of this connection') };

/** Of TLS 1.2, beside tls-exporter. */
const UNIQUE: ChannelBinding = { type: 'tls-unique', octets: Buffer.from('finished') };

function exchange(mechanism: MechanismName, channelBinding: ChannelBinding | null): Exchange {
  const channelBindings = channelBinding === null ? [] : [UNIQUE, channelBinding];
  return createExchange(mechanism, { nonce: () => 'server', nowMs: 0, hostname: 'h', channelBindings });
}

const KEYS: AuthResult = {
  result: 'keys',
  keys: scramKeys('pass', Buffer.from('salt'), 4096),
  user: {
    name: 'test',
    rules: {
      senderPolicy: 'any',
      senders: [],
      quotas: { messagesPerHour: 0, messagesPerDay: 0, recipientsPerHour: 0, recipientsPerDay: 0 },
    },
  },
};

async function play(one: Exchange, client: ScramClient): Promise<Step['kind']> {
  if (one.start(Buffer.from(client.first)).kind !== 'ask') return 'malformed';
  const first = one.answered(KEYS);
  assert.ok(first.kind === 'challenge');
  const step = one.respond(Buffer.from((await client.final(first.text)) as string));
  return step.kind === 'challenge' ? one.respond(Buffer.alloc(0)).kind : step.kind;
}

test('SCRAM-SHA-256-PLUS is bound to its connection', async () => {
  const plus = 'SCRAM-SHA-256-PLUS';
  assert.equal(
    await play(exchange(plus, CHANNEL), new ScramClient('test', 'pass', 'n', CHANNEL)),
    'accepted',
  );
  assert.equal(
    await play(exchange(plus, CHANNEL), new ScramClient('test', 'pass', 'n', UNIQUE)),
    'accepted',
    'either type that the connection has',
  );
  const mixed = { type: 'tls-unique', octets: CHANNEL.octets };
  assert.equal(await play(exchange(plus, CHANNEL), new ScramClient('test', 'pass', 'n', mixed)), 'rejected');
  const other = { ...CHANNEL, octets: Buffer.from('of another connection') };
  assert.equal(await play(exchange(plus, CHANNEL), new ScramClient('test', 'pass', 'n', other)), 'rejected');
  assert.equal(await play(exchange(plus, CHANNEL), new ScramClient('test', 'pass', 'n')), 'malformed');
  assert.equal(await play(exchange(plus, null), new ScramClient('test', 'pass', 'n', CHANNEL)), 'malformed');
  assert.equal(
    await play(exchange('SCRAM-SHA-256', CHANNEL), new ScramClient('test', 'pass', 'n')),
    'accepted',
  );
  assert.equal(
    await play(exchange('SCRAM-SHA-256', null), new ScramClient('test', 'pass', 'n', 'unoffered')),
    'accepted',
  );
  const hidden = exchange('SCRAM-SHA-256', CHANNEL).start(Buffer.from('y,,n=test,r=abc'));
  assert.equal(hidden.kind, 'malformed', 'somebody took -PLUS out of our offer');
  assert.equal(exchange('SCRAM-SHA-256', null).start(Buffer.from('y,,n=test,r=abc')).kind, 'ask');
});

test('SCRAM: keys of a user who does not exist let nobody in, even one who knows them', async () => {
  const one = exchange('SCRAM-SHA-256', null);
  const client = new ScramClient('nobody', 'pass', 'n');
  one.start(Buffer.from(client.first));
  const first = one.answered({ ...KEYS, user: null });
  assert.ok(first.kind === 'challenge');
  assert.equal(one.respond(Buffer.from((await client.final(first.text)) as string)).kind, 'rejected');
});

test('fuzz: whatever is said in an exchange, each line has one answer and the dialog goes on', () => {
  const digest = cramDigest('<x>', 'pass').toString('hex');
  const line = fc.oneof(
    fc.constantFrom(
      '*',
      '=',
      '',
      'AUTH PLAIN',
      'AUTH LOGIN',
      'AUTH CRAM-MD5',
      'AUTH SCRAM-SHA-256',
      'NOOP',
      'RSET',
    ),
    fc.constantFrom(
      'dGVzdA==',
      'AHRlc3QAd3Jvbmc=',
      base64('n,,n=test,r=abc'),
      base64(`test ${digest}`),
      'DATA',
      'DATAAAAA',
    ),
    fc.base64String({ maxLength: 60 }),
    fc.string({ maxLength: 40 }).map((text) => text.replace(/[\r\n]/g, '')),
  );
  const auth = { ...SETTINGS.auth, max_auth_attempts: 1000 };
  const over = { auth, smtp: { max_errors: 1000 } };
  fc.assert(
    fc.property(fc.array(line, { maxLength: 30 }), fc.boolean(), (lines, pipelined) => {
      const { say } = dialog(over);
      const spoken = lines.filter((text) => !/^(BDAT|QUIT)/i.test(text)).map((text) => `${text}\r\n`);
      const heard = pipelined ? say(spoken.join('')) : spoken.map(say).join('');
      assert.equal(heard.match(/^\d{3} /gm)?.length ?? 0, spoken.length, heard);
      assert.ok(!/^235/m.test(heard));
      assert.match(say('*\r\n'), /^50[01] /);
      assert.match(say('RSET\r\n'), /^250 /);
      assert.match(say(GOOD), /^235 /);
    }),
    { numRuns: 400 },
  );
});
