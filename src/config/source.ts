/**
 * From files to one tree: reads the config file and what it includes, fills in `${VARIABLE}`, merges. Knows nothing
 * of which keys exist; every problem is gathered with its place, none is thrown.
 */
import { dirname, resolve } from 'node:path';
import { readRegularText } from '../base/regular-file.ts';
import { type Node, type Place, parseJsonc, SyntaxProblem } from './jsonc.ts';

export interface Problem {
  place: Place;
  /** The key, where it is about one. */
  key?: string;
  message: string;
  mend?: string;
}

type Scalar = Extract<Node, { kind: 'scalar' }>;

export interface Source {
  root: Node;
  /** Every file read, the config file first. */
  files: string[];
  /** No file is missing, unreadable or malformed: a key that is not in `root` is set nowhere. */
  complete: boolean;
  problems: Problem[];
  /**
   * Values that were one variable only and look like a number or a boolean: they were taken as such. Where the schema
   * wants a string, they are turned back into the text kept here.
   */
  variables: Map<Scalar, string>;
  /** Scalars with a variable that is not set, and what to say of it: what is left of their text is not checked. */
  unset: Map<Node, string>;
}

export type Environment = Readonly<Record<string, string | undefined>>;
export type ReadFile = (path: string) => string;

const topOf = (file: string): Place => ({ file, line: 1, column: 1 });
const readUtf8: ReadFile = (path) => readRegularText(path);

/** So many files a config may have; one that is included twice counts twice. */
const MAX_FILES = 1000;

class Reader {
  readonly source: Omit<Source, 'root'> = {
    files: [],
    complete: true,
    problems: [],
    variables: new Map(),
    unset: new Map(),
  };
  readonly #environment: Environment;
  readonly #read: ReadFile;
  #reads = 0;

  constructor(environment: Environment, read: ReadFile) {
    this.#environment = environment;
    this.#read = read;
  }

  /** @param chain files whose includes led here, to detect cycles. @param from the line of the last of these includes. */
  file(path: string, chain: readonly string[], from: Place): Node {
    const unusable = (place: Place, message: string): Node => {
      this.#unusable(place, message);
      return { kind: 'object', place: topOf(path), entries: new Map() };
    };
    if (chain.includes(path)) return unusable(from, `include: cycle: ${[...chain, path].join(' → ')}`);
    let root: Node;
    try {
      const text = this.#read(path);
      if (!this.source.files.includes(path)) this.source.files.push(path);
      root = parseJsonc(text, path);
    } catch (error) {
      return error instanceof SyntaxProblem
        ? unusable(error.place, `column ${error.place.column}: ${error.message}`)
        : unusable(from, `cannot read ${path}: ${(error as Error).message}`);
    }
    if (root.kind !== 'object') return unusable(root.place, 'the file must hold one object: { … }');
    this.#fill(root);
    return this.#withIncludes(root, path, chain);
  }

  #unusable(place: Place, message: string): void {
    this.source.complete = false;
    this.source.problems.push({ place, message });
  }

  #withIncludes(root: Node & { kind: 'object' }, path: string, chain: readonly string[]): Node {
    const include = root.entries.get('include');
    if (include?.kind !== 'array') return root;
    let merged: Node = { kind: 'object', place: root.place, entries: new Map() };
    for (const item of include.items) {
      // An entry that is no string is reported by the schema.
      if (item.kind !== 'scalar' || typeof item.value !== 'string') continue;
      if (++this.#reads >= MAX_FILES) {
        if (this.#reads === MAX_FILES) this.#unusable(item.place, `include: more than ${MAX_FILES} files`);
        break;
      }
      merged = merge(merged, this.file(resolve(dirname(path), item.value), [...chain, path], item.place));
    }
    return merge(merged, root);
  }

  #fill(node: Node): void {
    if (node.kind === 'object') for (const entry of node.entries.values()) this.#fill(entry);
    else if (node.kind === 'array') for (const item of node.items) this.#fill(item);
    else if (typeof node.value === 'string' && node.value.includes('${')) this.#fillScalar(node, node.value);
  }

  #fillScalar(node: Scalar, text: string): void {
    const filled = text.replace(/\$?\$\{([^}]*)\}/g, (whole, name: string) => {
      if (whole.startsWith('$$')) return whole.slice(1);
      const value = this.#environment[name];
      if (value !== undefined) return value;
      this.source.unset.set(
        node,
        `the environment variable ${name} is not set (\${${name}} stands here; $\${${name}} means the text itself)`,
      );
      return '';
    });
    node.value = filled;
    if (!/^\$\{[^}]*\}$/.test(text) || !/^(-?\d+(\.\d+)?|true|false)$/.test(filled)) return;
    node.value = JSON.parse(filled) as number | boolean;
    this.source.variables.set(node, filled);
  }
}

/** Objects merge key by key; anything else in `over` replaces what `under` says. */
function merge(under: Node, over: Node): Node {
  if (under.kind !== 'object' || over.kind !== 'object') return over;
  const entries = new Map(under.entries);
  for (const [key, node] of over.entries) {
    const below = entries.get(key);
    entries.set(key, below === undefined ? node : merge(below, node));
  }
  return { kind: 'object', place: over.place, entries };
}

export function readSource(path: string, environment: Environment, read: ReadFile = readUtf8): Source {
  const reader = new Reader(environment, read);
  const root = reader.file(path, [], topOf(path));
  return { root, ...reader.source };
}

/** The tree as plain values. Objects have no prototype: a key such as `__proto__` is a key like any other. */
export function toValue(node: Node): unknown {
  if (node.kind === 'scalar') return node.value;
  if (node.kind === 'array') return node.items.map(toValue);
  const value = Object.create(null) as Record<string, unknown>;
  for (const [key, entry] of node.entries) value[key] = toValue(entry);
  return value;
}

/** The node at a path, or the nearest one above it that stands in the file. */
export function nodeAt(root: Node, path: readonly PropertyKey[]): Node {
  let at = root;
  for (const step of path) {
    const next =
      at.kind === 'object'
        ? at.entries.get(String(step))
        : at.kind === 'array'
          ? at.items[Number(step)]
          : undefined;
    if (next === undefined) return at;
    at = next;
  }
  return at;
}

/** Whether something stands in the file at this path. */
export function has(root: Node, path: readonly string[]): boolean {
  let at: Node | undefined = root;
  for (const step of path) {
    at =
      at?.kind === 'object'
        ? at.entries.get(step)
        : at?.kind === 'array'
          ? at.items[Number(step)]
          : undefined;
  }
  return at !== undefined;
}

/** Where in the tree these nodes are. */
export function pathsOf(root: Node, wanted: Pick<ReadonlySet<Node>, 'has'>): (string | number)[][] {
  if (wanted.has(root)) return [[]];
  const below: [string | number, Node][] =
    root.kind === 'object'
      ? [...root.entries]
      : root.kind === 'array'
        ? root.items.map((item, i): [number, Node] => [i, item])
        : [];
  return below.flatMap(([step, node]) => pathsOf(node, wanted).map((path) => [step, ...path]));
}
