import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ehloReply, REPLY, REPLY_REASONS, type Reply, ReplyTemplate } from '../../src/protocol/reply.ts';
import { ReplyParser } from '../../src/protocol/reply-parser.ts';

const linesOf = (reply: Reply | ReplyTemplate) =>
  (reply instanceof ReplyTemplate ? reply.with('X') : reply).line;

test('every reply is one CRLF-terminated line of at most 512 octets that our own parser reads back', () => {
  for (const reason of REPLY_REASONS) {
    const line = linesOf(REPLY[reason]);
    assert.match(line, /^[2345]\d\d [ -~]+\r\n$/, reason);
    const parsed = new ReplyParser().push(line.slice(0, -2));
    assert(parsed !== null && typeof parsed !== 'string');
    if (parsed.enhanced !== '')
      assert.equal(Number(parsed.enhanced[0]), Math.floor(parsed.code / 100), reason);
    else assert.match(line, /^(220|250|334|354) /, `${reason} has an enhanced code`);
    const reply = REPLY[reason];
    if (reply instanceof ReplyTemplate) assert(reply.with('x'.repeat(10_000)).line.length <= 512, reason);
  }
});

test('constant replies are encoded once, templates are not', () => {
  assert.equal(REPLY.mail_ok.bytes?.toString('latin1'), REPLY.mail_ok.line);
  assert.equal(REPLY.queued.with('id').bytes, null);
  assert.equal(REPLY.banner.constant('relay').bytes?.toString('latin1'), '220 relay ESMTP ProtoRelay\r\n');
});

test('run-time text cannot break out of its line', () => {
  assert.equal(REPLY.bad_parameter.with('A\r\n250 OK\0\x7fé').line.match(/\r\n/g)?.length, 1);
  assert.match(REPLY.bad_parameter.with('A\r\nB').line, /: A\?\?B\r\n$/);
});

test('the reply to EHLO marks its last line', () => {
  assert.equal(ehloReply('relay', ['A', 'B 1']).line, '250-relay\r\n250-A\r\n250 B 1\r\n');
});
