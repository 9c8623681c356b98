import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseJsonc, SyntaxProblem } from '../../src/config/jsonc.ts';
import { toValue } from '../../src/config/source.ts';

const read = (text: string): unknown => JSON.parse(JSON.stringify(toValue(parseJsonc(text, 'x'))));

const problem = (text: string): string => {
  try {
    parseJsonc(text, 'x.json');
  } catch (error) {
    assert.ok(error instanceof SyntaxProblem);
    return `${error.place.line}:${error.place.column}: ${error.message}`;
  }
  return assert.fail(`no problem in ${text}`);
};

test('every JSON text means what JSON.parse says', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      assert.deepEqual(read(text), JSON.parse(JSON.stringify(JSON.parse(text))));
    }),
  );
});

test('comments and trailing commas are allowed', () => {
  assert.deepEqual(read('// a\n{ "a": [1, /* two */ 2,], // b\n "c": "// not one", }\n/* end */'), {
    a: [1, 2],
    c: '// not one',
  });
});

test('a value knows the line of its key', () => {
  const root = parseJsonc('{\n  "a": 1,\n  /* two\n lines */ "b":\n [\n 5 ]\n}', 'x.json');
  assert.equal(root.kind, 'object');
  if (root.kind !== 'object') return;
  assert.deepEqual(root.entries.get('a')?.place, { file: 'x.json', line: 2, column: 3 });
  const b = root.entries.get('b');
  assert.equal(b?.place.line, 4);
  assert.equal(b?.kind === 'array' && b.items[0]?.place.line, 6);
});

test('a problem names line, column and what is missing', () => {
  assert.equal(problem('{\n  "a": 1\n  "b": 2 }'), '3:3: a comma or } is missing before this');
  assert.equal(problem('{ "a" 1 }'), '1:7: a colon is missing after "a"');
  assert.equal(problem('{ "a": yes }'), '1:8: yes is not a value (is a comma or a quote missing before it?)');
  assert.equal(problem("{ 'a': 1 }"), '1:3: a key in double quotes, or } is missing here');
  assert.equal(problem('{ "a": "x\n" }'), '1:8: this string has no end on its line');
  assert.equal(problem('{ "a": "\\q" }'), '1:8: this string holds an escape that JSON does not know');
  assert.equal(problem('{} {}'), '1:4: nothing may follow the closing }');
  assert.equal(problem('{ /* '), '1:3: this comment has no end');
  assert.equal(problem(''), '1:1: the file ends where a value should stand');
  assert.equal(problem('{"a":1,,}'), '1:8: a key in double quotes, or } is missing here');
});

test('a key that stands twice is refused, naming the first', () => {
  assert.equal(problem('{ "a": 1,\n"a": 2 }'), '2:1: "a" stands here a second time (first in line 1)');
});

test('nesting has a limit', () => {
  assert.match(problem('['.repeat(100_000)), /nested deeper than 64 levels/);
});

test('arbitrary text never does anything but parse or name a problem', () => {
  const piece = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '"a"',
    '1',
    'true',
    '//',
    '/*',
    '*/',
    '\n',
    ' ',
    '\\',
    'x',
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      try {
        parseJsonc(pieces.join(''), 'x');
      } catch (error) {
        assert.ok(error instanceof SyntaxProblem);
      }
    }),
    { numRuns: 2000 },
  );
});
