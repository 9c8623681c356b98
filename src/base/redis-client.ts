/** A connection to Redis: to one server, the master that sentinels name, or a cluster. It is used in the same way. */
import { Cluster, Redis } from 'ioredis';
import {
  type ConnectionOptions,
  MAX_RETRY_MS,
  RETRY_MS,
  type RedisAccess,
  redisOptions,
} from './redis-options.ts';

/** The options of every connection, and scripts, which become methods of the client. */
export type ClientOptions = ConnectionOptions & {
  scripts?: Record<string, { lua: string; numberOfKeys: number }>;
};

export function openRedis(access: RedisAccess, more: ClientOptions): Redis {
  const { topology = 'single', nodes = [], masterName = 'mymaster', sentinelPassword } = access;
  const options = { ...redisOptions(access), ...more };
  if (topology === 'single') return new Redis(access.url, options);
  const places = nodes.map(placeOf);
  const asUrl = ofUrl(access.url);
  // After a failover the old master takes no writes: we must connect to the new one.
  const reconnectOnError = ({ message }: Error): boolean => message.startsWith('READONLY');
  if (topology === 'sentinel')
    return new Redis({
      ...asUrl,
      ...options,
      sentinels: places,
      name: masterName,
      reconnectOnError,
      failoverDetector: true,
      sentinelRetryStrategy: (times) => Math.min(RETRY_MS * times, MAX_RETRY_MS),
      ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
      ...(options.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: options.tls }),
    });
  const { lazyConnect, enableOfflineQueue, scripts: _s, retryStrategy: _r, ...ofNode } = options;
  return new Cluster(places, {
    lazyConnect: lazyConnect ?? false,
    enableOfflineQueue: enableOfflineQueue ?? true,
    ...(more.scripts === undefined ? {} : { scripts: more.scripts }),
    slotsRefreshTimeout: access.timeoutMs,
    clusterRetryStrategy: (times) => Math.min(RETRY_MS * times, MAX_RETRY_MS),
    redisOptions: { ...asUrl, ...ofNode },
  }) as unknown as Redis;
}

/** Another connection to the same Redis, for commands that may wait for any time. */
export function waitingTwin(client: Redis): Redis {
  if (!client.isCluster)
    return client.duplicate({ lazyConnect: false, enableOfflineQueue: true, commandTimeout: undefined });
  return (client as unknown as Cluster).duplicate([], {
    lazyConnect: false,
    enableOfflineQueue: true,
    redisOptions: { commandTimeout: undefined } as ConnectionOptions,
  }) as unknown as Redis;
}

/** Puts all keys of a queue in one slot of a cluster, because scripts and transactions use several of them. */
export function keyPrefix({ topology, prefix }: RedisAccess): string {
  return topology === 'cluster' && !/\{[^{}]+\}/.test(prefix) ? `{${prefix}}` : prefix;
}

function placeOf(node: string): { host: string; port: number } {
  const colon = node.lastIndexOf(':');
  return { host: node.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(node.slice(colon + 1)) };
}

/** What the URL says besides host and port. */
function ofUrl(url: string): { username?: string; password?: string; db?: number } {
  const { username, password, pathname } = new URL(url);
  const db = Number(pathname.slice(1));
  return {
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(db > 0 ? { db } : {}),
  };
}
