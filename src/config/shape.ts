/** Reads the schema: which keys a section has, what a key accepts, what its default is, whether it changes live. */
import { z } from 'zod';

type Any = z.ZodType;
type Def = {
  type: string;
  innerType?: Any;
  in?: Any;
  shape?: Record<string, Any>;
  element?: Any;
  valueType?: Any;
  options?: Any[];
  values?: unknown[];
  entries?: Record<string, string>;
  defaultValue?: unknown;
  format?: string;
  discriminator?: string;
};

const defOf = (schema: Any): Def => schema.def as unknown as Def;

/** The schema below default, optional, nullable and transform. */
export function inner(schema: Any): Any {
  const def = defOf(schema);
  const below = def.innerType ?? (def.type === 'pipe' ? def.in : undefined);
  return below === undefined ? schema : inner(below);
}

/**
 * The keys of an object schema, or of all objects of a discriminated union, with their schemas; null when the schema is
 * neither.
 */
export function shapeOf(schema: Any): Record<string, Any> | null {
  const below = inner(schema);
  const { type, discriminator, options = [] } = defOf(below);
  if (type === 'object') return (below as z.ZodObject).shape as Record<string, Any>;
  if (discriminator === undefined) return null;
  const merged: Record<string, Any> = {};
  for (const option of options)
    for (const [key, value] of Object.entries(shapeOf(option) ?? {})) merged[key] ??= value;
  const choices = options.map((option) => inner(shapeOf(option)?.[discriminator] as Any));
  merged[discriminator] = choiceOf(merged[discriminator] as Any, choices);
  return merged;
}

/** The schema of the values of an object whose keys are the operator's choice; null when it is none. */
export function entryOf(schema: Any): Any | null {
  return defOf(inner(schema)).valueType ?? null;
}

/** The key that tells the objects of a union apart; null when the schema is no such union. */
export function discriminatorOf(schema: Any): string | null {
  return defOf(inner(schema)).discriminator ?? null;
}

/** One schema that accepts what any of the literals accepts, with description and default of the first. */
function choiceOf(first: Any, literals: Any[]): Any {
  const values = literals.flatMap((literal) => (defOf(literal).values ?? []) as string[]);
  const choice = z.enum(values as [string, ...string[]]);
  const fallback = defaultOf(first);
  const whole = fallback === undefined ? choice : choice.default(JSON.parse(fallback) as string);
  return whole.describe(first.description ?? '');
}

/** The schema of a value by its path from `schema`; null where the schema does not say. */
export function schemaAt(schema: Any, path: readonly PropertyKey[]): Any | null {
  let at: Any | undefined = schema;
  for (const step of path) {
    if (at === undefined) return null;
    const def: Def = defOf(inner(at));
    const shape: Record<string, Any> | null = shapeOf(at);
    at = shape === null ? (def.element ?? def.valueType) : shape[String(step)];
  }
  return at ?? null;
}

/** Values and bounds in words: "a whole number from 1 to 64", "'auto' or …". */
export function accepts(schema: Any): string {
  const def = defOf(schema);
  if (def.type === 'nullable') return `${accepts(def.innerType as Any)} or null`;
  if (def.innerType !== undefined) return accepts(def.innerType);
  switch (def.type) {
    case 'pipe':
      return accepts(def.in as Any);
    case 'number':
      return numberRange(schema as z.ZodNumber, def.format === 'safeint');
    case 'boolean':
      return 'true or false';
    case 'enum':
      return oneOf(Object.values(def.entries ?? {}));
    case 'literal':
      return oneOf(def.values ?? []);
    case 'union':
      return (def.options ?? []).map(accepts).join(' or ');
    case 'array':
      return `a list of ${plural(def.element as Any)}`;
    case 'record':
      return 'an object of keys of your choice';
    case 'object':
      return 'an object';
    default:
      return 'a string';
  }
}

function numberRange(schema: z.ZodNumber, whole: boolean): string {
  return `a ${whole ? 'whole ' : ''}number from ${schema.minValue} to ${schema.maxValue}`;
}

const oneOf = (values: unknown[]): string =>
  values.map((v) => (typeof v === 'boolean' ? String(v) : `"${String(v)}"`)).join(' or ');

function plural(schema: Any): string {
  const one = accepts(schema);
  return one === 'a string' ? 'strings' : one === 'an object' ? 'objects' : one;
}

/** Default in JSON; undefined when there is none. */
export function defaultOf(schema: Any): string | undefined {
  const def = defOf(schema);
  if (def.type === 'default') return JSON.stringify(def.defaultValue);
  return def.innerType === undefined ? undefined : defaultOf(def.innerType);
}

/** true: a reload applies a change of this key; false: it takes a restart. */
export function isLive(schema: Any): boolean {
  return schema.meta()?.live === true;
}

/** Whether the value at this path, or one around it, must not be shown. */
export function isSecret(schema: Any, path: readonly PropertyKey[]): boolean {
  return path.some((_, i) => schemaAt(schema, path.slice(0, i + 1))?.meta()?.secret === true);
}
