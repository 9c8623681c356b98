/**
 * Files of rules for replies: read, checked, compiled. Either all of a file is good or nothing of it is used; every
 * problem names file and line. Which rule matches is the classifier's business.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { RelayError } from '../base/errors.ts';
import { readRegularText } from '../base/regular-file.ts';
import { type Node, parseJsonc, SyntaxProblem } from '../config/jsonc.ts';
import { keyPath } from '../config/key-path.ts';
import { nodeAt, toValue } from '../config/source.ts';
import { codeRange, covers, enhancedRanges, type Range } from './conditions.ts';
import { compilePattern, type Pattern } from './pattern.ts';
import { CLASSES, MOVES, type ReplyClass, type ReplyMove, type ReplyScope, SCOPES } from './vocabulary.ts';

/** Those of the installation. */
export const SHIPPED_RULES = join(import.meta.dirname, '../../config/replies.json');

const MAX_FILE_BYTES = 4_194_304;
const MAX_RULES = 10_000;

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_.-]{0,63}$/, 'must be small letters, digits, _ . - (at most 64)');
const listOf = (one: z.ZodString) =>
  z.union([one, z.array(one).min(1).max(200)]).transform((all) => [all].flat());
const ruleSchema = z.strictObject({
  id: name,
  provider: name.optional(),
  code: listOf(z.string()).optional(),
  enhanced: listOf(z.string()).optional(),
  pattern: listOf(z.string().min(1).max(1000)).optional(),
  class: z.enum(CLASSES),
  scope: z.enum(SCOPES),
  move: z.enum(MOVES),
  treat_as: z.literal('deferred').optional(),
  source: z.string().min(1).max(500),
});
const fileSchema = z.strictObject({
  providers: z
    .record(
      name,
      z.array(z.string().regex(/^[a-z0-9.-]{1,253}$/, 'must be a domain in small letters')).max(200),
    )
    .optional(),
  rules: z.array(ruleSchema).max(MAX_RULES),
});

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
  source: string;
}

export interface ReplyRules {
  /** Ends of names of MX hosts, with the provider they belong to. */
  providers: Map<string, string>;
  /** The first that matches counts. */
  rules: ReplyRule[];
}

type Say = (path: readonly PropertyKey[], message: string) => void;

/**
 * @param files the first one's rules come first.
 * @throws RelayError config_invalid with every problem of every file, a line each.
 */
export function loadReplyRules(files: readonly string[]): ReplyRules {
  const problems: string[] = [];
  const read = files.map((file) => readRules(file, problems));
  if (problems.length > 0) throw new RelayError('config_invalid', problems.join('\n'));
  const providers = new Map<string, string>();
  for (const one of read.toReversed())
    for (const [end, provider] of one.providers) providers.set(end, provider);
  return { providers, rules: read.flatMap(({ rules }) => rules) };
}

function readRules(file: string, problems: string[]): ReplyRules {
  const none: ReplyRules = { providers: new Map(), rules: [] };
  let root: Node;
  try {
    root = parseJsonc(readRegularText(file, MAX_FILE_BYTES), file);
  } catch (error) {
    const line = error instanceof SyntaxProblem ? `:${error.place.line}` : '';
    problems.push(`${file}${line}: ${line === '' ? 'cannot be read: ' : ''}${(error as Error).message}`);
    return none;
  }
  const say: Say = (path, message) => {
    const key = keyPath(path);
    problems.push(`${file}:${nodeAt(root, path).place.line}: ${key === '' ? '' : `${key}: `}${message}`);
  };
  const parsed = fileSchema.safeParse(toValue(root));
  if (!parsed.success) {
    for (const { path, message } of parsed.error.issues) say(path, message);
    return none;
  }
  const before = problems.length;
  const rules = parsed.data.rules.map((rule, i) => compiledRule(rule, ['rules', i], say));
  const lineOf = (i: number): number => nodeAt(root, ['rules', i]).place.line;
  if (problems.length === before) refuseRepeated(rules, lineOf, say);
  const providers = new Map(
    Object.entries(parsed.data.providers ?? {}).flatMap(([provider, ends]) =>
      ends.map((end) => [end, provider]),
    ),
  );
  return { providers, rules };
}

