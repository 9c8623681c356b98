/**
 * The suppression list for the command line: straight in the tables, whether a relay runs or not. Its processes see what is added
 * at once, in the filter of the host. Part of the composition root.
 */
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { lockDataDir } from '../base/data-dir.ts';
import { RelayError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { runningRelay } from '../control/running-relay.ts';
import { openConnection } from '../database/sqlite/connection.ts';
import { SuppressionFile } from '../database/sqlite/suppression-file.ts';
import { SuppressionBook, type SuppressionPart } from '../feedback/suppression-book.ts';
import { filterPath, SuppressionFilter } from '../feedback/suppression-filter.ts';
import { SuppressionKeeper } from '../feedback/suppression-keeper.ts';
import { byHash, MAX_SORTED, type Suppression, type SuppressionAnswers } from '../mail/suppression.ts';
import { mapSharedMemory } from '../native.ts';
import { openStoppedServers } from './database.ts';
import { partsOfShards, queueFiles } from './suppression-parts.ts';

const SQL_DIR = fileURLToPath(new URL('../../config/sql/sqlite/', import.meta.url));
/**
 * Entries of a transaction: those that are sorted at once; on a server so many as its log takes well; beside a relay so few that
 * its mail waits for some ten milliseconds.
 */
const OF_SERVER = 50_000;
const BESIDE = 6000;
/** How long the relay has for itself after each of them. */
const TURN_MS = 15;

export interface SuppressionList {
  book: SuppressionBook;
  /** Whether a relay runs on the queue: then it needs its turn, too. */
  running: boolean;
  /**
   * Many entries, whatever is there already; at most MAX_SORTED.
   * @param more about how many are to come with them; null: that is not known.
   */
  put(entries: readonly Suppression[], more?: number | null): Promise<{ added: number; changed: number }>;
  close(): Promise<void>;
}

/** @param changes whether the command writes: on a stopped relay it then keeps one from starting. */
export async function openSuppressionList(config: Config, changes: boolean): Promise<SuppressionList> {
  const client = await runningRelay(config.data_dir);
  client?.close();
  const running = client !== null;
  const lock = changes && !running ? lockDataDir(config.data_dir) : null;
  try {
    const filter = new SuppressionFilter(filterPath(config.data_dir), { map: mapSharedMemory });
    const { parts, close } = openTables(config, filter, running, changes);
    const book = new SuppressionBook(() => parts, Date.now);
    const keeper = new SuppressionKeeper({
      parts: () => parts,
      filter,
      bitsPerEntry: config.suppression.filter_bits_per_entry,
      keeps: !running && changes,
      now: Date.now,
      steady: steadyMs,
      log: silentLog,
    });
    const isServer = config.database.driver !== 'sqlite';
    const size = running ? BESIDE : isServer ? OF_SERVER : MAX_SORTED;
    let hasGrown = false;
    return {
      book,
      running,
      async put(entries, more = entries.length) {
        if (entries.length > 1 && !running) {
          await keeper.grow(entries.length, more);
          hasGrown = true;
        }
        const sorted = byHash(entries);
        const sum = { added: 0, changed: 0 };
        for (let at = 0; at < sorted.length; at += size) {
          const { added, changed } = await book.put(sorted.slice(at, at + size), true);
          sum.added += added;
          sum.changed += changed;
          if (running && at + size < sorted.length) await pause(TURN_MS);
        }
        return sum;
      },
      async close() {
        if (hasGrown) await keeper.fit();
        await keeper.stop();
        await close();
        lock?.release();
      },
    };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

function openTables(
  config: Config,
  filter: SuppressionFilter,
  running: boolean,
  changes: boolean,
): { parts: SuppressionPart[]; close(): Promise<void> } {
  const { database } = config;
  if (database.driver !== 'sqlite') {
    const servers = openStoppedServers(config, filter);
    return { parts: partsOfShards(servers), close: () => servers.close() };
  }
  if (database.path === ':memory:')
    throw new RelayError(
      'database_unavailable',
      'the queue is in memory (database.path is :memory:): its suppression list is the relay’s alone',
    );
  // A relay that runs has upgraded its file; one that never ran has none.
  if (changes && !running) openConnection({ path: database.path, sqlDir: SQL_DIR }).close();
  const there = existsSync(database.path) ? queueFiles(database.path, 0) : [];
  const files = there.map(({ number, file }) => ({
    number,
    list: new SuppressionFile(file, filter),
  }));
  const parts = files.map(
    ({ number, list }): SuppressionPart => ({
      index: number,
      name: number === 0 ? 'the queue' : `the queue of relay process ${number}`,
      ofHost: true,
      suppression: async <A extends { op: keyof SuppressionAnswers }>(ask: A) =>
        list.answer(ask as never) as SuppressionAnswers[A['op']],
    }),
  );
  return {
    parts,
    async close() {
      for (const { list } of files) list.close();
    },
  };
}
