/** Files of rules: what is refused, with file and line, and how a file of one's own lies before the shipped one. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ReplyClassifier } from '../../src/feedback/classifier.ts';
import { compileRules } from '../../src/feedback/compiled-rules.ts';
import { loadReplyRules } from '../../src/feedback/rules-file.ts';
import { readRulesText, SHIPPED_RULES } from '../../src/feedback/rules-text.ts';

const dir = mkdtempSync(join(tmpdir(), 'reply-rules-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const FILE = join(dir, 'own.json');
const RULE = {
  id: 'a',
  pattern: 'purple elephant',
  class: 'policy',
  scope: 'message',
  move: 'bounce',
  source: 'test',
};

/** A rule a line, the first one in line 2. */
function write(...rules: object[]): string {
  writeFileSync(FILE, `{"rules": [\n${rules.map((rule) => JSON.stringify(rule)).join(',\n')}\n]}`);
  return FILE;
}

function problems(...rules: object[]): string[] {
  write(...rules);
  try {
    loadReplyRules([FILE]);
    return [];
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'config_invalid');
    return (error as Error).message.split('\n').map((line) => line.replace(`${FILE}:`, ''));
  }
}

const WRONG: [what: string, rules: object[], said: RegExp][] = [
  ['a class that is none', [{ ...RULE, class: 'nonsense' }], /^2: rules\[0\]\.class: .*invalid_recipient/],
  ['a scope that is none', [{ ...RULE, scope: 'planet' }], /^2: rules\[0\]\.scope: /],
  ['a move that is none', [{ ...RULE, move: 'wait' }], /^2: rules\[0\]\.move: /],
  [
    'a key that is none',
    [{ ...RULE, patern: 'x' }],
    /^2: rules\[0\]\.patern: unknown key \(did you mean "pattern"\?\)$/,
  ],
  ['no source', [{ ...RULE, source: undefined }], /^2: rules\[0\]: "source" is missing: a string$/],
  ['a code of no refusal', [{ ...RULE, code: '250' }], /^2: rules\[0\]\.code: "250" is no code/],
  ['an enhanced code that is none', [{ ...RULE, enhanced: '5.7' }], /^2: rules\[0\]\.enhanced: "5\.7"/],
  [
    'what is to bounce and to wait',
    [{ ...RULE, treat_as: 'deferred' }],
    /^2: rules\[0\]\.treat_as: .*exclude each other/,
  ],
  [
    'a look-ahead',
    [{ ...RULE, pattern: 'purple(?=x)' }],
    /^2: rules\[0\]\.pattern: not a pattern that takes linear time/,
  ],
  [
    'a back reference',
    [{ ...RULE, pattern: '(purple)\\1' }],
    /^2: rules\[0\]\.pattern: not a pattern that takes linear time/,
  ],
  ['a bracket that is not closed', [{ ...RULE, pattern: 'purple(?:a' }], /^2: rules\[0\]\.pattern: /],
  [
    'a pattern that matches anything',
    [{ ...RULE, pattern: 'purple|.*' }],
    /^2: rules\[0\]\.pattern: "\.\*" matches texts that have too little/,
  ],
  ['no condition', [{ ...RULE, pattern: undefined }], /^2: rules\[0\]: a code alone says nothing/],
  [
    'a 5xx that is to wait and is not called deferred',
    [{ ...RULE, move: 'retry_later' }],
    /^2: rules\[0\]\.move: "retry_later" for a 5xx needs/,
  ],
  [
    'an id twice',
    [RULE, { ...RULE, pattern: 'other text' }],
    /^3: rules\[1\]\.id: "a" is the id of the rule in line 2/,
  ],
  [
    'a rule twice',
    [RULE, { ...RULE, id: 'b' }],
    /^3: rules\[1\]: it asks the same as the rule in line 2 \(a\)/,
  ],
  [
    'a rule that an earlier one leaves nothing',
    [RULE, { ...RULE, id: 'b', provider: 'google', code: '5xx', pattern: 'big purple elephants?' }],
    /^3: rules\[1\]: it can never match.* line 2 \(a\)/,
  ],
];

for (const [what, rules, said] of WRONG)
  test(`${what} is refused, with file and line`, () => {
    const [first = ''] = problems(...rules);
    assert.match(first, said);
  });

