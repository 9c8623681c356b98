/**
 * Rules for replies ready for use. What is compiled here was checked before (rules-file.ts): so threads need not load what
 * the check takes, and a fault is an error without a line.
 */
import { RelayError } from '../base/errors.ts';
import { parseJsonc } from '../config/jsonc.ts';
import { toValue } from '../config/source.ts';
import { CLASSES, MOVES, type ReplyClass, type ReplyMove, type ReplyScope, SCOPES } from '../mail/verdict.ts';
import { codeRange, enhancedRanges, type Range } from './conditions.ts';
import { compilePattern, type Pattern } from './pattern.ts';
import type { RulesText } from './rules-text.ts';

/** A rule as it is written. */
export interface RuleForm {
  id: string;
  provider?: string | undefined;
  code?: string | string[] | undefined;
  enhanced?: string | string[] | undefined;
  pattern?: string | string[] | undefined;
  class: ReplyClass;
  scope: ReplyScope;
  move: ReplyMove;
  treat_as?: 'deferred' | undefined;
  source: string;
}

export interface RulesForm {
  providers?: Record<string, string[]> | undefined;
  rules: RuleForm[];
}

export interface ReplyRule {
  id: string;
  /** '' for all. */
  provider: string;
  codes: Range[];
  enhanced: Range[];
  /** Null: whatever the text is. */
  pattern: Pattern | null;
  class: ReplyClass;
  scope: ReplyScope;
  move: ReplyMove;
  isDeferred: boolean;
  /** Whether a 4xx bounces too: only by a rule of an operator that is about nothing else. */
  bouncesTemporary: boolean;
  source: string;
}

export interface ReplyRules {
  /** Ends of names of MX hosts, with the provider they belong to. */
  providers: Map<string, string>;
  /** The first that matches counts. */
  rules: ReplyRule[];
}

/** What is wrong with a rule. */
export type RuleFault = (key: keyof RuleForm | null, message: string) => void;

export const listOf = (one: string | string[] | undefined): string[] =>
  one === undefined ? [] : typeof one === 'string' ? [one] : one;

/** @param isOwn whether an operator wrote it. @param say is told what is wrong: then the rule is not to be used. */
export function compiledRule(form: RuleForm, isOwn: boolean, say: RuleFault): ReplyRule {
  const { id, provider = '', class: replyClass, scope, move, treat_as, source } = form;
  const codes = listOf(form.code).flatMap((code) => {
    const range = codeRange(code);
    if (range === null) say('code', `"${code}" is no code of a refusal: write "421", "45x" or "5xx"`);
    return range ?? [];
  });
  const enhanced = listOf(form.enhanced).flatMap((one) => {
    const ranges = enhancedRanges(one);
    if (ranges === null)
      say('enhanced', `"${one}" is no enhanced code: write "4.7.28", "x.7.28" or "5.7.606-649"`);
    return ranges ?? [];
  });
  const written = listOf(form.pattern);
  const pattern = written.length === 0 ? null : compilePattern(written.join('|'));
  if (typeof pattern === 'string') say('pattern', pattern);
  if (pattern === null && enhanced.length === 0 && (form.code === undefined || provider === ''))
    say(null, 'a code alone says nothing: a pattern or an enhanced code is missing');
  if (treat_as === undefined && move !== 'bounce' && mayBePermanent(codes, enhanced))
    say('move', `"${move}" for a 5xx needs "treat_as": "deferred" (or "code": "4xx")`);
  if (treat_as !== undefined && move === 'bounce')
    say('treat_as', '"deferred" and the move "bounce" exclude each other');
  return {
    id,
    provider,
    codes,
    enhanced,
    pattern: typeof pattern === 'string' ? null : pattern,
    class: replyClass,
    scope,
    move,
    isDeferred: treat_as === 'deferred',
    bouncesTemporary: isOwn && codes.length > 0 && codes.every(({ to }) => to < 500),
    source,
  };
}

const mayBePermanent = (codes: readonly Range[], enhanced: readonly Range[]): boolean =>
  (codes.length === 0 || codes.some(({ to }) => to >= 500)) &&
  (enhanced.length === 0 || enhanced.some(({ to }) => to >= 5_000_000));

/** @param parts the first one's rules come first. */
export function joined(parts: readonly { providers: [string, string][]; rules: ReplyRule[] }[]): ReplyRules {
  // What an earlier one says of a host replaces what a later one does.
  const providers = new Map(parts.toReversed().flatMap((part) => part.providers));
  return { providers, rules: parts.flatMap(({ rules }) => rules) };
}

export const providerEnds = ({ providers = {} }: RulesForm): [string, string][] =>
  Object.entries(providers).flatMap(([provider, ends]) =>
    ends.map((end): [string, string] => [end, provider]),
  );

/** @param texts the first one's rules come first. @throws Error: one of them is wrong. */
export function compileRules(texts: readonly RulesText[]): ReplyRules {
  return joined(
    texts.map(({ file, text, isOwn }) => {
      const form = toValue(parseJsonc(text, file)) as RulesForm;
      const rules = form.rules.map((rule) => {
        const wrong = (_: unknown, message: string): never => {
          throw new RelayError('config_invalid', `${file}: ${rule.id}: ${message}`);
        };
        const known =
          CLASSES.includes(rule.class as never) && SCOPES.includes(rule.scope) && MOVES.includes(rule.move);
        return known ? compiledRule(rule, isOwn, wrong) : wrong(null, 'a word that is none');
      });
      return { providers: providerEnds(form), rules };
    }),
  );
}
