/** What the schema cannot say about `egress.routing`. Pure; part of egress-rules.ts. */
import { domainKey } from '../base/domain.ts';
import { nearest } from '../base/nearest.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

type Rule = Config['egress']['routing'][number];
type Routes = { smarthost?: object | undefined; routes: Config['delivery']['routes'] };

const CLASSES: readonly string[] = ['urgent', 'normal', 'bulk'];
const RESULTS = ['pool', 'route', 'next_hop', 'class', 'hold', 'discard'] as const;

export function checkRouting(
  { pools, routing }: Pick<Config['egress'], 'pools' | 'routing'>,
  delivery: Routes,
  problem: Say,
  warning: Say,
): void {
  const at = (i: number, ...keys: string[]): (string | number)[] => ['egress', 'routing', i, ...keys];
  const poolNames = pools.map(({ name }) => name);
  const names = new Map<string, number>();
  for (const [i, rule] of routing.entries()) {
    const results = RESULTS.filter((key) => rule[key] !== undefined);
    if (results.length !== 1)
      problem(at(i), `must have exactly one of ${RESULTS.join(', ')}, has ${results.join(', ') || 'none'}`);
    checkName(rule, i, names, at, problem);
    const { pool, route, next_hop: hop } = rule;
    if (pool !== undefined && !poolNames.includes(pool))
      problem(
        at(i, 'pool'),
        `names no pool of egress.pools: "${pool}"`,
        mend(pool, poolNames, 'egress.pools'),
      );
    if (route !== undefined) checkRoute(route, delivery, at(i, 'route'), problem);
    if (hop !== undefined) checkHop(routing, i, hop, at(i, 'next_hop'), problem);
    const hidden = hiddenBy(routing, i);
    if (hidden !== null) problem(at(i), `is never reached: ${hidden}`);
  }
  if (pools.length > 0 && routing.every(({ pool }) => pool === undefined))
    warning(['egress', 'pools'], 'are taken by messages alone that name one: egress.routing has no rule');
}

type At = (i: number, ...keys: string[]) => (string | number)[];

function checkName(rule: Rule, i: number, names: Map<string, number>, at: At, problem: Say): void {
  const { name, hold, discard } = rule;
  if (name === undefined) {
    const which = hold === true ? 'hold' : discard === true ? 'discard' : null;
    if (which !== null) problem(at(i, 'name'), `is missing: a rule with ${which} is named by what it did`);
    return;
  }
  const other = names.get(name);
  if (other !== undefined) problem(at(i, 'name'), `is the name of egress.routing[${other}] too`);
  else names.set(name, i);
}

function checkRoute(
  route: string,
  { smarthost, routes }: Routes,
  at: (string | number)[],
  problem: Say,
): void {
  const known = [...Object.keys(routes), ...(smarthost === undefined ? [] : ['smarthost'])];
  if (known.includes(route === 'smarthost' ? route : domainKey(route))) return;
  const all = 'delivery.routes, or smarthost where there is one';
  problem(at, `names no next hop: "${route}"`, mend(route, known, all));
}

function checkHop(
  routing: readonly Rule[],
  i: number,
  hop: NonNullable<Rule['next_hop']>,
  at: (string | number)[],
  problem: Say,
): void {
  if (hop.tls?.implicit === true && hop.tls.mode === 'none')
    problem([...at, 'tls', 'implicit'], 'means TLS, and "mode" none');
  const same = routing.slice(0, i).findIndex(({ next_hop: other }) => isSame(other, hop));
  if (same >= 0 && JSON.stringify(routing[same]?.next_hop) !== JSON.stringify(hop))
    problem(at, `is the host and port of egress.routing[${same}].next_hop, with another "tls"`);
}

const isSame = (one: Rule['next_hop'], { host, port }: { host: string; port: number }): boolean =>
  one !== undefined && one.host.toLowerCase() === host.toLowerCase() && one.port === port;

function mend(written: string, known: readonly string[], of: string): string {
  const near = nearest(written, known);
  return near === null ? `write one of ${of}` : `did you mean "${near}"?`;
}

/** Why no mail comes to the rule: an earlier one takes all of it, or has changed its class; null: some may come. */
function hiddenBy(routing: readonly Rule[], i: number): string | null {
  const rule = routing[i] as Rule;
  for (let earlier = i - 1; earlier >= 0; earlier--) {
    const other = routing[earlier] as Rule;
    // What is behind another class: mail that a rule has given this one.
    const isChanged = routing.slice(earlier + 1, i).some((between) => between.class !== undefined);
    if (other.class === undefined) {
      const match = isChanged && other.match.class !== undefined ? null : other.match;
      if (match !== null && coversAll(match, rule.match))
        return `egress.routing[${earlier}] matches all that it could`;
    } else if (!isChanged && makesOther(other, rule))
      return `egress.routing[${earlier}] makes all that it could match ${other.class}`;
  }
  return null;
}

/** Whether the rule gives all mail that the other could match a class which that one does not. */
function makesOther({ match, class: made }: Rule, { match: later }: Rule): boolean {
  const classes = later.class;
  if (classes === undefined || classes.includes('*') || classes.includes(made as string)) return false;
  if (!classes.every((one) => CLASSES.includes(one))) return false;
  const { class: from, ...rest } = match;
  return (
    coversAll(rest, later) &&
    (from === undefined || from.includes('*') || classes.every((one) => from.includes(one)))
  );
}

/** Whether a match takes all that another one takes, as far as their texts say. */
function coversAll(one: Rule['match'], other: Rule['match']): boolean {
  return Object.entries(one).every(([key, patterns]) => {
    if (patterns === undefined || patterns.includes('*')) return true;
    const others = other[key as keyof typeof other];
    return others?.every((text) => patterns.includes(text)) === true;
  });
}