function compiledRule(given: z.output<typeof ruleSchema>, path: readonly PropertyKey[], say: Say): ReplyRule {
  const codes = (given.code ?? []).flatMap((code) => {
    const range = codeRange(code);
    if (range === null)
      say([...path, 'code'], `"${code}" is no code of a refusal: write "421", "45x" or "5xx"`);
    return range ?? [];
  });
  const enhanced = (given.enhanced ?? []).flatMap((one) => {
    const ranges = enhancedRanges(one);
    if (ranges === null)
      say([...path, 'enhanced'], `"${one}" is no enhanced code: write "4.7.28", "x.7.28" or "5.7.606-649"`);
    return ranges ?? [];
  });
  const { id, provider = '', class: replyClass, scope, move, treat_as, source } = given;
  const pattern = given.pattern === undefined ? null : compilePattern(given.pattern.join('|'));
  if (typeof pattern === 'string') say([...path, 'pattern'], pattern);
  if (pattern === null && enhanced.length === 0 && (given.code === undefined || provider === ''))
    say(path, 'a code alone says nothing: a pattern or an enhanced code is missing');
  if (treat_as === undefined && move !== 'bounce' && mayBePermanent(codes, enhanced))
    say([...path, 'move'], `"${move}" for a 5xx needs "treat_as": "deferred" (or "code": "4xx")`);
  const compiled = typeof pattern === 'string' ? null : pattern;
  const isDeferred = treat_as === 'deferred';
  return {
    id,
    provider,
    codes,
    enhanced,
    pattern: compiled,
    class: replyClass,
    scope,
    move,
    isDeferred,
    source,
  };
}

const mayBePermanent = (codes: readonly Range[], enhanced: readonly Range[]): boolean =>
  (codes.length === 0 || codes.some(({ to }) => to >= 500)) &&
  (enhanced.length === 0 || enhanced.some(({ to }) => to >= 5_000_000));

function refuseRepeated(rules: readonly ReplyRule[], lineOf: (index: number) => number, say: Say): void {
  const ids = new Map<string, number>();
  for (const [i, rule] of rules.entries()) {
    const same = ids.get(rule.id);
    if (same !== undefined)
      say(['rules', i, 'id'], `"${rule.id}" is the id of the rule in line ${lineOf(same)} too`);
    else ids.set(rule.id, i);
    const earlier = rules.findIndex((other, k) => k < i && matchesAllOf(other, rule));
    if (earlier < 0) continue;
    const isSame = matchesAllOf(rule, rules[earlier] as ReplyRule);
    const why = isSame ? 'it asks the same as' : 'it can never match, for all that it could is taken by';
    say(['rules', i], `${why} the rule in line ${lineOf(earlier)} (${rules[earlier]?.id})`);
  }
}

/** Whether every reply that `rule` matches is one that `other` matches: as far as plain text shows it. */
function matchesAllOf(other: ReplyRule, rule: ReplyRule): boolean {
  if (other.provider !== '' && other.provider !== rule.provider) return false;
  if (!covers(other.codes, rule.codes) || !covers(other.enhanced, rule.enhanced)) return false;
  const broad = other.pattern;
  if (broad === null) return true;
  if (rule.pattern === null) return false;
  const has = (text: string): boolean => broad.plain.some((plain) => text.includes(plain));
  return (
    rule.pattern.plain.every(has) &&
    rule.pattern.expressions.every(
      ({ tokens, source }) =>
        tokens.some((set) => set.every(has)) || broad.expressions.some((one) => one.source === source),
    )
  );
}
