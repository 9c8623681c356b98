/** Values that sources have of their own at a provider: `sources` by name, and `pools` for all members of one. */
import { nearest } from '../base/nearest.ts';
import { type Limits, SOURCE_LIMIT_NAMES } from './limits.ts';

/** What the config says of sources, as far as it matters here. */
export interface KnownSources {
  sources: readonly { name: string }[];
  pools: readonly { name: string; members: readonly { source: string }[] }[];
}

export interface SourceValuesPorts {
  /** The names below a key; empty where it is not there. */
  names(path: readonly string[]): readonly string[];
  /** The limits below a key. @param known the keys it may have. */
  limits(path: readonly string[], known: readonly string[]): Limits;
  say(path: readonly string[], message: string): void;
}

/**
 * What stands below `default`, or below a provider. A source's own values win over those of its pools.
 * @param known absent: names are not looked at, and pools mean nobody.
 */
export function sourceValues(
  path: readonly string[],
  known: KnownSources | undefined,
  { names, limits, say }: SourceValuesPorts,
): Map<string, Limits> {
  const values = new Map<string, Limits>();
  for (const pool of names([...path, 'pools'])) {
    const at = [...path, 'pools', pool];
    const own = limits(at, SOURCE_LIMIT_NAMES);
    if (known === undefined) continue;
    const members = known.pools.find(({ name }) => name === pool)?.members;
    if (members === undefined) say(at, unknown('pool', pool, known.pools));
    for (const { source } of members ?? []) {
      const before: Limits = values.get(source) ?? {};
      for (const limit of Object.keys(own) as (keyof Limits)[])
        if (before[limit] !== undefined && JSON.stringify(before[limit]) !== JSON.stringify(own[limit]))
          say(
            [...at, limit],
            `another pool of source "${source}" says something else: name it under "sources"`,
          );
      values.set(source, { ...before, ...own });
    }
  }
  for (const source of names([...path, 'sources'])) {
    const at = [...path, 'sources', source];
    const own = limits(at, SOURCE_LIMIT_NAMES);
    // '' is the default source.
    if (known !== undefined && source !== '' && !known.sources.some(({ name }) => name === source))
      say(at, unknown('source', source, known.sources));
    values.set(source, { ...values.get(source), ...own });
  }
  return values;
}

function unknown(what: 'source' | 'pool', name: string, known: readonly { name: string }[]): string {
  const names = known.map((one) => one.name);
  const near = nearest(name, names);
  return `there is no ${what} of this name in egress.${what}s${near === null ? '' : ` (did you mean "${near}"?)`}`;
}

/** The pools of a source. */
export const poolsOf = (source: string, known: KnownSources | undefined): string[] =>
  (known?.pools ?? [])
    .filter(({ members }) => members.some((member) => member.source === source))
    .map(({ name }) => name);
