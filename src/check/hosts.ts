/** Names that a config connects to: whether they have an address. All are asked at once. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Finding, Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { Queries } from '../dns/queries.ts';

/** Longer than this nobody waits for an answer. */
const PATIENCE_MS = 5000;
const NO_NAME: ReadonlySet<unknown> = new Set(['ENOTFOUND', 'ENODATA', 'EBADNAME', 'EAI_NONAME']);

/** Resolves when the name has an address; rejects with an error that has a code. */
export type AskName = (name: string) => Promise<unknown>;

export interface Askers {
  /** As deliveries look up names: by dns.servers. */
  delivery: AskName;
  /** As the system does, hosts file included. */
  system: AskName;
}

export function askersOf({ dns }: Config): Askers {
  const queries = new Queries(dns);
  return {
    system: lookup,
    delivery: (name) =>
      name.toLowerCase() === 'localhost'
        ? Promise.resolve()
        : Promise.any([queries.resolve4(name), queries.resolve6(name)]).catch(
            ({ errors }: AggregateError) => {
              // An answer that there is none counts only where both say so.
              throw errors.find(({ code }) => !NO_NAME.has(code)) ?? errors[0];
            },
          ),
  };
}

export async function checkHosts(
  config: Config,
  { delivery, system }: Askers,
  problem: Say,
  warning: Say,
): Promise<void> {
  const names = [
    ...nextHops(config).map(([path, host]) => ({ path, host, ask: delivery })),
    ...servers(config).map(([path, host]) => ({ path, host, ask: system })),
  ];
  await Promise.all(
    names.map(async ({ path, host, ask }) => {
      const name = host.replace(/^\[(?:IPv6:)?(.*)\]$/i, '$1');
      if (isIP(name) !== 0) return;
      const fault = await faultOf(name, ask);
      if (fault === null) return;
      if (fault === 'no-name')
        problem(path, `the name ${name} has no address`, 'mend the name, or write an address');
      else warning(path, `whether ${name} has an address cannot be told now: ${fault}`);
    }),
  );
}

async function faultOf(name: string, ask: AskName): Promise<string | null> {
  const late = new Promise<string>((resolve) => {
    setTimeout(resolve, PATIENCE_MS, `no answer within ${PATIENCE_MS} ms`).unref();
  });
  const asked = ask(name).then(
    () => null,
    (error: NodeJS.ErrnoException) => (NO_NAME.has(error.code) ? 'no-name' : (error.code ?? error.message)),
  );
  return Promise.race([asked, late]);
}

type Named = [Finding['path'], string];

function nextHops({ delivery }: Config): Named[] {
  const { smarthost, routes } = delivery;
  return [
    ...(smarthost === undefined ? [] : [[['delivery', 'smarthost', 'host'], smarthost.host] as Named]),
    ...Object.entries(routes).map(
      ([domain, { host }]): Named => [['delivery', 'routes', domain, 'host'], host],
    ),
  ];
}

function servers({ listeners, database, scheduler, policy, storage, auth }: Config): Named[] {
  const found: Named[] = [];
  const server = (
    path: Finding['path'],
    one: { host: string; socket: string | null; endpoints: string[] },
  ) => {
    if (one.socket === null) found.push([[...path, 'host'], one.host]);
    for (const [i, endpoint] of one.endpoints.entries())
      found.push([[...path, 'endpoints', i], withoutPort(endpoint)]);
  };
  for (const [i, { host }] of listeners.entries())
    if (host !== undefined) found.push([['listeners', i, 'host'], host]);
  if (database.driver === 'mysql') server(['database'], database);
  if (database.driver === 'mysql_distributed')
    for (const [i, shard] of database.shards.entries()) server(['database', 'shards', i], shard);
  const { engine, redis } = scheduler;
  if (engine === 'bullmq' || policy.scope === 'cluster') {
    const at = ['scheduler', 'redis'];
    if (redis.topology === 'single') found.push([[...at, 'url'], new URL(redis.url).hostname]);
    else redis.nodes.forEach((node, i) => void found.push([[...at, 'nodes', i], withoutPort(node)]));
  }
  if (storage.provider === 'hdfs_web')
    for (const [i, endpoint] of storage.hdfs_web.endpoints.entries())
      found.push([['storage', 'hdfs_web', 'endpoints', i], new URL(endpoint).hostname]);
  for (const [i, { url }] of auth.backends.entries())
    if (url !== undefined) found.push([['auth', 'backends', i, 'url'], new URL(url).hostname]);
  return found;
}

const withoutPort = (place: string): string => place.replace(/:\d+$/, '');
