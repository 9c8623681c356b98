import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GAUGE } from '../../src/admission/gauges.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import { VERDICT } from '../../src/session/messages.ts';
import { settingsOf } from '../../src/session/settings.ts';
import { configOf, DialogFixture } from './dialog-fixture.ts';

const MESSAGE = 'MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n';

/** A connection that waits for the verdict on its first message. */
function waiting(settings: object = {}): { f: DialogFixture; c: number } {
  const f = new DialogFixture(settings);
  f.verdicts = [null];
  const c = f.open();
  f.say(c, `EHLO client.example\r\n${MESSAGE}`);
  assert.equal(f.submitted.length, 1);
  return { f, c };
}

const contentOf = (f: DialogFixture): number => f.submitted[0]?.message.content ?? assert.fail();

test('250 after end of data comes with the verdict, not before (I1)', () => {
  const { f, c } = waiting();
  const before = f.reactor.sent[c] as string;
  assert.match(before, /354 [^\n]*\n$/);
  f.verdict(0, VERDICT.committed);
  assert.equal(
    (f.reactor.sent[c] as string).slice(before.length),
    `250 2.0.0 Ok: queued as ${f.submitted[0]?.message.queueId}\r\n`,
  );
  assert.equal(f.arena.held, 0);
});

test('commands pipelined behind a message wait for its verdict', () => {
  const { f, c } = waiting();
  assert.equal(f.say(c, 'NOOP\r\n'), '');
  f.verdict(0, VERDICT.committed);
  assert.match(f.reactor.sent[c] as string, /queued as \w+\r\n250 2\.0\.0 Ok\r\n$/);
});

test('when the wait runs out before the writer took it, the message is withdrawn', () => {
  const { f, c } = waiting();
  const content = contentOf(f);
  f.reactor.timeout(c);
  assert.match(f.reactor.sent[c] as string, /\r\n451 4\.3\.0 [^\n]*\n$/);
  assert.equal(f.arena.state(content), CONTENT_STATE.withdrawn);
  f.verdict(0, VERDICT.failed);
  assert.doesNotMatch(f.reactor.sent[c] as string, /451.*(250|451)/s, 'the late verdict says nothing');
  assert.equal(f.say(c, 'NOOP\r\n'), '250 2.0.0 Ok\r\n');
});

test('when the wait runs out while the writer commits, the message is marked abandoned', () => {
  const { f, c } = waiting();
  const content = contentOf(f);
  f.arena.moveState(content, CONTENT_STATE.waiting, CONTENT_STATE.committing);
  f.reactor.timeout(c);
  assert.match(f.reactor.sent[c] as string, /\r\n451 4\.3\.0 [^\n]*\n$/);
  assert.equal(f.arena.state(content), CONTENT_STATE.abandoned);
});

test('when the wait runs out after the commit, the session waits for the verdict that is on its way', () => {
  const { f, c } = waiting();
  const content = contentOf(f);
  f.arena.moveState(content, CONTENT_STATE.waiting, CONTENT_STATE.committed);
  f.reactor.timeout(c);
  assert.match(f.reactor.sent[c] as string, /354 [^\n]*\n$/, 'no 451');
  assert(f.reactor.deadlineOf(c) > 0 && f.reactor.deadlineOf(c) <= 100);
  f.verdict(0, VERDICT.committed);
  assert.match(f.reactor.sent[c] as string, /\r\n250 2\.0\.0 Ok: queued as \w+\r\n$/);
});

test('the session keeps the content alive until it no longer waits, so that a withdrawal hits no other message', () => {
  const { f, c } = waiting();
  const content = contentOf(f);
  f.arena.release(content); // the main thread is done with it, its verdict not yet here
  assert.equal(f.arena.held, 1);
  f.reactor.timeout(c);
  assert.equal(f.arena.held, 0);
});

test('a client that hangs up while it waits leaves no reference, and its message stays with the relay', () => {
  const { f, c } = waiting();
  const content = contentOf(f);
  f.reactor.hangUp(c);
  assert.equal(f.arena.state(content), CONTENT_STATE.waiting);
  f.verdict(0, VERDICT.committed);
  assert.equal(f.arena.held, 0);
});

