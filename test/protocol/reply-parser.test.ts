import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplyParser } from '../../src/protocol/reply-parser.ts';

const parse = (...lines: string[]) => {
  const parser = new ReplyParser();
  let last: ReturnType<ReplyParser['push']> = null;
  for (const line of lines) last = parser.push(line);
  return last;
};

test('a one-line reply is complete at once, its enhanced code apart from the text', () => {
  assert.deepEqual(parse('250 2.1.5 Ok'), { code: 250, enhanced: '2.1.5', lines: ['Ok'] });
  assert.deepEqual(parse('354 go'), { code: 354, enhanced: '', lines: ['go'] });
  assert.deepEqual(parse('250'), { code: 250, enhanced: '', lines: [''] });
  assert.deepEqual(parse('250 '), { code: 250, enhanced: '', lines: [''] });
  assert.deepEqual(parse('550 5.1.1'), { code: 550, enhanced: '5.1.1', lines: [''] });
});

test('a reply of many lines is complete with its last line', () => {
  const parser = new ReplyParser();
  assert.equal(parser.push('250-mx.example.net'), null);
  assert.equal(parser.partial, true);
  assert.equal(parser.push('250-SIZE 1000'), null);
  assert.deepEqual(parser.push('250 DSN'), {
    code: 250,
    enhanced: '',
    lines: ['mx.example.net', 'SIZE 1000', 'DSN'],
  });
  assert.equal(parser.partial, false);
});

test('the enhanced code is cut from every line that repeats it', () => {
  assert.deepEqual(parse('451-4.7.1 busy', '451 4.7.1 later'), {
    code: 451,
    enhanced: '4.7.1',
    lines: ['busy', 'later'],
  });
  assert.deepEqual(parse('451-busy', '451 4.07.001 later'), {
    code: 451,
    enhanced: '4.7.1',
    lines: ['busy', 'later'],
  });
  assert.deepEqual(parse('451-4.7.1 a', '451 4.7.2 b'), {
    code: 451,
    enhanced: '4.7.1',
    lines: ['a', '4.7.2 b'],
  });
});

test('an enhanced code of another class than the basic code is only text', () => {
  assert.deepEqual(parse('250 5.1.1 odd'), { code: 250, enhanced: '', lines: ['5.1.1 odd'] });
  assert.deepEqual(parse('550 5.1.1234 odd'), { code: 550, enhanced: '', lines: ['5.1.1234 odd'] });
});

test('what is no reply line is malformed', () => {
  for (const line of ['', '25', 'abc', '150 x', '650 x', '2x0 Ok', '250_Ok', '250\tOk', 'HTTP/1.1 400 Bad'])
    assert.equal(parse(line), 'malformed', JSON.stringify(line));
});

test('a code that changes within a reply is malformed', () => {
  assert.equal(parse('250-a', '251 b'), 'malformed');
});

test('a reply of hundreds of lines is a reply; its first 256 lines are kept', () => {
  const reply = parse(...Array<string>(400).fill('250-x'), '250 end');
  assert.ok(reply !== null && reply !== 'malformed');
  assert.deepEqual([reply.code, reply.lines.length], [250, 256]);
});

test('a reply without end is malformed at a bounded length', () => {
  assert.equal(parse(...Array<string>(33).fill(`250-${'x'.repeat(2000)}`)), 'malformed');
});

test('after malformed the parser starts anew', () => {
  const parser = new ReplyParser();
  parser.push('250-2.0.0 a');
  assert.equal(parser.push('nonsense'), 'malformed');
  assert.deepEqual(parser.push('550 no'), { code: 550, enhanced: '', lines: ['no'] });
});
