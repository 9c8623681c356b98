/** Random dialogs, well-formed and not, cut at random places: the session keeps its promises whatever comes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GAUGE } from '../../src/admission/gauges.ts';
import { parseBdat, parseMail, parseRcpt } from '../../src/protocol/command.ts';
import { Reply } from '../../src/protocol/reply.ts';
import { DialogFixture } from '../session/dialog-fixture.ts';

const command = fc.constantFrom(
  'EHLO x\r\n',
  'HELO x\r\n',
  'EHLO\r\n',
  'MAIL FROM:<a@b.example>\r\n',
  'MAIL FROM:<> BODY=BINARYMIME\r\n',
  'MAIL FROM:<a@b.example> SIZE=99999\r\n',
  'RCPT TO:<c@d.example>\r\n',
  'RCPT TO:<e@d.example> NOTIFY=NEVER\r\n',
  'RCPT TO:<bad\r\n',
  'DATA\r\n',
  'DATA x\r\n',
  'DATA\n',
  'BDAT 4\r\nabcd',
  'BDAT 4 LAST\r\na\nb.',
  'BDAT 0 LAST\r\n',
  'BDAT 2000 LAST\r\n',
  'BDAT\r\n',
  'RSET\r\n',
  'NOOP\r\n',
  'VRFY x\r\n',
  'EXPN x\r\n',
  'HELP\r\n',
  'AUTH PLAIN\r\n',
  'STARTTLS\r\n',
  'QUIT\r\n',
  'text\r\n',
  '.\r\n',
  '\r\n.\r\n',
  '\n.\r\n',
  '.\n',
  '\0\r\n',
  '\xff\r\n',
  '\r',
  `${'l'.repeat(1500)}\r\n`,
);
const dialog = fc.array(
  fc.oneof(
    { weight: 20, arbitrary: command },
    { weight: 1, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 30 }) },
  ),
  { maxLength: 40 },
);
const settings = fc.record({
  max_message_size: fc.constantFrom(1024, 100_000),
  inbound_ack_mode: fc.constantFrom('after_persist', 'after_enqueue'),
  smtp: fc.record({
    max_errors: fc.constantFrom(3, 100),
    max_recipients: fc.constantFrom(1, 100),
    bare_newlines: fc.constantFrom('refuse', 'normalize'),
  }),
});

/** Sends the octets cut at the given places and hangs up; returns everything that came back. */
function run(f: DialogFixture, octets: Buffer, cuts: number[]): string {
  const connection = f.open();
  let at = 0;
  for (const cut of [
    ...cuts.map((share) => Math.floor(share * octets.length)).sort((a, b) => a - b),
    octets.length,
  ]) {
    f.say(connection, octets.subarray(at, cut));
    at = cut;
  }
  if (!f.isClosed(connection)) f.reactor.hangUp(connection);
  return f.reactor.sent[connection] as string;
}

/** Queue ids differ from run to run only by time, which stands still here. */
test('a dialog means the same however it is cut, and leaves nothing behind', () => {
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
  fc.assert(
    fc.property(settings, dialog, cuts, (config, commands, places) => {
      const octets = Buffer.from(commands.join(''), 'latin1');
      const whole = new DialogFixture(config);
      const cut = new DialogFixture(config);
      const replies = run(whole, octets, []);
      assert.equal(run(cut, octets, places), replies);
      for (const f of [whole, cut]) {
        assert.equal(f.arena.held, 0, 'content is given back');
        assert.equal(Atomics.load(f.gauges, GAUGE.inflightMails), 0);
        for (const { message } of f.submitted) assert(message.envelope.recipients.length > 0);
      }
      assert.equal(
        replies.match(/Ok: (queued|in memory) as/g)?.length ?? 0,
        whole.submitted.length,
        'one 250 for each message (I1)',
      );
      for (const line of replies.split('\r\n')) assert.match(line, /^$|^[2-5]\d\d[ -][ -~]{0,506}$/);
    }),
    { numRuns: 1500 },
  );
});

test('any line at all: parsers neither throw nor hang', () => {
  const line = fc.tuple(
    fc.constantFrom('MAIL FROM:<a@b.example> ', 'RCPT TO:<a@b.example> ', 'BDAT ', 'MAIL FROM:'),
    fc.string({ unit: 'grapheme', maxLength: 60 }),
  );
  fc.assert(
    fc.property(line, ([start, rest]) => {
      const text = start + rest;
      for (const parsed of [parseMail(text), parseRcpt(text, true), parseBdat(text)])
        if (parsed instanceof Reply) assert(parsed.code >= 500);
    }),
    { numRuns: 5000 },
  );
});

test('parameters: what is accepted is one of the known keywords with a value in its range', () => {
  const keyword = fc.constantFrom(
    'SIZE',
    'BODY',
    'SMTPUTF8',
    'RET',
    'ENVID',
    'size',
    'FOO',
    'NOTIFY',
    'X-1',
    '',
  );
  const value = fc.constantFrom(
    '',
    '=',
    '=1',
    '=8BITMIME',
    '=7bit',
    '=FULL',
    '=hdrs',
    '=+41',
    '=x',
    '=NEVER',
    '==',
    '=1 ',
  );
  const parameters = fc.array(fc.tuple(keyword, value), { maxLength: 4 });
  const good =
    /^(size=\d+|body=(7bit|8bitmime|binarymime)|smtputf8|ret=(full|hdrs)|envid=([!-*,-<>-~]|\+[0-9A-F]{2})+)$/i;
  fc.assert(
    fc.property(parameters, (list) => {
      const words = list.map(([k, v]) => k + v).filter((word) => word !== '');
      const given = words
        .join(' ')
        .split(/ +/)
        .filter((word) => word !== '');
      const names = given.map((word) => word.split('=')[0]?.toUpperCase());
      const valid = given.every((word) => good.test(word)) && new Set(names).size === names.length;
      const parsed = parseMail(`MAIL FROM:<a@b.example>${words.map((word) => ` ${word}`).join('')}`);
      assert.equal(!(parsed instanceof Reply), valid, words.join(' '));
    }),
    { numRuns: 5000 },
  );
});
