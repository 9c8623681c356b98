/** What refusals mean, by the rules as shipped: on the given set in three variants each, and whatever the text is. */
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import { ReplyClassifier } from '../../src/feedback/classifier.ts';
import { within } from '../../src/feedback/conditions.ts';
import { normalised, squashed } from '../../src/feedback/reply-text.ts';
import { loadReplyRules } from '../../src/feedback/rules-file.ts';
import { SHIPPED_RULES } from '../../src/feedback/rules-text.ts';
import { CLASSES, MOVES, SCOPES } from '../../src/mail/verdict.ts';
import { growth } from '../support/growth.ts';
import { REPLY_SETS, replySet, scoreOf, told, variantsOf } from '../support/reply-set.ts';

const rules = loadReplyRules([SHIPPED_RULES]);
const classifier = new ReplyClassifier(rules);
const PROVIDERS = ['', ...new Set(rules.providers.values())];

describe('the rules as shipped', () => {
  for (const name of REPLY_SETS)
    it(`say what the replies of ${name} mean, in each variant, without a grave mistake`, (t) => {
      const score = scoreOf(classifier, replySet(name).flatMap(variantsOf));
      t.diagnostic(told(name, score));
      assert.deepEqual(score.grave, []);
      assert.ok(score.classShare >= 0.95 && score.moveShare >= 0.98, told(name, score));
    });

  it('know nothing of nonsense: it goes by its first digit', () => {
    const score = scoreOf(classifier, replySet('nonsense'));
    assert.deepEqual(
      [score.classShare.toFixed(3), score.moveShare.toFixed(3)],
      ['1.000', '1.000'],
      told('nonsense', score),
    );
  });

  it('use every class, scope and move but those that no reply names yet', () => {
    const unused = (words: readonly string[], of: (rule: (typeof rules.rules)[number]) => string): string[] =>
      words.filter((word) => !rules.rules.some((rule) => of(rule) === word));
    assert.deepEqual(
      unused(CLASSES, (rule) => rule.class),
      [],
    );
    assert.deepEqual(
      unused(SCOPES, (rule) => rule.scope),
      // No provider tells them; an operator's own rules may.
      ['tenant', 'campaign'],
    );
    assert.deepEqual(
      unused(MOVES, (rule) => rule.move),
      ['next_host'],
    );
  });

  it('suppress nobody for what is not about the recipient', () => {
    const aboutRecipient = new Set([
      'invalid_recipient',
      'inactive_mailbox',
      'mailbox_full',
      'recipient_rate',
      'system_temporary',
    ]);
    const wrong = rules.rules.filter((rule) => rule.scope === 'recipient' && !aboutRecipient.has(rule.class));
    assert.deepEqual(
      wrong.map(({ id }) => id),
      [],
    );
  });
});

/** Words of real replies in any order, with anything between them. */
const words = [...new Set(REPLY_SETS.flatMap(replySet).flatMap(({ reply }) => reply.split(/\s+/)))];
const texts = fc.oneof(
  fc.array(fc.constantFrom(...words), { maxLength: 40 }).map((some) => some.join(' ')),
  fc.string({ unit: 'binary', maxLength: 300 }),
);
const enhanced = fc.oneof(
  fc.constant(''),
  fc.tuple(fc.constantFrom(4, 5), fc.nat(7), fc.nat(999)).map((parts) => parts.join('.')),
);

test('no text makes it throw, and none bounces a 4xx', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 400, max: 599 }),
      enhanced,
      texts,
      fc.constantFrom(...PROVIDERS),
      (code, given, text, provider) => {
        const verdict = classifier.classify({ code, enhanced: given, text }, provider);
        if (code < 500) assert.notEqual(verdict.move, 'bounce');
        assert.deepEqual(classifier.classify({ code, enhanced: given, text }, provider), verdict);
      },
    ),
    { numRuns: 500 },
  );
});

