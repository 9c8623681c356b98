import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DialogFixture } from './dialog-fixture.ts';

test('a whole dialog: banner, EHLO, a message with its trace, QUIT', () => {
  const f = new DialogFixture();
  const c = f.open('192.0.2.7');
  assert.equal(f.reactor.sent[c], '220 relay.example.test ESMTP ProtoRelay\r\n');
  f.context.relayPolicy.isRelayDomain = () => true;
  assert.match(
    f.say(c, 'EHLO client.example\r\n'),
    /^250-relay\.example\.test\r\n(250-.*\r\n)+250 HELP\r\n$/,
  );
  assert.equal(f.say(c, 'MAIL FROM:<a@b.example> SIZE=10\r\n'), '250 2.1.0 Ok\r\n');
  assert.equal(f.say(c, 'RCPT TO:<c@d.example>\r\n'), '250 2.1.5 Ok\r\n');
  assert.match(f.say(c, 'DATA\r\n'), /^354 /);
  const reply = f.say(c, 'Subject: x\r\n\r\n..dot\r\n.\r\n');
  const { message, content } = f.submitted[0] ?? assert.fail('nothing submitted');
  assert.equal(reply, `250 2.0.0 Ok: queued as ${message.queueId}\r\n`);
  assert.equal(content, 'Subject: x\r\n\r\n.dot\r\n');
  assert.equal(
    message.trace,
    'Received: from client.example ([192.0.2.7])\r\n' +
      `\tby relay.example.test with ESMTP id ${message.queueId}\r\n` +
      '\tfor <c@d.example>;\r\n\tFri, 2 Jan 2026 03:04:05 +0000\r\n',
  );
  assert.equal(f.say(c, 'QUIT\r\n'), '221 2.0.0 Bye\r\n');
  assert.equal(f.isClosed(c), true);
  assert.deepEqual(f.closedPeers, ['192.0.2.7']);
  assert.equal(f.arena.held, 0);
});
