/**
 * The files in which delivery threads note the attempts they have begun (mail/begun-slots.ts): one for each life of the
 * process. A life that ended well removes its own; what an earlier one left says which rows were under way when it
 * died. Part of the composition root.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { BegunRows, Database, SuspectedRow } from '../database/database.ts';
import type { DeliveryThreadStart } from '../delivery/messages.ts';
import { type BegunRow, clearBegun, readBegun, SLOT_BYTES } from '../mail/begun-slots.ts';
import type { EntryFacts } from '../mail/job.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';

const NAME = /^begun-[0-9]+$/;
/** Files of lives that died and were not looked into yet, because a server was away. Beyond this the oldest are forgotten. */
const MAX_FILES = 16;

export class BegunFiles implements BegunRows {
  readonly #dir: string;
  readonly #log: Log;
  readonly #held: (entry: EntryFacts) => void;
  /** What earlier lives left. */
  #earlier: { path: string; table: Buffer }[] = [];
  #path: string | null = null;

  /** @param held is told of each row that is set aside. */
  constructor(dir: string, log: Log, held: (entry: EntryFacts) => void) {
    this.#dir = dir;
    this.#log = log;
    this.#held = held;
    const names = readdirSync(dir).filter((name) => NAME.test(name));
    names.sort((a, b) => numberOf(a) - numberOf(b));
    for (const name of names.splice(0, Math.max(0, names.length - MAX_FILES)))
      rmSync(join(dir, name), { force: true });
    for (const name of names) {
      const path = join(dir, name);
      const table = readFileSync(path);
      if (readBegun(table).length > 0) this.#earlier.push({ path, table });
      else rmSync(path, { force: true });
    }
  }

  /**
   * Makes the file of this life, with room for each attempt that delivery threads can have under way.
   * @returns the part of each thread; null when the file cannot be had: then nothing is noted.
   */
  create(
    threads: number,
    { max_connections, max_handoff_messages }: Config['delivery'],
  ): (thread: number) => DeliveryThreadStart['begun'] {
    // Each connection has one attempt, and one more that waits behind it; others end without a connection.
    const count = Math.min(max_handoff_messages, 2 * max_connections) + 1;
    const slots = threads * count;
    const path = this.#create(slots);
    return (thread) => (path === null ? null : { path, slots, from: thread * count, count });
  }

  #create(slots: number): string | null {
    const last = this.#earlier.at(-1)?.path;
    const number = last === undefined ? 1 : numberOf(last) + 1;
    const path = join(this.#dir, `begun-${number}`);
    try {
      // The whole of it is written: memory behind a hole would be a crash on a full disk.
      writeZeros(path, slots * SLOT_BYTES);
      this.#path = path;
    } catch (error) {
      rmSync(path, { force: true });
      const advice = 'should mail end the process, nobody can say which it was';
      this.#log.warn('begun.not_noted', { path, error, advice });
    }
    return this.#path;
  }

  /** Tells the database which rows were under way when an earlier life died; for a queue that is a file. */
  async mark(database: Pick<Database, 'suspect'>): Promise<void> {
    const rows = this.of(0);
    if (rows.length > 0) this.marked(0, await database.suspect(rows, Date.now()));
  }

  of(shard: number): BegunRow[] {
    return this.#earlier
      .flatMap(({ table }) => readBegun(table))
      .filter(({ queueId }) => shardOfQueueId(queueId) === shard);
  }

  marked(shard: number, rows: SuspectedRow[]): void {
    for (const { queueId, destination, held } of rows)
      if (!held) this.#log.warn('poison.suspected', { queue_id: queueId, destination });
    this.held(rows.filter(({ held }) => held));
    this.#earlier = this.#earlier.filter(({ path, table }) => {
      const left = clearBegun(table, (queueId) => shardOfQueueId(queueId) === shard);
      if (left === 0) rmSync(path, { force: true });
      else writeFileSync(path, table);
      return left > 0;
    });
  }

  held(rows: EntryFacts[]): void {
    for (const row of rows) {
      const fields = { queue_id: row.queueId, destination: row.destination };
      this.#log.error('poison.held', { ...fields, advice: 'look at it with "queue show"' });
      this.#held(row);
    }
  }

  /** The process ends well: what it had begun is not suspected of anything. */
  end(): void {
    if (this.#path !== null) rmSync(this.#path, { force: true });
    this.#path = null;
  }
}

const numberOf = (path: string): number => Number(path.slice(path.lastIndexOf('-') + 1));

function writeZeros(path: string, bytes: number): void {
  const fd = openSync(path, 'w', 0o600);
  try {
    const zeros = Buffer.alloc(Math.min(bytes, 1 << 20));
    for (let at = 0; at < bytes; ) at += writeSync(fd, zeros, 0, Math.min(zeros.length, bytes - at), at);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