test('the search for tokens leaves out no rule that would match', () => {
  const codes = fc.constantFrom(421, 450, 452, 550, 552, 554);
  fc.assert(
    fc.property(codes, texts, fc.constantFrom(...PROVIDERS), (code, given, provider) => {
      const text = squashed(given);
      const first = rules.rules.find(
        (rule) =>
          (rule.provider === '' || rule.provider === provider) &&
          within(rule.codes, code) &&
          rule.enhanced.length === 0 &&
          rule.pattern !== null &&
          (rule.pattern.plain.some((plain) => text.includes(plain)) ||
            rule.pattern.expressions.some(({ compiled }) => compiled.test(text))),
      );
      // A code in the text (#5.1.1) would count too: it is left out here.
      fc.pre(!text.includes('#'));
      assert.equal(
        classifier.classify({ code, enhanced: '', text: given }, provider).rule,
        first?.id ?? null,
        text,
      );
    }),
    { numRuns: 1000 },
  );
});

test('other words around code and text change the class of few replies, and the move of fewer', () => {
  const around = fc.constantFrom(
    '',
    'Sorry,',
    'Error:',
    'mx7.y.example',
    'Our system says:',
    'gsmtp',
    '(in reply to RCPT)',
    'Please see https://y.example/e?id=7',
  );
  const sets = REPLY_SETS.flatMap(replySet);
  const varied = fc.sample(
    fc.tuple(fc.constantFrom(...sets), around, around, fc.integer({ min: 0, max: 2 })),
    {
      numRuns: 3000,
      seed: 7,
    },
  );
  const replies = varied.map(([one, before, behind, casing]) => {
    const [, head = '', text = ''] = /^(\d{3} ?(?:\d\.\d{1,3}\.\d{1,3} )?)([\s\S]*)$/.exec(one.reply) ?? [];
    const isFolded = text.includes('\n');
    const words = isFolded ? text : [before, text, behind].filter((part) => part !== '').join(' ');
    const cased = casing === 0 ? words : casing === 1 ? words.toUpperCase() : words.toLowerCase();
    return { ...one, reply: `${head}${cased}` };
  });
  const score = scoreOf(classifier, replies);
  assert.ok(score.classShare >= 0.95 && score.moveShare >= 0.98, told('varied', score));
});

test('what differs from message to message changes no verdict', () => {
  const plain = replySet('table');
  fc.assert(
    fc.property(fc.constantFrom(...plain), fc.ipV4(), fc.uuid(), ({ reply, mx_host }, ip, id) => {
      const [code, text] = [Number(reply.slice(0, 3)), reply.slice(4)];
      const verdict = (of: string) =>
        classifier.classify({ code, enhanced: '', text: of }, classifier.providerOf(mx_host));
      assert.deepEqual(verdict(`${text} (${ip} ${id})`), verdict(text));
    }),
    { numRuns: 200 },
  );
});

test('time is linear in the text', () => {
  // Texts are cut at 1,000 characters: the tokens of the rules are repeated up to there.
  const pumps = [
    'a',
    ' ',
    'a@',
    '1.',
    ':',
    'x1',
    'mailbox ',
    'message size ',
    'user not ',
    '{',
    'ip ',
    'too many ',
  ];
  for (const pump of pumps)
    for (const read of [
      squashed,
      normalised,
      (text: string) => classifier.classify({ code: 550, enhanced: '', text }, ''),
    ]) {
      const ratio = growth((octets) => {
        const text = pump.repeat(octets / pump.length);
        return () => void read(text);
      }, 20_000);
      assert.ok(ratio < 3, `${ratio} times for twice of ${JSON.stringify(pump)}`);
    }
});

test('a provider is known by the end of its hosts’ names, whole labels only', () => {
  assert.equal(classifier.providerOf('ASPMX.L.Google.COM.'), 'google');
  assert.equal(classifier.providerOf('y.mail.protection.outlook.com'), 'microsoft');
  assert.equal(classifier.providerOf('mx1.mail.yahoo.co.jp'), 'yahoo_jp');
  assert.equal(classifier.providerOf('notgoogle.com'), '');
  assert.equal(classifier.providerOf(''), '');
});

test('texts are made comparable', () => {
  const text =
    'From <A@b.example> [192.0.2.1] at 12:30:05\r\n  see https://help.y.example/x, S3150 k12si4410ejb20017';
  assert.equal(squashed(text), ' from {email} [{ip}] at 12:30:05 see https://help.y.example/x, s3150 {id} ');
  assert.equal(
    normalised('421 of 2001:db8::1 from mx1.y.example, 17 times'),
    '{n} of {ip} from {host}, {n} times',
  );
});
