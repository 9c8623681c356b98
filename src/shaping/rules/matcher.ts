/** Whether what a peer said is what a rule is about. Patterns are RE2: linear in the text, whatever it is. */
import { RE2JS, RE2JSException } from 're2js';
import { globOf } from '../../base/glob.ts';
import { nearest } from '../../base/nearest.ts';
import type { DeliveryRule } from '../../config/delivery-rules-schema.ts';
import { CLASSES, SCOPES } from '../../mail/verdict.ts';

/** What a peer said of messages. */
export interface Fact {
  atMs: number;
  isDelivered: boolean;
  /** 0: the peer said nothing; what we say ourselves never counts. */
  code: number;
  enhanced: string;
  reply: string;
  class: string;
  scope: string;
  /** Provider, or site. */
  site: string;
  source: string;
  tenant: string;
  campaign: string;
  fromDomain: string;
  messages: number;
}

type Test = (fact: Fact) => boolean;

export interface Matcher {
  /** Whether the fact is of the mail that the rule is about. */
  concerns: Test;
  /** Whether it is a reply that counts. */
  matches: Test;
}

/** A rule may count the replies that no rule of config/replies.json knows. */
const COUNTED_CLASSES = [...CLASSES, 'unknown'];

const CODE = /^[245](?:\d[\dx]|xx)$/;

/** @returns what is wrong with the rule, with the key below `match`. */
export function matcherOf({ match }: DeliveryRule): Matcher | [string, string] {
  const wrongCode = match.code?.find((code) => !CODE.test(code));
  if (wrongCode !== undefined) return ['code', `"${wrongCode}" is no code: write "421", "45x" or "5xx"`];
  const wrongWord = strangeIn(match);
  if (wrongWord !== null) return wrongWord;
  const reply = match.reply === undefined ? null : compiled(match.reply);
  if (typeof reply === 'string') return ['reply', reply];
  const concerns = all([
    named(match.providers, ({ site }) => site),
    named(match.sources, ({ source }) => source),
    named(match.tenants, ({ tenant }) => tenant),
    named(match.campaigns, ({ campaign }) => campaign),
  ]);
  const matches = all([
    ({ isDelivered }) => !isDelivered,
    oneOf(match.classes, (fact) => fact.class),
    oneOf(match.scope, ({ scope }) => scope),
    match.code && ((fact) => match.code?.some((code) => isCode(code, String(fact.code))) === true),
    named(match.enhanced, ({ enhanced }) => enhanced),
    reply === null ? undefined : (fact) => reply.matcher(fact.reply).find(),
  ]);
  return { concerns, matches };
}

/** A class or scope that no reply has: a rule by it would never act. */
function strangeIn({ classes, scope }: DeliveryRule['match']): [string, string] | null {
  return strange('classes', 'class', classes, COUNTED_CLASSES) ?? strange('scope', 'scope', scope, SCOPES);
}

function strange(
  key: string,
  what: string,
  names: readonly string[] | undefined,
  known: readonly string[],
): [string, string] | null {
  const name = names?.find((one) => !known.includes(one));
  if (name === undefined) return null;
  const near = nearest(name, known);
  return [key, `there is no ${what} "${name}"${near === null ? '' : ` (did you mean "${near}"?)`}`];
}

function compiled(pattern: string): RE2JS | string {
  try {
    return RE2JS.compile(pattern, RE2JS.CASE_INSENSITIVE);
  } catch (error) {
    if (error instanceof RE2JSException) return `not a pattern that takes linear time: ${error.message}`;
    throw error;
  }
}

const isCode = (wanted: string, code: string): boolean =>
  [...wanted].every((digit, i) => digit === 'x' || digit === code[i]);

function all(tests: readonly (Test | undefined)[]): Test {
  const known = tests.filter((test) => test !== undefined);
  return (fact) => {
    for (const test of known) if (!test(fact)) return false;
    return true;
  };
}

function oneOf(wanted: readonly string[] | undefined, value: (fact: Fact) => string): Test | undefined {
  if (wanted === undefined) return undefined;
  const set = new Set(wanted);
  return (fact) => set.has(value(fact));
}

function named(wanted: readonly string[] | undefined, value: (fact: Fact) => string): Test | undefined {
  if (wanted === undefined) return undefined;
  const globs = wanted.map(globOf);
  return (fact) => {
    const text = value(fact);
    for (const glob of globs) if (glob(text)) return true;
    return false;
  };
}