test('a file that is not there or not JSON is refused', () => {
  assert.throws(() => loadReplyRules([join(dir, 'none.json')]), /none\.json: cannot be read/);
  writeFileSync(FILE, '{"rules": [\n}');
  assert.throws(() => loadReplyRules([FILE]), /own\.json:2: /);
});

test('rules of one’s own come before the shipped ones, and providers of one’s own beside them', () => {
  const own = {
    ...RULE,
    id: 'own',
    class: 'greylist',
    move: 'retry_later',
    treat_as: 'deferred',
    pattern: 'no such user',
    provider: 'tiny',
  };
  write(own);
  const classifier = new ReplyClassifier(loadReplyRules([FILE, SHIPPED_RULES]));
  const refusal = { code: 550, enhanced: '5.1.1', text: 'No such user' };
  assert.equal(classifier.classify(refusal, 'tiny').rule, 'own');
  assert.equal(classifier.classify(refusal, 'tiny').move, 'retry_later');
  assert.equal(classifier.classify(refusal, '').class, 'invalid_recipient');
  writeFileSync(FILE, JSON.stringify({ providers: { tiny: ['mx.tiny.example'] }, rules: [] }));
  const providers = new ReplyClassifier(loadReplyRules([FILE, SHIPPED_RULES]));
  assert.equal(providers.providerOf('a.mx.tiny.example'), 'tiny');
  assert.equal(providers.providerOf('aspmx.l.google.com'), 'google');
});

test('a 4xx bounces by a rule of an operator that names nothing but 4xx', () => {
  const move = (code: number, ...rules: object[]): string =>
    new ReplyClassifier(loadReplyRules([write(...rules)])).classify(
      { code, enhanced: '', text: 'a purple elephant' },
      '',
    ).move;
  assert.equal(move(450, { ...RULE, code: ['45x', '421'] }), 'bounce');
  assert.equal(move(421, { ...RULE, code: ['45x', '421'] }), 'bounce');
  assert.equal(move(450, { ...RULE, code: ['45x', '550'] }), 'retry_later');
  assert.equal(move(450, { ...RULE, enhanced: '4.2.0' }, { ...RULE, id: 'b' }), 'retry_later');
  const [text] = [readRulesText(write({ ...RULE, code: '4xx' }))];
  const shipped = new ReplyClassifier(compileRules([{ ...text, isOwn: false }]));
  const refusal = { code: 450, enhanced: '', text: 'a purple elephant' };
  assert.equal(shipped.classify(refusal, '').move, 'retry_later', 'no data file does that');
});

test('a 4xx that a rule would bounce waits', () => {
  write(RULE);
  const classifier = new ReplyClassifier(loadReplyRules([FILE]));
  assert.equal(
    classifier.classify({ code: 450, enhanced: '', text: 'a purple elephant' }, '').move,
    'retry_later',
  );
  assert.equal(
    classifier.classify({ code: 550, enhanced: '', text: 'a purple elephant' }, '').move,
    'bounce',
  );
});

test('patterns mean what RE2 says, with and without an expression', () => {
  const matches = (pattern: string, text: string): boolean => {
    write({ ...RULE, pattern });
    return (
      new ReplyClassifier(loadReplyRules([FILE])).classify({ code: 550, enhanced: '', text }, '').rule !==
      null
    );
  };
  for (const [pattern, yes, no] of [
    ['Too (?:fast|often)', 'TOO OFTEN', 'too late'],
    ['mailboxe?s? full', 'mailbox full', 'mailboxing full'],
    ['a\\.b\\.c', 'a.b.c', 'axbxc'],
    ['\\bspam\\b', 'is spam.', 'spammer'],
    ['rate[ -]?limit', 'ratelimit', 'rate_limit'],
    ['alpha.{0,5}omega', 'alpha to omega', 'alpha goes to omega'],
    ['(?:aa|bb)x(?:cc|dd)\\d', 'bbxcc1', 'aaxbb1'],
    ['purple|green', 'green', 'blue'],
  ] as const) {
    assert.ok(matches(pattern, yes), `${pattern} on ${yes}`);
    assert.ok(!matches(pattern, no), `${pattern} on ${no}`);
  }
});
