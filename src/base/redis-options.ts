/** How Redis is reached: the options that every connection to it has. */

import type { RedisOptions } from 'ioredis';
import { readRegular } from './regular-file.ts';

export interface RedisAccess {
  /** With topology single, all of it; with the others what it says besides host and port. */
  url: string;
  /** Absent: single. */
  topology?: 'single' | 'sentinel' | 'cluster' | undefined;
  /** host:port of the sentinels, or of some nodes of the cluster. */
  nodes?: readonly string[];
  masterName?: string;
  sentinelPassword?: string | undefined;
  /** Begins the names of all keys. */
  prefix: string;
  password?: string | undefined;
  tlsCaFile?: string | undefined;
  /** Limit for each command, and for connecting. */
  timeoutMs: number;
}

/** First and longest pause before Redis is tried again; pauses grow while it fails. */
export const RETRY_MS = 500;
export const MAX_RETRY_MS = 5000;

export type ConnectionOptions = Omit<RedisOptions, 'replyMapping'>;

/** @throws Error of the file system when the certificates cannot be read. */
export function redisOptions({ url, password, tlsCaFile, timeoutMs }: RedisAccess): ConnectionOptions {
  const options: ConnectionOptions = {
    protocol: 2,
    connectTimeout: timeoutMs,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(RETRY_MS * times, MAX_RETRY_MS),
  };
  if (password !== undefined) options.password = password;
  if (url.startsWith('rediss:')) {
    options.tls = tlsCaFile === undefined ? {} : { ca: readRegular(tlsCaFile) };
  }
  return options;
}

/** How Redis is reached, from that section of the config. */
export function accessOf(redis: {
  url: string;
  topology: 'single' | 'sentinel' | 'cluster';
  nodes: readonly string[];
  master_name: string;
  sentinel_password: string | null;
  prefix: string;
  password: string | null;
  tls_ca_file: string | null;
  timeout_ms: number;
}): RedisAccess {
  return {
    url: redis.url,
    topology: redis.topology,
    nodes: redis.nodes,
    masterName: redis.master_name,
    sentinelPassword: redis.sentinel_password ?? undefined,
    prefix: redis.prefix,
    password: redis.password ?? undefined,
    tlsCaFile: redis.tls_ca_file ?? undefined,
    timeoutMs: redis.timeout_ms,
  };
}
