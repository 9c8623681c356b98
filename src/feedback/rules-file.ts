/**
 * Files of rules for replies: read, checked, compiled. Either all of a file is good or nothing of it is used; every
 * problem names file and line. Which rule matches is the classifier's business.
 */
import { z } from 'zod';
import { RelayError } from '../base/errors.ts';
import { type Node, parseJsonc, SyntaxProblem } from '../config/jsonc.ts';
import { keyPath } from '../config/key-path.ts';
import { linesOf } from '../config/problems.ts';
import { nodeAt, toValue } from '../config/source.ts';
import { CLASSES, MOVES, SCOPES } from '../mail/verdict.ts';
import { compiledRule, joined, providerEnds, type ReplyRule, type ReplyRules } from './compiled-rules.ts';
import { covers } from './conditions.ts';
import { type RulesText, readRulesText } from './rules-text.ts';

const MAX_RULES = 10_000;

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_.-]{0,63}$/, 'must be small letters, digits, _ . - (at most 64)');
const orList = (one: z.ZodString) => z.union([one, z.array(one).min(1).max(200)]);
const ruleSchema = z.strictObject({
  id: name,
  provider: name.optional(),
  code: orList(z.string()).optional(),
  enhanced: orList(z.string()).optional(),
  pattern: orList(z.string().min(1).max(1000)).optional(),
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

type Say = (path: readonly PropertyKey[], message: string) => void;

/**
 * @param files the first one's rules come first.
 * @throws RelayError config_invalid with every problem of every file, a line each.
 */
export function loadReplyRules(files: readonly string[]): ReplyRules {
  const problems: string[] = [];
  const parts = files.map((file) => rulesOf(readRulesText(file), problems));
  if (problems.length > 0) throw new RelayError('config_invalid', problems.join('\n'));
  return joined(parts);
}

/** What is wrong with an operator's file of rules; each with file and line. */
export function ruleProblems(file: string): string[] {
  try {
    loadReplyRules([file]);
    return [];
  } catch (error) {
    if (error instanceof RelayError) return error.message.split('\n');
    throw error;
  }
}

function rulesOf({ file, text, isOwn }: RulesText, problems: string[]): Parameters<typeof joined>[0][number] {
  const none = { providers: [], rules: [] };
  let root: Node;
  try {
    root = parseJsonc(text, file);
  } catch (error) {
    if (!(error instanceof SyntaxProblem)) throw error;
    problems.push(`${file}:${error.place.line}: ${error.message}`);
    return none;
  }
  const say: Say = (path, message) => {
    const key = keyPath(path);
    problems.push(`${file}:${nodeAt(root, path).place.line}: ${key === '' ? '' : `${key}: `}${message}`);
  };
  const parsed = fileSchema.safeParse(toValue(root));
  if (!parsed.success) {
    problems.push(...linesOf(parsed.error, root, fileSchema));
    return none;
  }
  const before = problems.length;
  const rules = parsed.data.rules.map((rule, i) =>
    compiledRule(rule, isOwn, (key, message) => say(['rules', i, ...(key === null ? [] : [key])], message)),
  );
  const lineOf = (i: number): number => nodeAt(root, ['rules', i]).place.line;
  if (problems.length === before) refuseRepeated(rules, lineOf, say);
  return { providers: providerEnds(parsed.data), rules };
}

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
        tokens.some(({ texts }) => texts.every(has)) ||
        broad.expressions.some((one) => one.source === source),
    )
  );
}