test('the in-flight gauge is raised by one at end of data and not when the message is refused', () => {
  const { f } = waiting({ persist_max_inflight_mails: 1 });
  assert.equal(Atomics.load(f.gauges, GAUGE.inflightMails), 1);
  const d = f.open();
  Atomics.store(f.gauges, GAUGE.inflightMails, 0);
  f.say(d, `EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n`);
  Atomics.store(f.gauges, GAUGE.inflightMails, 1);
  assert.match(f.say(d, 'x\r\n.\r\n'), /^452 4\.3\.1 /);
  assert.equal(Atomics.load(f.gauges, GAUGE.inflightMails), 1);
  assert.equal(f.arena.held, 1);
});

test('messages that arrive in one turn go to the main thread in one post', () => {
  const f = new DialogFixture({ inbound_ack_mode: 'after_enqueue' });
  const c = f.open();
  f.say(c, 'EHLO x\r\n');
  const before = f.posts;
  f.say(c, MESSAGE);
  assert.equal(f.posts - before, 1);
});

test('one recipient is named in the trace header, several are not', () => {
  const f = new DialogFixture();
  const c = f.open();
  f.say(c, `EHLO x\r\n${MESSAGE}${MESSAGE.replace('DATA', 'RCPT TO:<e@d.example>\r\nDATA')}`);
  assert.match(f.submitted[0]?.message.trace ?? '', /\r\n\tfor <c@d\.example>;/);
  assert.doesNotMatch(f.submitted[1]?.message.trace ?? '', /for </);
});

test('content that begins with a space or tab does not go on with a header field of ours', () => {
  for (const [listener, fields] of [
    [{}, 'Received'],
    [{ submission: true }, 'Message-ID'],
  ] as const) {
    const f = new DialogFixture({ listeners: [{ host: '127.0.0.1', port: 0, ...listener }] });
    const c = f.open();
    const starts = [
      'x',
      ' x',
      '\tfrom trusted.example ([192.0.2.1]) by us',
      '\r\nx',
      ' ',
      `\t${'y'.repeat(900)}\r\n`.repeat(400),
    ];
    for (const start of starts)
      f.say(c, `EHLO x\r\n${MESSAGE.replace(/DATA.*/s, `DATA\r\n${start}\r\n.\r\n`)}`);
    assert.deepEqual(
      f.submitted.map(({ message: { trace } }) => trace.endsWith('\r\n\r\n')),
      starts.map((start) => /^[ \t]/.test(start)),
    );
    assert.match(f.submitted[1]?.message.trace ?? '', new RegExp(`^${fields}: .*\r\n\r\n$`, 'ms'));
  }
});

test('HELO makes the protocol SMTP, EHLO ESMTP, SMTPUTF8 UTF8SMTP', () => {
  const f = new DialogFixture();
  const c = f.open();
  f.say(c, `HELO x\r\n${MESSAGE}EHLO y\r\n${MESSAGE}${MESSAGE.replace('b.example>', 'b.example> SMTPUTF8')}`);
  assert.deepEqual(
    f.submitted.map(({ message }) => [message.client.protocol, message.client.helo]),
    [
      ['SMTP', 'x'],
      ['ESMTP', 'y'],
      ['UTF8SMTP', 'y'],
    ],
  );
});

test('a message of the last second is received now, with an id of now', () => {
  const f = new DialogFixture();
  f.converse(...MESSAGE.trimEnd().split('\r\n'));
  assert.equal(f.submitted[0]?.message.receivedAtMs, f.nowMs);
});

test('the reception time counts from MAIL to the end of data, whatever becomes of the time of day', () => {
  for (const setMs of [0, -1000, 3_600_000]) {
    const f = new DialogFixture();
    const c = f.open();
    f.say(c, 'EHLO c.test\r\nMAIL FROM:<a@a.test>\r\n');
    f.nowMs += 250;
    f.clockSetMs = setMs;
    f.say(c, 'RCPT TO:<b@b.test>\r\nDATA\r\n');
    f.say(c, 'x\r\n.\r\n');
    const { receptionMs, receivedAtMs } = f.submitted[0]?.message ?? assert.fail();
    assert.deepEqual([receptionMs, receivedAtMs], [250, f.nowMs + setMs]);
  }
});

