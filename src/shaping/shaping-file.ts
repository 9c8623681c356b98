/**
 * Reads the shaping data: the file that comes with the relay (config/shaping.json) and the operator's own laid over it. In the
 * former each number has the page that it was taken from, and when. Whatever is wrong is said with file and line.
 */

import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { nearest } from '../base/nearest.ts';
import { readRegularText } from '../base/regular-file.ts';
import { isDay } from '../base/time-text.ts';
import { type Node, type Place, parseJsonc, SyntaxProblem } from '../config/jsonc.ts';
import { keyPath } from '../config/key-path.ts';
import { accepts } from '../config/shape.ts';
import { nodeAt, toValue } from '../config/source.ts';
import { LIMIT_NAMES, type Limits, schemaOfLimit, type Totals } from './limits.ts';
import { MATCH_LISTS, matchProblems } from './match-lists.ts';
import { mergePatch } from './merge-patch.ts';
import type { Provider, Rollup, ShapingData } from './shaping-data.ts';
import { type KnownSources, poolsOf, sourceValues } from './source-values.ts';

/** The one of the installation. */
export const SHIPPED_SHAPING = join(import.meta.dirname, '../../config/shaping.json');

const MAX_FILE_BYTES = 4_194_304;
const MAX_PROVIDERS = 10_000;
const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/;
const startsWithText = (text: string): boolean => /^\S/.test(text);

export interface ShapingFiles {
  file: string;
  /** '' for none. */
  overrides_file: string;
  rollup: Rollup;
}

/** Where a limit comes from. */
export interface Origin {
  place: Place;
  /** The page that the number was taken from, and the day on which it was; '' where nobody said. */
  source: string;
  asOf: string;
}

export interface LoadedShaping {
  data: ShapingData;
  /** Of a limit as it holds for the provider ('' for those of none), and for the source there. */
  originOf(provider: string, limit: string, source?: string): Origin | null;
  /** Where a name stands that says who belongs to the provider. */
  placeOfMatch(provider: string, list: keyof Provider['match'], name: string): Place | null;
}

/**
 * @param known sources and pools of the config; absent: nobody asks for values of sources.
 * @throws RelayError config_invalid with every problem, a line each.
 */
export function loadShaping(files: ShapingFiles, known?: KnownSources): LoadedShaping {
  const problems: string[] = [];
  const loaded = readShaping(files, problems, known);
  if (loaded === null || problems.length > 0) throw new RelayError('config_invalid', problems.join('\n'));
  return loaded;
}

/** @returns null when a file cannot be read at all. */
export function readShaping(
  files: ShapingFiles,
  problems: string[],
  known?: KnownSources,
): LoadedShaping | null {
  const nodes = [files.file, files.overrides_file]
    .filter((file) => file !== '')
    .map((file) => readNode(file, problems));
  if (nodes.includes(null)) return null;
  const root = (nodes as Node[]).reduce(
    (under: Node | undefined, over) => mergePatch(under, over),
    undefined,
  );
  return root === undefined ? null : new Reader(root, problems, known).read(files.rollup);
}

function readNode(file: string, problems: string[]): Node | null {
  try {
    const root = parseJsonc(readRegularText(file, MAX_FILE_BYTES), file);
    if (root.kind === 'object') return root;
    problems.push(`${file}:${root.place.line}: the file must hold one object: { … }`);
  } catch (error) {
    const line = error instanceof SyntaxProblem ? `:${error.place.line}` : '';
    problems.push(`${file}${line}: ${line === '' ? 'cannot be read: ' : ''}${(error as Error).message}`);
  }
  return null;
}

type Entries = ReadonlyMap<string, Node>;

class Reader {
  readonly #root: Node;
  readonly #problems: string[];

  readonly #known: KnownSources | undefined;

  constructor(root: Node, problems: string[], known: KnownSources | undefined) {
    this.#root = root;
    this.#known = known;
    this.#problems = problems;
  }

