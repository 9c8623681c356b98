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

test('what follows the three digits does not matter: it is the last line unless it is a hyphen', () => {
  for (const line of ['250OK', '250\tOK', '250_OK', '250: OK', '250.', '250é'])
    assert.equal((parse(line) as { code: number }).code, 250, JSON.stringify(line));
  assert.deepEqual(parse('250\tOk'), { code: 250, enhanced: '', lines: ['Ok'] });
  assert.deepEqual(parse('250OK'), { code: 250, enhanced: '', lines: ['OK'] });
  assert.deepEqual(parse('550\t5.1.1 no'), { code: 550, enhanced: '5.1.1', lines: ['no'] });
});

test('a line that does not begin with three digits is a stray', () => {
  for (const line of [
    '',
    '25',
    'abc',
    '2x0 Ok',
    ' 250 Ok',
    '2500 Ok',
    '٢٥٠ Ok',
    '\x00250 Ok',
    'HTTP/1.1 400 Bad',
  ])
    assert.equal(parse(line), 'stray', JSON.stringify(line));
});

test('a code that is none of SMTP is malformed', () => {
  for (const line of ['000 x', '150 x', '199', '600 x', '999-x'])
    assert.equal(parse(line), 'malformed', JSON.stringify(line));
});

test('the code of the last line counts, and enhanced codes of its class', () => {
  assert.deepEqual(parse('250-ok', '200 id'), { code: 200, enhanced: '', lines: ['ok', 'id'] });
  assert.deepEqual(parse('550-5.1.1 a', '450 4.2.1 b'), {
    code: 450,
    enhanced: '4.2.1',
    lines: ['5.1.1 a', 'b'],
  });
  assert.deepEqual(parse('450-4.2.1 a', '550 5.1.1 b'), {
    code: 550,
    enhanced: '5.1.1',
    lines: ['4.2.1 a', 'b'],
  });
});

test('a stray between the lines of a reply is text of it; strays before it are passed over', () => {
  const parser = new ReplyParser();
  assert.equal(parser.push('debug: stored'), 'stray');
  assert.equal(parser.strays, 1);
  assert.equal(parser.push('550-no'), null);
  assert.equal(parser.push('because of this'), null);
  assert.deepEqual(parser.push('550 sorry'), {
    code: 550,
    enhanced: '',
    lines: ['no', 'because of this', 'sorry'],
  });
  assert.equal(parser.strays, 0);
});

test('a reply of hundreds of lines is a reply; its first 256 lines are kept', () => {
  const reply = parse(...Array<string>(400).fill('250-x'), '250 end') as { code: number; lines: string[] };
  assert.deepEqual([reply.code, reply.lines.length], [250, 256]);
});

test('of a reply of many characters the first 65,536 are kept', () => {
  const reply = parse(...Array<string>(100).fill(`250-${'x'.repeat(2000)}`), '250 end') as {
    lines: string[];
  };
  assert.equal(reply.lines.join('').length, 65_536);
});

test('a reply without end is malformed at a bounded length, of lines or of strays', () => {
  for (const line of [`250-${'x'.repeat(2000)}`, 'x'.repeat(2000), '']) {
    const parser = new ReplyParser();
    let read = 0;
    while (parser.push(line) !== 'malformed') read += line.length + 2;
    assert.equal(read <= 1_048_576, true);
  }
});

test('after malformed the parser starts anew', () => {
  const parser = new ReplyParser();
  parser.push('250-2.0.0 a');
  assert.equal(parser.push('150 nonsense'), 'malformed');
  assert.deepEqual(parser.push('550 no'), { code: 550, enhanced: '', lines: ['no'] });
});