test('a clock that is set ends no content in chunks, and cuts no deadline short', () => {
  for (const setMs of [86_400_000, -86_400_000]) {
    const f = new DialogFixture({ smtp: { command_timeout_ms: 64_000, data_timeout_ms: 32_000 } });
    const c = f.open();
    f.say(c, 'EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 3\r\nab\r');
    f.nowMs += 1000;
    f.clockSetMs = setMs;
    f.say(c, 'BDAT 1\r\n\n');
    assert.equal(f.reactor.deadlineOf(c), 33_000, `${setMs}`);
    f.nowMs += 2000;
    f.say(c, 'BDAT 0 LAST\r\n');
    assert.equal(f.submitted.length, 1, f.reactor.sent[c]);
    // What counts failures and rates does not look at the time of day either.
    assert.equal(f.reactor.deadlineOf(c), 66_000);
  }
});

test('the deadline follows the phase: command, content, wait', () => {
  const f = new DialogFixture({
    inbound_persist_wait_timeout_ms: 4000,
    smtp: { command_timeout_ms: 64_000, data_timeout_ms: 32_000 },
  });
  f.verdicts = [null];
  const c = f.open();
  assert.equal(f.reactor.deadlineOf(c), 66_000, 'a thirty-second part late, to be set seldom');
  f.say(c, MESSAGE.replace('x\r\n.\r\n', '').replace('MAIL', 'EHLO x\r\nMAIL'));
  assert.equal(f.reactor.deadlineOf(c), 33_000);
  f.say(c, 'x\r\n.\r\n');
  assert.equal(f.reactor.deadlineOf(c), 4000);
  f.verdict(0, VERDICT.committed);
  assert.equal(f.reactor.deadlineOf(c), 66_000);
});

test('the command deadline is moved by a command once it has aged, and never fires early', () => {
  const f = new DialogFixture({ smtp: { command_timeout_ms: 64_000 } });
  const c = f.open();
  let set = 0;
  const { deadline } = f.reactor;
  f.reactor.deadline = (id, ms) => {
    set++;
    deadline.call(f.reactor, id, ms);
  };
  f.say(c, 'NOOP\r\nNOOP\r\n');
  f.nowMs += 2000;
  f.say(c, 'NOOP\r\n');
  assert.equal(set, 0);
  f.nowMs += 1;
  f.say(c, 'NOOP\r\n');
  assert.equal(set, 1);
});

test('drain: idle sessions end, one in a transaction ends after it, then drained is said', () => {
  const f = new DialogFixture();
  const idle = f.open();
  const busy = f.open();
  f.say(busy, 'EHLO x\r\nMAIL FROM:<>\r\n');
  let drained = 0;
  Atomics.store(f.gauges, GAUGE.draining, 1);
  f.server.drain(() => drained++);
  assert.equal(f.isClosed(idle), true);
  assert.equal(f.isClosed(busy), false);
  assert.equal(drained, 0);
  f.say(busy, 'RCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n');
  assert.match(f.reactor.sent[busy] as string, /queued as \w+\r\n421 4\.3\.2 [^\n]*\n$/);
  assert.equal(drained, 1);
});

test('drain with no session is over at once', () => {
  const f = new DialogFixture();
  let drained = 0;
  f.server.drain(() => drained++);
  assert.equal(drained, 1);
});

test('a connection that opens while the relay drains gets 421 for a banner', () => {
  const f = new DialogFixture();
  Atomics.store(f.gauges, GAUGE.draining, 1);
  const c = f.open();
  assert.match(f.reactor.sent[c] as string, /^421 4\.3\.2 /);
  assert.equal(f.isClosed(c), true);
});