  read(rollup: Rollup): LoadedShaping {
    const top = this.#object([], ['default', 'providers']);
    const common = this.#limits(
      ['default'],
      top.has('default') ? this.#object(['default'], [...LIMIT_NAMES, ...OF_SOURCES]) : new Map(),
    );
    const ofSources = this.#ofSources(['default']);
    const named = top.has('providers') ? this.#object(['providers'], null) : new Map<string, Node>();
    if (named.size > MAX_PROVIDERS) this.#say(['providers'], `has more than ${MAX_PROVIDERS} providers`);
    const names = [...named.keys()];
    const providers = names.map((name) => this.#provider(name, names, { ...common, ofSources }));
    for (const { path, message } of matchProblems(providers, (at) => this.#placeOf(at)))
      this.#say(path, message);
    return {
      data: { rollup, ...common, ...withSources(ofSources, common.limits), providers },
      originOf: (provider, limit, source) => this.#originOf(provider, limit, source),
      placeOfMatch: (provider, list, name) => {
        const i = providers.find((one) => one.name === provider)?.match[list].indexOf(name) ?? -1;
        return i === -1 ? null : this.#placeOf(['providers', provider, 'match', list, i]);
      },
    };
  }

  #ofSources(path: readonly string[]): Map<string, Limits> {
    return sourceValues(path, this.#known, {
      names: (at) => (this.#nodeAt(at) === undefined ? [] : [...this.#object(at, null).keys()]),
      limits: (at, known) => this.#limits(at, this.#object(at, known)).limits,
      say: (at, message) => this.#say(at, message),
    });
  }

  /** undefined where nothing stands. */
  #nodeAt(path: readonly string[]): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const key of path) node = node?.kind === 'object' ? node.entries.get(key) : undefined;
    return node;
  }

