/** What the schema cannot say about `egress`. Pure; part of rules.ts. */
import { isIP } from 'node:net';
import { globOf } from '../base/glob.ts';
import { nearest } from '../base/nearest.ts';
import { parseProxy } from './egress-proxy.ts';
import { checkRouting } from './routing-rules.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';
import { sourceWarmUps } from './source-warm-ups.ts';

type Egress = Config['egress'];

export function checkEgress(
  {
    egress,
    delivery,
    warmup,
    rules,
    attributes,
    tenants,
  }: Pick<Config, 'egress' | 'delivery' | 'warmup' | 'rules' | 'attributes' | 'tenants'>,
  problem: Say,
  warning: Say,
): void {
  checkSources(egress, delivery.ip_family, problem);
  checkPools(egress, problem, warning);
  checkRouting(egress, delivery, problem, warning);
  checkNamedSources(egress, warmup, rules, problem);
  checkNamedPools(egress, warmup, rules, problem);
  checkGivenPools(egress, attributes.rules, tenants, warning);
}

/** Pools that messages get. One that there is not has no effect; without any pool it is no more than a name in events. */
function checkGivenPools(
  { pools }: Egress,
  rules: Config['attributes']['rules'],
  tenants: Config['tenants'],
  warning: Say,
): void {
  if (pools.length === 0) return;
  const names = pools.map(({ name }) => name);
  for (const [i, { set }] of rules.entries())
    if (set.pool !== undefined)
      named('pool', set.pool, names, ['attributes', 'rules', i, 'set', 'pool'], warning);
  for (const [i, { pool }] of tenants.entries())
    if (pool !== undefined) named('pool', pool, names, ['tenants', i, 'pool'], warning);
}

/** Sources that warm-ups and rules on replies name. */
function checkNamedSources(
  { sources }: Egress,
  warmup: Config['warmup'],
  rules: Config['rules'],
  problem: Say,
): void {
  const names = sources.map(({ name }) => name);
  // '' is the default source.
  for (const [i, { source, pool }] of warmup.entries()) {
    if ((source === undefined) === (pool === undefined))
      problem(['warmup', i], 'exactly one of "source" and "pool" says what warms up');
    else if (source) named('source', source, names, ['warmup', i, 'source'], problem);
  }
  for (const [i, { match }] of rules.entries())
    for (const [k, pattern] of (match.sources ?? []).entries())
      if (pattern !== '*' && !names.some(globOf(pattern)))
        named('source', pattern, names, ['rules', i, 'match', 'sources', k], problem);
}

/** Pools that warm-ups and rules on replies send mail to. */
function checkNamedPools(
  { pools }: Egress,
  warmup: Config['warmup'],
  rules: Config['rules'],
  problem: Say,
): void {
  const names = pools.map(({ name }) => name);
  for (const [i, { pool, overflow_pool: overflow }] of warmup.entries()) {
    if (pool !== undefined) named('pool', pool, names, ['warmup', i, 'pool'], problem);
    if (overflow !== '') named('pool', overflow, names, ['warmup', i, 'overflow_pool'], problem);
  }
  for (const { source, overflow_pool: pool, index } of sourceWarmUps({ warmup, egress: { pools } })) {
    const members = pools.find(({ name }) => name === pool)?.members ?? [];
    if (members.some((member) => member.source === source))
      problem(['warmup', index, 'overflow_pool'], `has the source itself as a member: ${source}`);
  }
  for (const [i, { pool }] of rules.entries())
    if (pool !== undefined) named('pool', pool, names, ['rules', i, 'pool'], problem);
}

function checkSources({ sources, dnsbls }: Egress, family: string, problem: Say): void {
  checkNames('sources', sources, problem);
  for (const [i, { address, proxy }] of sources.entries()) {
    const version = isIP(address ?? '');
    if (address !== undefined && version === 0)
      problem(['egress', 'sources', i, 'address'], `must be an IPv4 or IPv6 address, is "${address}"`);
    else if (version !== 0 && family !== 'any' && family !== `ipv${version}`)
      problem(['egress', 'sources', i, 'address'], `must be an address of delivery.ip_family (${family})`);
    const parsed = proxy === undefined ? null : parseProxy(proxy);
    if (parsed !== null && 'wrong' in parsed) problem(['egress', 'sources', i, 'proxy'], parsed.wrong);
    else if (parsed?.kind === 'haproxy' && address === undefined)
      problem(['egress', 'sources', i, 'address'], 'is missing: HAProxy leaves from the address it is told');
  }
  if (dnsbls.length > 0 && sources.every(({ address }) => address === undefined))
    problem(['egress', 'dnsbls'], 'has no effect: no source has an address to look up');
}

function checkNames(kind: 'sources' | 'pools', all: readonly { name: string }[], problem: Say): void {
  const seen = new Map<string, number>();
  for (const [i, { name }] of all.entries()) {
    const other = seen.get(name);
    if (other !== undefined)
      problem(['egress', kind, i, 'name'], `is the name of egress.${kind}[${other}] too`);
    else seen.set(name, i);
  }
}

/** 'names no source "b1"' and the nearest that there is. */
function named(
  what: 'source' | 'pool',
  written: string,
  known: readonly string[],
  path: (string | number)[],
  problem: Say,
): void {
  if (known.includes(written)) return;
  const near = nearest(written, known);
  const mend = near === null ? `write one of egress.${what}s` : `did you mean "${near}"?`;
  problem(path, `names no ${what} of egress.${what}s: "${written}"`, mend);
}

function checkPools({ sources, pools }: Egress, problem: Say, warning: Say): void {
  checkNames('pools', pools, problem);
  const [sourceNames, poolNames] = [sources.map(({ name }) => name), pools.map(({ name }) => name)];
  for (const [i, { name, members, fallback_pool: fallback, retry_other_source: other }] of pools.entries()) {
    const seen = new Set<string>();
    for (const [j, { source }] of members.entries()) {
      const path = ['egress', 'pools', i, 'members', j, 'source'];
      named('source', source, sourceNames, path, problem);
      if (seen.has(source)) problem(path, 'is a member already; give it a larger weight instead');
      seen.add(source);
    }
    if (fallback !== '') named('pool', fallback, poolNames, ['egress', 'pools', i, 'fallback_pool'], problem);
    if (fallsBackTo(pools, fallback).includes(name))
      problem(['egress', 'pools', i, 'fallback_pool'], 'leads back to this pool');
    if (other && members.length === 1 && fallback === '')
      warning(['egress', 'pools', i, 'retry_other_source'], 'has no effect: the pool has one source');
  }
}

/** The pools that are tried after one another from this one on. */
function fallsBackTo(pools: Egress['pools'], first: string): string[] {
  const names: string[] = [];
  for (let name = first; name !== '' && !names.includes(name); ) {
    names.push(name);
    name = pools.find((pool) => pool.name === name)?.fallback_pool ?? '';
  }
  return names;
}
