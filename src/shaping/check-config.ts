/** What the schema cannot say of `adaptive`, `rules` and `warmup`: as a start and `config check` look at them. */

import { nearest } from '../base/nearest.ts';
import { isTimeZone } from '../base/time-zone.ts';
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { sourceWarmUps } from '../config/source-warm-ups.ts';
import { problemsOfRules } from './rules/rules-file.ts';
import type { ShapingData } from './shaping-data.ts';
import { windowOf } from './warmup/sending-days.ts';

/** @param data null: the files with providers are wrong, so names of providers are not looked at. */
export function checkShapingConfig(config: Config, data: ShapingData | null, problem: Say): void {
  for (const [path, message] of problemsOfRules(config.rules))
    problem(['rules', ...path.map(known)], message);
  for (const [i, { match }] of config.rules.entries())
    checkPatterns(match.providers, ['rules', i, 'match', 'providers'], data, problem);
  for (const [i, { match }] of config.egress.routing.entries())
    checkPatterns(match.provider, ['egress', 'routing', i, 'match', 'provider'], data, problem);
  checkAdaptive(config, data, problem);
  checkWarmUp(config, data, problem);
}

/** Parts of paths are names and places in lists. */
const known = (part: PropertyKey): string | number => (typeof part === 'number' ? part : String(part));

function checkAdaptive({ adaptive }: Config, data: ShapingData | null, problem: Say): void {
  const { min_plateau_ms, max_plateau_ms, first_probe_ms, max_probe_ms, providers } = adaptive;
  if (min_plateau_ms > max_plateau_ms)
    problem(['adaptive', 'min_plateau_ms'], `is longer than adaptive.max_plateau_ms (${max_plateau_ms})`);
  if (first_probe_ms > max_probe_ms)
    problem(['adaptive', 'first_probe_ms'], `is longer than adaptive.max_probe_ms (${max_probe_ms})`);
  for (const [name, { floor_per_s, ceiling_per_s }] of Object.entries(providers)) {
    const path = ['adaptive', 'providers', name];
    if (ceiling_per_s > 0 && floor_per_s > ceiling_per_s)
      problem([...path, 'floor_per_s'], `is above ceiling_per_s (${ceiling_per_s})`);
    checkProvider(name, path, data, problem);
  }
}

function checkWarmUp({ warmup, egress }: Config, data: ShapingData | null, problem: Say): void {
  const plans = new Map<string, number>();
  for (const [i, { providers, time_zone, window }] of warmup.entries()) {
    const path = ['warmup', i];
    if (!isTimeZone(time_zone))
      problem([...path, 'time_zone'], `"${time_zone}" is no time zone: write one as "Europe/Berlin"`);
    if (windowOf(window) === null)
      problem([...path, 'window'], `"${window}" is no window of hours: write one as "08:00-20:00"`);
    for (const [k, provider] of providers.entries())
      checkProvider(provider, [...path, 'providers', k], data, problem);
  }
  for (const { source, index, providers } of sourceWarmUps({ warmup, egress }))
    for (const [k, provider] of providers.entries()) {
      const key = `${source}\t${provider}`;
      const other = plans.get(key);
      if (other === undefined) plans.set(key, index);
      else problem(['warmup', index, 'providers', k], `warmup[${other}] has a plan for it already`);
    }
}

/** Where `*` may stand for any text, a name without it must be one that there is. */
function checkPatterns(
  patterns: readonly string[] | undefined,
  path: (string | number)[],
  data: ShapingData | null,
  problem: Say,
): void {
  for (const pattern of patterns ?? [])
    if (!pattern.includes('*')) checkProvider(pattern, path, data, problem);
}

/** Sites have a colon in their names; what has none must be a provider. */
function checkProvider(
  name: string,
  path: (string | number)[],
  data: ShapingData | null,
  problem: Say,
): void {
  if (name === '*' || name.includes(':') || data === null) return;
  const names = data.providers.map((provider) => provider.name);
  if (names.includes(name)) return;
  const near = nearest(name, names);
  problem(path, `there is no provider "${name}"`, near === null ? undefined : `did you mean "${near}"?`);
}
