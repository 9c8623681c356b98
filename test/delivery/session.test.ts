import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLOSE_REASON } from '../../src/native.ts';
import { Peer } from './peer.ts';

test('with PIPELINING the whole envelope goes in one send, and the next one behind the content', () => {
  const peer = new Peer();
  const [first, second] = [peer.attempt(1, 'a@x.test', 'b@x.test'), peer.attempt(2, 'c@x.test')];
  peer.tookOne();
  peer.hello('PIPELINING');
  assert.deepEqual(peer.take(), [
    'EHLO relay.test',
    'MAIL FROM:<s1@x.test>',
    'RCPT TO:<a@x.test>',
    'RCPT TO:<b@x.test>',
    'DATA',
  ]);
  peer.say('250 ok', '250 2.1.5 ok', '250 ok');
  assert.deepEqual(peer.take(), []);
  peer.say('354 go');
  assert.deepEqual(peer.take(), [
    'content 1 behind 6 stuffed',
    'MAIL FROM:<s2@x.test>',
    'RCPT TO:<c@x.test>',
    'DATA',
  ]);
  peer.session.sent();
  peer.say('250 2.0.0 queued');
  assert.deepEqual(peer.finished, [first]);
  peer.say('250 ok', '250 ok', '354 go');
  assert.deepEqual(peer.take(), ['content 2 behind 6 stuffed']);
  peer.session.sent();
  peer.say('250 queued');
  assert.deepEqual(peer.finished, [first, second]);
  assert.deepEqual(peer.take(), ['idle']);
});

test('every wait has its own deadline', () => {
  const peer = new Peer({
    command_timeout_ms: 101,
    data_timeout_ms: 102,
    final_reply_timeout_ms: 103,
    idle_connection_ms: 104,
  });
  peer.attempt(1, 'a@x.test');
  peer.hello('PIPELINING');
  peer.say('250 ok', '250 ok', '354 go');
  peer.session.sent();
  peer.say('250 queued');
  // Greeting, EHLO, MAIL, RCPT, DATA, content (the reply to DATA before it), final reply, idle.
  assert.deepEqual(peer.deadlines, [101, 101, 101, 101, 101, 101, 102, 103, 104]);
});

test('nothing goes behind the first content of a connection, nor where lines were seen that are no replies', () => {
  for (const stray of [[], ['stored:']]) {
    const peer = new Peer();
    for (let i = 1; i <= 3; i++) peer.attempt(i, 'a@x.test');
    peer.hello('PIPELINING');
    peer.say('250 ok', '250 ok', '354 go');
    assert.equal(peer.take().at(-1), 'content 1 behind 6 stuffed');
    peer.session.sent();
    peer.say(...stray, '250 queued', '250 ok', '250 ok', '354 go');
    const last = stray.length === 0 ? 'DATA' : 'content 2 behind 6 stuffed';
    assert.equal(peer.take().at(-1), last);
  }
});

test('when the connection is lost after a content, what went ahead goes back uncounted', () => {
  const peer = new Peer();
  const [first, second] = [peer.attempt(1, 'a@x.test'), peer.attempt(2, 'c@x.test')];
  peer.tookOne();
  peer.hello('PIPELINING');
  peer.say('250 ok', '250 ok', '354 go');
  peer.session.sent();
  peer.session.closed(CLOSE_REASON.peer, 0);
  assert.deepEqual(peer.finished, [first]);
  assert.equal(first.groups[0]?.outcome.kind, 'deferred');
  assert.deepEqual(peer.returned, [second]);
  assert.equal(second.counted, false);
  assert.equal(second.untouched, true);
  assert.equal(second.hasMore, true);
  assert.equal(peer.ended[0]?.reason, 'connection_lost');
});

test('an attempt that is put back again and again is deferred in the end', () => {
  const peer = new Peer();
  const attempt = peer.attempt(2, 'c@x.test');
  peer.ready.length = 0;
  for (let i = 0; i < 5; i++) {
    const next = new Peer();
    next.attempt(1, 'a@x.test');
    next.ready.push(attempt);
    next.tookOne();
    next.hello('PIPELINING');
    next.say('250 ok', '250 ok', '354 go');
    next.session.sent();
    next.session.closed(CLOSE_REASON.peer, 0);
    assert.equal(attempt.done, i === 4);
  }
});

test('10,000 recipients are offered in a window, never more than 512 ahead of their replies', () => {
  const peer = new Peer({ max_recipients_per_transaction: 100_000 });
  const attempt = peer.attempt(1, ...Array.from({ length: 10_000 }, (_, i) => `u${i}@x.test`));
  peer.hello('PIPELINING');
  let sent = peer.take().filter((line) => line.startsWith('RCPT')).length;
  peer.say('250 ok');
  let most = 0;
  for (let i = 0; i < 10_000; i++) {
    most = Math.max(most, sent - i);
    assert.equal(sent > i, true, 'never stuck');
    peer.say('250 ok');
    sent += peer.take().filter((line) => line.startsWith('RCPT')).length;
  }
  assert.equal(most, 512);
  peer.say('354 go');
  peer.session.sent();
  peer.say('250 queued');
  assert.deepEqual(peer.finished, [attempt]);
  assert.equal(attempt.groups.length, 1);
});

test('a positive reply before the end of data is not believed', () => {
  const peer = new Peer();
  const attempt = peer.attempt(1, 'a@x.test');
  peer.hello('PIPELINING');
  peer.say('250 ok', '250 ok', '354 go', '250 queued already');
  assert.equal(attempt.groups[0]?.outcome.kind, 'deferred');
  assert.equal(peer.log.at(-1), 'close now');
});

test('a refusal before the end of data counts, and ends the connection', () => {
  const peer = new Peer();
  const [first, second] = [peer.attempt(1, 'a@x.test'), peer.attempt(2, 'b@x.test')];
  peer.tookOne();
  peer.hello('PIPELINING');
  peer.say('250 ok', '250 ok', '354 go', '552 5.3.4 too big');
  assert.equal(first.groups[0]?.outcome.kind, 'bounced');
  assert.deepEqual(peer.returned, [second]);
  assert.equal(peer.log.at(-1), 'close now');
});

test('nothing that comes after the end of a session moves it', () => {
  const peer = new Peer();
  const attempt = peer.attempt(1, 'a@x.test');
  peer.hello('PIPELINING');
  peer.say('421 bye', '250 ok', '354 go', '250 ok');
  peer.session.timedOut();
  peer.session.sent();
  peer.session.closed(CLOSE_REASON.local, 0);
  assert.deepEqual(peer.finished, [attempt]);
  assert.equal(attempt.groups.length, 1);
  assert.equal(peer.ended.length, 1);
});
