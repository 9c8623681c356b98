/** Providers have the same hosts in the rules for replies as in the shaping data, or names that lead to one another. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProviderNames } from '../../src/cli/provider-names.ts';
import { ReplyClassifier } from '../../src/feedback/classifier.ts';
import { compileRules } from '../../src/feedback/compiled-rules.ts';
import { readRulesTexts } from '../../src/feedback/rules-text.ts';
import { ThreadReplies } from '../../src/feedback/thread-replies.ts';
import type { PeerReply } from '../../src/mail/outcome.ts';
import { loadShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';

const shipped = readRulesTexts('');
const classifier = new ReplyClassifier(compileRules(shipped));
const { data } = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' });

test('a name that both have means the same hosts', () => {
  for (const { name, match } of data.providers)
    for (const host of [...match.mx_suffix, ...match.mx_exact])
      if (classifier.knows(name))
        assert.ok([name, ''].includes(classifier.providerOf(host)), `${name} ${host}`);
});

test('names of the rules, of the shaping data, and hosts lead to what the rules know', () => {
  const names = new ProviderNames(classifier);
  assert.equal(names.of('google', ''), 'google');
  assert.equal(names.of('office365', ''), 'microsoft');
  assert.equal(names.of('', 'x.mail.protection.outlook.com.'), 'microsoft');
  assert.equal(names.of('', 'ASPMX.L.Google.com'), 'google');
  assert.equal(names.of('nobody', 'mx.nobody.test'), '');
});

test('a rule for a provider of the shaping data holds for its hosts in delivery', () => {
  const rule = {
    id: 'partner.quota',
    provider: 'our-partner',
    code: '5xx',
    pattern: 'over the quota',
    class: 'rate_limit',
    scope: 'source',
    move: 'slow_down',
    treat_as: 'deferred',
  };
  const own = { file: 'own.json', isOwn: true, text: JSON.stringify({ rules: [rule] }) };
  const failed = (error: unknown): never => assert.fail(String(error));
  const replies = new ThreadReplies([own, ...shipped], 10, failed, (host) =>
    host === 'mx.partner.test' ? 'our-partner' : 'unheard-of',
  );
  const classOf = (host: string): string | null => {
    const reply = { code: 550, enhanced: '', text: 'over the quota', peer: { host } };
    return replies.classify(reply as PeerReply).rule;
  };
  assert.equal(classOf('mx.partner.test'), 'partner.quota');
  assert.notEqual(classOf('mx.other.test'), 'partner.quota');
});
