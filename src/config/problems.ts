/** Problems of a config in words: what the schema found, and how a finding is written. */
import type { z } from 'zod';
import { nearest } from '../base/nearest.ts';
import type { Node } from './jsonc.ts';
import { keyPath } from './key-path.ts';
import { insteadOf, nameNow, valueNow } from './renamed.ts';
import { configSchema } from './schema.ts';
import { accepts, discriminatorOf, isSecret, schemaAt, shapeOf } from './shape.ts';
import { has, nodeAt, type Problem } from './source.ts';

const MAX_SHOWN = 100;
/** In a file besides the config. */
const MAX_HINTS = 20;

/** One thing that is wrong or odd, as `config check --json` prints it. */
export interface Said {
  severity: 'error' | 'warning' | 'note';
  file: string;
  line: number;
  column: number;
  /** Null where it concerns the file as a whole. */
  key: string | null;
  problem: string;
  /** What to write or do instead; null where the problem says so. */
  mend: string | null;
}

export function saidOf(severity: Said['severity'], { place, key, message, mend }: Problem): Said {
  return { severity, ...place, key: key ?? null, problem: message, mend: mend ?? null };
}

/** 'file:line: key: what is wrong (what to write)' */
export function textOf({ file, line, key, problem, mend }: Said): string {
  return `${file}:${line}: ${key === null ? '' : `${key}: `}${problem}${mend === null ? '' : ` (${mend})`}`;
}

/** Each thing once, in the order of the files and of the lines in them. */
export function inOrder(said: readonly Said[]): Said[] {
  const once = new Map(said.map((one) => [textOf(one), one]));
  const files = [...new Set(said.map(({ file }) => file))];
  return [...once.values()].sort(
    (a, b) => files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column,
  );
}

export function problemAt(root: Node, path: readonly PropertyKey[], message: string, mend?: string): Problem {
  const key = keyPath(path);
  return { place: nodeAt(root, path).place, ...(key !== '' && { key }), message, ...(mend && { mend }) };
}

/** The value in JSON; of a long one the beginning, which says which one is meant. */
function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}… (${text.length} characters)` : text;
}

/** For how many unknown keys more it is looked what they may mean: in all of the schema, which takes 0.3 ms. */
export interface HintsLeft {
  left: number;
}

/** A problem that the schema found, in words. @param whole the schema of the file. */
export function problemsOf(
  issue: z.core.$ZodIssue,
  root: Node,
  hints: HintsLeft,
  whole: z.ZodType = configSchema,
): Problem[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownKey(whole, issue.path, key, root, hints.left-- > 0));
  const schema = schemaAt(whole, issue.path);
  const wanted = schema === null ? issue.message : accepts(schema);
  if (!has(root, issue.path.map(String))) {
    const key = issue.path.at(-1);
    return [problemAt(root, issue.path.slice(0, -1), `"${String(key)}" is missing: ${wanted}`)];
  }
  const node = nodeAt(root, issue.path);
  const scalar =
    node.kind === 'scalar' && (isSecret(whole, issue.path) ? 'something else' : shown(node.value));
  const given = scalar || (node.kind === 'array' ? 'a list' : 'an object');
  if (issue.code === 'invalid_format') {
    const pattern = 'pattern' in issue ? `text that matches ${issue.pattern}` : wanted;
    const format = issue.message.startsWith('Invalid') ? pattern : issue.message;
    return [problemAt(root, issue.path, `must be ${format}, is ${given}`)];
  }
  if (issue.code === 'too_small' && issue.origin === 'array') {
    return [problemAt(root, issue.path, `must have at least ${issue.minimum} entry`)];
  }
  if (issue.code === 'too_small' && issue.origin === 'string') {
    return [problemAt(root, issue.path, 'must not be empty')];
  }
  if (issue.code === 'too_big' && issue.origin === 'string') {
    return [problemAt(root, issue.path, `must have at most ${issue.maximum} characters, is ${given}`)];
  }
  if (issue.code === 'too_big' && issue.origin === 'array') {
    return [problemAt(root, issue.path, `must have at most ${issue.maximum} entries`)];
  }
  const isConfig = whole === configSchema;
  const now = isConfig && node.kind === 'scalar' ? valueNow(keyPath(issue.path), node.value) : null;
  return [problemAt(root, issue.path, `must be ${wanted}, is ${given}`, now ?? undefined)];
}

function unknownKey(whole: z.ZodType, path: PropertyKey[], key: string, root: Node, isFew: boolean): Problem {
  const section = schemaAt(whole, path);
  const known = Object.keys((section && shapeOf(section)) ?? {});
  if (section !== null && known.includes(key)) return problemAt(root, [...path, key], otherVariant(section));
  const isConfig = whole === configSchema;
  const now = isConfig ? nameNow(keyPath(path), key) : null;
  if (now !== null) return problemAt(root, [...path, key], `is called "${now}" now`);
  const instead = isConfig ? insteadOf(keyPath(path), key) : null;
  if (instead !== null) return problemAt(root, [...path, key], 'is gone', instead);
  const near = isFew ? nearest(key, known) : null;
  const [other] = near === null && isFew ? placesOf(whole, key) : [];
  const hint =
    near !== null
      ? `did you mean "${near}"?`
      : other !== undefined
        ? `it belongs elsewhere: ${other}`
        : `known here: ${known.join(', ')}`;
  return problemAt(root, [...path, key], 'unknown key', isFew ? hint : undefined);
}

/** What a schema found wrong in a file, a line each. */
export function linesOf(error: z.ZodError, root: Node, whole: z.ZodType): string[] {
  const hints = { left: MAX_HINTS };
  return inOrder(
    error.issues.flatMap((issue) => problemsOf(issue, root, hints, whole)).map((one) => saidOf('error', one)),
  ).map(textOf);
}

/** Where in the config there is a key of that name. */
function placesOf(section: z.ZodType, name: string, prefix = ''): string[] {
  return Object.entries(shapeOf(section) ?? {}).flatMap(([key, below]) => [
    ...(key === name ? [prefix + key] : []),
    ...placesOf(below, name, `${prefix}${key}.`),
  ]);
}

/** The problem of a key in a section whose keys depend on one of them, such as database.driver. */
function otherVariant(section: z.ZodType): string {
  return `is not a key of this ${discriminatorOf(section) ?? 'kind'}`;
}
