/** A stopped relay's queue, read only, for the command line. */

import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import type { Database } from '../database/database.ts';
import type { Arena } from '../native.ts';
import { QueueThread } from './queue-thread.ts';

export type StoppedQueue = Pick<Database, 'lines' | 'count' | 'show' | 'content' | 'stats' | 'close'>;

/** Reading for operators never takes content into an arena; code that tries to has wired it wrongly. */
export const noArena = new Proxy({} as Arena, {
  get(): never {
    throw new Error('a queue opened read only has no content arena');
  },
});

/** @throws RelayError when there is no database, or it cannot be read. */
export function openStoppedQueue(config: Config): StoppedQueue {
  if (config.database.driver === 'sqlite' && config.database.path === ':memory:')
    throw new RelayError(
      'database_unavailable',
      'the queue is in memory (database.path is :memory:): nothing remains of it when the relay is stopped',
    );
  return new QueueThread({ config, arena: noArena, spillDir: '', readOnly: true }).open();
}
