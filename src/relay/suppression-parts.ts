/** The tables of the suppression list, and the file of its filter. Part of the composition root. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { steadyMs } from '../base/steady.ts';
import type { ShardedDatabase } from '../database/sharded-database.ts';
import type { SuppressionPart } from '../feedback/suppression-book.ts';
import { filterPath } from '../feedback/suppression-filter.ts';
import type { DatabaseClient } from '../persistence/database-client.ts';
import type { ProcessPlace } from './place.ts';

/** How long it is taken for granted which processes of the host have queues. */
const FILES_MS = 10_000;

/** The file lies in the data folder of the host, for all its processes. */
export const hostFilterPath = ({ eventsDir }: Pick<ProcessPlace, 'eventsDir'>): string =>
  filterPath(dirname(eventsDir));

/** One table a shard. */
export const partsOfShards = (shards: ShardedDatabase): SuppressionPart[] =>
  shards.names.map(({ id, name }) => ({
    index: id,
    name: `shard ${name}`,
    ofHost: false,
    suppression: (ask) => shards.ask(id, (client) => client.suppression(ask)),
  }));

/**
 * One table for each process of the host that has a queue: ours by our own connection, the others in their files.
 * @param path of our queue's file, or :memory:
 */
export function partsOfFiles(
  path: string,
  process: number,
  client: Pick<DatabaseClient, 'suppression'>,
): () => readonly SuppressionPart[] {
  let parts: SuppressionPart[] = [];
  let untilMs = 0;
  return () => {
    if (steadyMs() < untilMs) return parts;
    untilMs = steadyMs() + FILES_MS;
    parts = queueFiles(path, process).map(({ number, file }) => ({
      index: number,
      name: number === 0 ? 'the queue' : `the queue of relay process ${number}`,
      ofHost: true,
      suppression: (ask) => client.suppression(ask, number === process ? null : file),
    }));
    return parts;
  };
}

const FOLDER = /^process-([1-9]\d{0,4})$/;

/** The queues of the host's processes; see supervisor/process-config.ts. */
export function queueFiles(path: string, process: number): { number: number; file: string }[] {
  if (path === ':memory:') return [{ number: process, file: path }];
  const folder = process === 0 ? dirname(path) : dirname(dirname(path));
  const name = basename(path);
  const files = [{ number: 0, file: join(folder, name) }];
  for (const inner of readdirSync(folder)) {
    const number = Number(FOLDER.exec(inner)?.[1] ?? 0);
    const file = join(folder, inner, name);
    if (number > 0 && existsSync(file)) files.push({ number, file });
  }
  return files;
}
