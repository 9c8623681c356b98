/** A file of rules on what peers refuse: a list, or an object with `rules`. All of it is good, or it is refused with every problem. */

import { z } from 'zod';
import { RelayError } from '../../base/errors.ts';
import { readRegularText } from '../../base/regular-file.ts';
import {
  type DeliveryRule,
  deliveryRule,
  MAX_RULES,
  ruleProblems,
} from '../../config/delivery-rules-schema.ts';
import { type Node, parseJsonc, SyntaxProblem } from '../../config/jsonc.ts';
import { keyPath } from '../../config/key-path.ts';
import { linesOf } from '../../config/problems.ts';
import { nodeAt, toValue } from '../../config/source.ts';
import { matcherOf } from './matcher.ts';

const MAX_FILE_BYTES = 4_194_304;
const list = z.array(deliveryRule).max(MAX_RULES);

/** @throws RelayError config_invalid with a line for each problem: file, line, key. */
export function readDeliveryRules(file: string): DeliveryRule[] {
  const root = parsed(file);
  const value = toValue(root);
  const isList = Array.isArray(value);
  const problems: string[] = [];
  const say = (path: readonly PropertyKey[], message: string): void => {
    const full = isList ? path : ['rules', ...path];
    problems.push(`${file}:${nodeAt(root, full).place.line}: ${keyPath(full)}: ${message}`);
  };
  const schema = isList ? list : z.strictObject({ rules: list });
  const result = schema.safeParse(value);
  if (!result.success) {
    problems.push(...linesOf(result.error, root, schema));
  } else {
    const rules = Array.isArray(result.data) ? result.data : result.data.rules;
    for (const [path, message] of problemsOfRules(rules)) say(path, message);
    if (problems.length === 0) return rules;
  }
  throw new RelayError('config_invalid', problems.join('\n'));
}

/** What the schema cannot say, of each rule and of all together. */
export function problemsOfRules(rules: readonly DeliveryRule[]): [PropertyKey[], string][] {
  const found: [PropertyKey[], string][] = [];
  const names = new Map<string, number>();
  for (const [i, rule] of rules.entries()) {
    const same = names.get(rule.name);
    if (same !== undefined) found.push([[i, 'name'], `"${rule.name}" is the name of rule ${same + 1} too`]);
    else names.set(rule.name, i);
    for (const [path, message] of ruleProblems(rule)) found.push([[i, ...path], message]);
    const matcher = matcherOf(rule);
    if (Array.isArray(matcher)) found.push([[i, 'match', matcher[0]], matcher[1]]);
  }
  return found;
}

function parsed(file: string): Node {
  try {
    return parseJsonc(readRegularText(file, MAX_FILE_BYTES), file);
  } catch (error) {
    const line = error instanceof SyntaxProblem ? `:${error.place.line}: ` : ': cannot be read: ';
    throw new RelayError('config_invalid', `${file}${line}${(error as Error).message}`);
  }
}