  #provider(
    name: string,
    names: readonly string[],
    common: { limits: Limits; total: Totals; ofSources: ReadonlyMap<string, Limits> },
  ): Provider {
    const path = ['providers', name];
    if (!NAME.test(name)) this.#say(path, 'must be a name of small letters, digits, _ . - (at most 64)');
    const entries = this.#object(path, ['match', ...LIMIT_NAMES, ...OF_SOURCES]);
    const match: Record<(typeof MATCH_LISTS)[number], string[]> = { mx_suffix: [], mx_exact: [], domain: [] };
    if (!entries.has('match')) this.#unknownProvider(name, names);
    else {
      const lists = this.#object([...path, 'match'], MATCH_LISTS);
      for (const list of MATCH_LISTS)
        if (lists.has(list)) match[list] = this.#names([...path, 'match', list]);
      if (![...lists.values()].some(isFilled))
        this.#say([...path, 'match'], 'nothing would ever belong to this provider: name MX hosts or domains');
    }
    const own = this.#limits(path, entries);
    const ofSources = this.#ofSources(path);
    const all = new Set([...common.ofSources.keys(), ...ofSources.keys()]);
    const sources = new Map(
      [...all].map((source): [string, Limits] => [
        source,
        { ...common.ofSources.get(source), ...own.limits, ...ofSources.get(source) },
      ]),
    );
    return {
      name,
      match,
      limits: { ...common.limits, ...own.limits },
      total: { ...common.total, ...own.total },
      ...withSources(sources, common.limits),
    };
  }

  /** An own file changes providers that there are; one of its own says who belongs to it. */
  #unknownProvider(name: string, names: readonly string[]): void {
    const others = names.filter((other) => other !== name);
    const near = nearest(name, others);
    const mend =
      near === null ? 'a new one needs "match"' : `did you mean "${near}"? A new one needs "match"`;
    this.#say(['providers', name], `there is no provider of this name (${mend})`);
  }

  #limits(path: readonly string[], entries: Entries): { limits: Limits; total: Totals } {
    const limits: Record<string, unknown> = {};
    const total: Record<string, unknown> = {};
    for (const [name, node] of entries) {
      const schema = schemaOfLimit(name);
      if (schema === null) continue;
      const at = [...path, name];
      const isSourced = node.kind === 'object' && node.entries.has('value');
      const value = toValue(isSourced ? (node.entries.get('value') as Node) : node);
      const parsed = schema.safeParse(value);
      if (!parsed.success) {
        const { path: within = [], message = '' } = parsed.error.issues[0] ?? {};
        const wanted = name === 'retry' ? `${keyPath(within)} ${message}`.trim() : accepts(schema);
        this.#say(isSourced ? [...at, 'value'] : at, `must be ${wanted}, is ${JSON.stringify(value)}`);
      } else if (name.startsWith('total_')) total[name.slice('total_'.length)] = parsed.data;
      else limits[name] = parsed.data;
      if (isSourced) this.#checkOrigin(at);
    }
    return { limits: limits as Limits, total: total as Totals };
  }

  #checkOrigin(path: readonly string[]): void {
    const entries = this.#object(path, ['value', 'source', 'as_of']);
    for (const [key, right, wanted] of [
      ['source', startsWithText, 'a text that says where the value comes from'],
      ['as_of', isDay, 'the day on which it was found, as 2026-12-31'],
    ] as const) {
      const node = entries.get(key);
      if (node === undefined || (node.kind === 'scalar' && right(String(node.value)))) continue;
      this.#say([...path, key], `must be ${wanted}`);
    }
  }

  #names(path: readonly string[]): string[] {
    const node = nodeAt(this.#root, path);
    if (node.kind === 'array')
      return node.items.map((item, i) => {
        if (item.kind === 'scalar' && typeof item.value === 'string') return item.value;
        this.#say([...path, i], 'must be a name');
        return '';
      });
    this.#say(path, 'must be a list of names');
    return [];
  }

  /** The entries of an object. @param known its keys; null: any. */
  #object(path: readonly string[], known: readonly string[] | null): Entries {
    const node = path.length === 0 ? this.#root : nodeAt(this.#root, path);
    if (node.kind !== 'object') {
      this.#say(path, 'must be an object: { … }');
      return new Map();
    }
    for (const key of known === null ? [] : node.entries.keys()) {
      if (known?.includes(key)) continue;
      const near = nearest(key, known ?? []);
      const mend = near === null ? `known here: ${known?.join(', ')}` : `did you mean "${near}"?`;
      this.#say([...path, key], `unknown key (${mend})`);
    }
    return node.entries;
  }

  #placeOf(path: readonly PropertyKey[]): Place {
    return nodeAt(this.#root, path).place;
  }

  #say(path: readonly PropertyKey[], message: string): void {
    const { file, line } = this.#placeOf(path);
    const key = keyPath(path);
    this.#problems.push(`${file}:${line}: ${key === '' ? '' : `${key}: `}${message}`);
  }

  #originOf(provider: string, limit: string, source?: string): Origin | null {
    const ofSource = (at: readonly string[]): string[][] =>
      source === undefined
        ? []
        : [[...at, 'sources', source], ...poolsOf(source, this.#known).map((pool) => [...at, 'pools', pool])];
    const above = provider === '' ? [['default']] : [['providers', provider], ['default']];
    for (const path of above.flatMap((at) => [...ofSource(at), at])) {
      const node = this.#nodeAt([...path, limit]);
      if (node === undefined) continue;
      const { source = '', value, as_of = '' } = (toValue(node) ?? {}) as Record<string, string>;
      const isSourced = value !== undefined;
      return { place: node.place, source: isSourced ? source : '', asOf: isSourced ? as_of : '' };
    }
    return null;
  }
}

const OF_SOURCES = ['sources', 'pools'];

/** What holds for each source, with what holds for all. */
function withSources(
  sources: ReadonlyMap<string, Limits>,
  under: Limits,
): { sources: ReadonlyMap<string, Limits> } | Record<string, never> {
  if (sources.size === 0) return {};
  return { sources: new Map([...sources].map(([source, limits]) => [source, { ...under, ...limits }])) };
}

/** Whether it may name somebody; what is no list is said elsewhere. */
const isFilled = (list: Node): boolean => list.kind !== 'array' || list.items.length > 0;
