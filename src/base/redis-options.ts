/** How Redis is reached: the options that every connection to it has. */
import { readFileSync } from 'node:fs';
import type { RedisOptions } from 'ioredis';

export interface RedisAccess {
  url: string;
  /** Begins the names of all keys. */
  prefix: string;
  password?: string | undefined;
  tlsCaFile?: string | undefined;
  /** For each command, and for connecting. */
  timeoutMs: number;
}

/** Pauses before Redis is tried again; doubled while it fails. */
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
    options.tls = tlsCaFile === undefined ? {} : { ca: readFileSync(tlsCaFile) };
  }
  return options;
}