test('new settings hold for open sessions from the next command on', () => {
  const f = new DialogFixture();
  const c = f.open();
  f.say(c, 'EHLO x\r\n');
  f.context.settings = settingsOf(configOf({ max_message_size: 1024 }));
  assert.match(f.say(c, 'MAIL FROM:<> SIZE=2000\r\n'), /^552 5\.3\.4 /);
});

test('transcripts show commands and replies, never content or credentials', () => {
  const f = new DialogFixture({ log: { transcripts: { inbound: true } } });
  f.converse(
    'AUTH PLAIN c2VjcmV0',
    ...MESSAGE.replace('\r\nx\r\n', '\r\nsecret text\r\n').trimEnd().split('\r\n'),
    'QUIT',
  );
  const text = JSON.stringify(f.logged);
  assert.match(text, /MAIL FROM:<a@b\.example>/);
  assert.match(text, /queued as/);
  assert.match(text, /AUTH …/);
  assert.doesNotMatch(text, /c2VjcmV0|secret text/);
  assert.deepEqual(f.logged.at(0)?.event, 'session.opened');
  assert.deepEqual(f.logged.at(-1)?.event, 'session.closed');
});

test('transcripts never show credentials, however oddly they are sent', () => {
  const secret = 'AHVzZXIAczNjcjN0';
  const odd = [
    `auth  plain ${secret}`,
    `AuTh\tPLAIN ${secret}`,
    `\tAUTH PLAIN ${secret}`,
    `  AUTH PLAIN ${secret}`,
    `AUTHPLAIN ${secret}`,
    `AUTH=PLAIN ${secret}`,
    `X AUTH PLAIN ${secret}`,
    `NOOP AUTH PLAIN ${secret}`,
    `NOOP\nAUTH PLAIN ${secret}`,
    `AUTH PLAIN\n${secret}`,
    `AUTH\0PLAIN ${secret}`,
    `BDAT AUTH PLAIN ${secret}`,
    `PASS ${secret}`,
    `AUTH LOGIN\r\n${secret}\r\n${secret}`,
    secret,
  ];
  for (const line of odd) {
    const f = new DialogFixture({ log: { transcripts: { inbound: true } } });
    f.say(f.open(), `EHLO client.example\r\n${line}\r\nNOOP\r\n`);
    const shown = JSON.stringify(f.logged);
    assert.doesNotMatch(shown, /AHVzZXIAczNjcjN0/, line);
    assert.match(shown, /session\.command/);
  }
});

test('transcripts are off by default; refusals for good are logged with client and reason', () => {
  const f = new DialogFixture({ relay_networks: [] });
  const c = f.open('192.0.2.9');
  f.say(c, 'EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n');
  assert.deepEqual(f.logged, [
    {
      level: 'info',
      event: 'session.refused',
      fields: {
        session_id: f.logged[0]?.fields.session_id,
        client_address: '192.0.2.9',
        reason: 'relay_denied',
        reply: '550 5.7.1 Relaying denied',
      },
    },
  ]);
});

test('session ids differ, and a message carries that of its session', () => {
  const f = new DialogFixture();
  f.converse(...MESSAGE.trimEnd().split('\r\n'));
  f.converse(...MESSAGE.trimEnd().split('\r\n'));
  const ids = f.submitted.map(({ message }) => message.client.sessionId);
  assert.equal(new Set(ids).size, 2);
});

test('10,000 recipients of one transaction are all kept, each once', () => {
  const f = new DialogFixture({ smtp: { max_recipients: 20_000 } });
  const c = f.open();
  f.say(c, 'EHLO x\r\nMAIL FROM:<>\r\n');
  const lines = Array.from({ length: 10_000 }, (_, i) => `RCPT TO:<r${i}@d.example>\r\n`).join('');
  for (let at = 0; at < lines.length; at += 8000) f.say(c, lines.slice(at, at + 8000));
  for (let at = 0; at < lines.length; at += 8000) f.say(c, lines.slice(at, at + 8000));
  f.say(c, 'DATA\r\nx\r\n.\r\n');
  assert.equal(f.submitted[0]?.message.envelope.recipients.length, 10_000);
});
