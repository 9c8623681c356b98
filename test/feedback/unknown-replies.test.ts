import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UnknownReplies } from '../../src/feedback/unknown-replies.ts';

const reply = (text: string, code = 550) => ({ code, enhanced: '', text });

test('replies that differ in addresses, hosts, ids, times and numbers only are one', () => {
  const unknown = new UnknownReplies(10);
  unknown.add(reply('Elephant 17 met <a@b.example> at 12:30:05 on mx1.b.example'), '');
  unknown.add(reply('elephant 4 met <c@d.example> at 01:02:03  on mx7.d.example'), '');
  unknown.add(reply('elephant 4 met <c@d.example> at 01:02:03 on mx7.d.example', 450), '');
  assert.deepEqual(
    unknown.list().map(({ code, text, count }) => ({ code, text, count })),
    [
      { code: 550, text: 'elephant {n} met {email} at {time} on {host}', count: 2 },
      { code: 450, text: 'elephant {n} met {email} at {time} on {host}', count: 1 },
    ],
  );
  assert.match(unknown.list()[0]?.example ?? '', /mx7/);
});

test('never more than are kept, and a flood of new ones does not drive out a frequent one', () => {
  const unknown = new UnknownReplies(20);
  for (let i = 0; i < 5; i++) unknown.add(reply('the frequent one'), '');
  fc.assert(
    fc.property(fc.string({ maxLength: 30 }), (text) => {
      unknown.add(reply(text), 'google');
      return unknown.list().length <= 20;
    }),
    { numRuns: 500 },
  );
  assert.ok(unknown.list().some(({ text }) => text === 'the frequent one'));
  const none = new UnknownReplies(0);
  none.add(reply('x'), '');
  assert.deepEqual(none.list(), []);
});
