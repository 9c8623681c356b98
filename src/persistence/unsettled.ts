/**
 * Keeps results in a file of this process, `unsettled-N`, while their database is away, so that what was delivered is
 * not sent again if the process ends before the database is back (I6). The file is written every half second while
 * results wait longer than usual, and at the end. They are replayed when the shard is back, before any of its rows is
 * recovered or claimed. While every shard answers, this looks twice a second and does nothing.
 *
 * It promises nothing beyond its size: results that do not fit are counted, logged, and lost with the process.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { KeptResults, Missing } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';
import type { Arena } from '../native.ts';
import type { SettleItem } from './entry.ts';
import { EarlierFile, UnsettledFile } from './unsettled-file.ts';
import { encodeLine } from './unsettled-lines.ts';
import { type Commit, Replay, type ReplayPorts } from './unsettled-replay.ts';

export interface UnsettledPorts extends ReplayPorts {
  arena: Pick<Arena, 'store' | 'release' | 'head' | 'lengthBytes'>;
  /** Results that are not written down yet. @param all or only those that wait longer than usual. */
  unwritten(all: boolean): SettleItem[];
  /** The fencing number of our newest lease of the row. */
  fenceOf(result: AttemptResult): number;
  /** A steady clock; default: steadyMs. */
  steady?: () => number;
}

const NAME = /^unsettled-([0-9]+)$/;
/** Size of all its files together. */
export const MAX_UNSETTLED_BYTES = 64 * 1_048_576;
const LOOK_MS = 500;
/** Shorter waits are not logged: that was no outage, but a slow commit or a row that another node had locked. */
const LOG_AFTER_MS = 2000;
/** How much is encoded and written in one go; other work has its turn in between. */
const PART_BYTES = 2 * 1_048_576;

/** Names of such files in a folder, the oldest first. */
function namesIn(dir: string): string[] {
  const numbers = readdirSync(dir).flatMap((name) => NAME.exec(name)?.[1] ?? []);
  return numbers
    .map(Number)
    .sort((a, b) => a - b)
    .map((number) => `unsettled-${number}`);
}

export class Unsettled implements KeptResults {
  readonly #dir: string;
  readonly #log: Log;
  readonly #ports: UnsettledPorts;
  readonly #maxBytes: number;
  #earlier: EarlierFile[] = [];
  #number = 0;
  #file: UnsettledFile | null = null;
  #sinceMs = 0;
  /** The log says already that results are kept. */
  #saidKept = false;
  /** Results that lie in our file and not in the database yet, with the bytes of each. */
  #kept = new Map<SettleItem, number>();
  /** Results that are longer than the whole file may be. */
  readonly #tooLong = new WeakSet<SettleItem>();
  #notKept = 0;
  #saidNotKept = false;
  #timer: NodeJS.Timeout | null = null;
  #working: Promise<void> | null = null;

  /** @throws RelayError when a newer relay left results. */
  constructor(dir: string, ports: UnsettledPorts, maxBytes = MAX_UNSETTLED_BYTES) {
    this.#dir = dir;
    this.#ports = ports;
    this.#log = ports.log;
    this.#maxBytes = maxBytes;
    for (const name of namesIn(dir)) {
      this.#number = Number(NAME.exec(name)?.[1]);
      this.#load(join(dir, name));
    }
  }

  #load(path: string): void {
    rmSync(`${path}.new`, { force: true });
    let file: EarlierFile;
    try {
      file = new EarlierFile(path);
    } catch (error) {
      if (error instanceof RelayError)
        throw new RelayError(error.code, `${path} is ${error.message}: run the relay that wrote it`, error);
      this.#log.error('results.unreadable', { path, error });
      return;
    }
    const { damagedBytes: bytes } = file;
    if (bytes > 0) this.#log.warn('results.damaged', { path, bytes, results: file.lines.length });
    if (file.lines.length > 0) this.#earlier.push(file);
    else file.tidy();
  }

  start(): void {
    this.#timer = setInterval(() => {
      if (this.#working === null) void this.keep(false);
    }, LOOK_MS);
    this.#timer.unref();
  }

  /** The shard of each result that waits in a file, of an earlier life or of this one. */
  #shards(): number[] {
    const earlier = this.#earlier.flatMap(({ lines }) => lines).filter(({ state }) => state === 'waits');
    const ours = [...this.#kept.keys()].map(({ settlement }) => shardOfQueueId(settlement.queueId));
    return [...ours, ...earlier.map(({ shard }) => shard)];
  }

  get waiting(): number {
    return this.#shards().length;
  }

  missing(): Missing[] {
    const waiting = this.#shards();
    const detail = `holds ${waiting.length} results that are not in the queue yet: it shows their entries as sending`;
    return missingResults(this.#dir, waiting, detail);
  }

  /** Writes results into the file. @param all or only those that wait longer than usual. */
  async keep(all: boolean): Promise<void> {
    while (this.#working !== null) await this.#working;
    this.#working = this.#keep(all)
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#working = null;
      });
    await this.#working;
  }

  async #keep(all: boolean): Promise<void> {
    if (this.#file !== null) await this.#forget(this.#file);
    for (;;) {
      const part = this.#nextPart(all);
      if (part.length === 0) break;
      await this.#append(part);
    }
    this.#say();
    if (this.#notKept === 0 || this.#saidNotKept) return;
    this.#saidNotKept = true;
    this.#log.error('results.not_kept', {
      results: this.#notKept,
      max_mb: this.#maxBytes / 1_048_576,
      advice: 'what of them is not in the database when the relay ends is sent again',
    });
  }

  /** Forgets the results that the database has taken since; when none is left, the file is deleted. */
  async #forget(file: UnsettledFile): Promise<void> {
    const waiting = new Set(this.#ports.unwritten(true));
    for (const item of this.#kept.keys()) if (!waiting.has(item)) this.#kept.delete(item);
    if (this.#kept.size === 0) {
      this.#file = null;
      await file.remove();
      if (file.bytes === 0) return;
      this.#saidNotKept = false;
      if (this.#saidKept) this.#log.info('results.written', { path: file.path });
      this.#saidKept = false;
      return;
    }
    let bytes = 0;
    for (const one of this.#kept.values()) bytes += one;
    if (file.bytes >= this.#room / 2 && bytes <= this.#room / 4) await this.#beginAnew(file);
  }

  /** The file is full, mostly of results that the database has by now: a new one takes the rest, and replaces it. */
  async #beginAnew(old: UnsettledFile): Promise<void> {
    const items = [...this.#kept.keys()];
    this.#file = null;
    this.#kept = new Map();
    try {
      await this.#append(items.map((item) => ({ item, line: this.#lineOf(item) })));
    } catch (error) {
      await old.close();
      throw error;
    }
    await old.remove();
  }

  /** How many bytes the file of this life may have. */
  get #room(): number {
    return this.#maxBytes - this.#earlier.reduce((sum, file) => sum + file.bytes, 0);
  }

  /** Results that fit and are not in the file yet. All in one turn, in which nobody can free their content. */
  #nextPart(all: boolean): { item: SettleItem; line: Buffer }[] {
    const part: { item: SettleItem; line: Buffer }[] = [];
    let bytes = 0;
    this.#notKept = 0;
    const fresh = this.#ports.unwritten(all).filter((item) => !this.#kept.has(item));
    const room = this.#room - (this.#file?.bytes ?? 0);
    for (const [i, item] of fresh.entries()) {
      if (this.#tooLong.has(item)) {
        this.#notKept++;
        continue;
      }
      if (bytes >= PART_BYTES) break;
      const line = this.#dsnBytes(item) > this.#maxBytes ? null : this.#lineOf(item);
      if (line === null || line.length > this.#maxBytes) {
        this.#tooLong.add(item);
        this.#notKept++;
      } else if (bytes + line.length > room) {
        this.#notKept += fresh.length - i;
        break;
      } else {
        part.push({ item, line });
        bytes += line.length;
      }
    }
    return part;
  }

  #dsnBytes({ dsns }: SettleItem): number {
    return dsns.reduce((sum, { message }) => sum + message.sizeBytes, 0);
  }

  #lineOf({ settlement, result, dsns }: SettleItem): Buffer {
    const { arena } = this.#ports;
    return encodeLine({
      settlement: { ...settlement, fence: this.#ports.fenceOf(result) },
      result,
      dsns: dsns.map(({ message }) => ({
        message,
        content: arena.head(message.content, arena.lengthBytes(message.content)),
      })),
    });
  }

  async #append(part: readonly { item: SettleItem; line: Buffer }[]): Promise<void> {
    if (this.#file === null) {
      this.#sinceMs = this.#now();
      this.#file = await UnsettledFile.create(join(this.#dir, `unsettled-${++this.#number}`));
    }
    await this.#file.append(part.map(({ line }) => line));
    for (const { item, line } of part) this.#kept.set(item, line.length);
  }

  #now(): number {
    return (this.#ports.steady ?? steadyMs)();
  }

  #say(): void {
    if (this.#saidKept || this.#file === null || this.#now() - this.#sinceMs < LOG_AFTER_MS) return;
    this.#saidKept = true;
    const { path } = this.#file;
    const advice = 'the database does not take them';
    this.#log.warn('results.kept', { path, results: this.#kept.size, advice });
  }

  #failed(error: unknown): void {
    if (this.#saidNotKept) return;
    this.#saidNotKept = true;
    const advice =
      'check the disk of data_dir; results the database has not taken when the relay ends are lost';
    this.#log.error('results.not_kept', { results: this.#ports.unwritten(false).length, error, advice });
  }

  async replay(shard: number, commit: Commit): Promise<void> {
    const lines = this.#earlier.flatMap((file) => file.lines).filter((line) => line.shard === shard);
    if (lines.length === 0) return;
    const replay = new Replay(this.#ports, commit);
    try {
      await replay.run(lines);
    } finally {
      const { written, stale } = replay;
      const left = lines.filter(({ state }) => state !== 'done').length;
      this.#log.info('results.replayed', { shard: `${shard}`, written, stale, unwritten: left });
      this.#tidy();
    }
  }

  #tidy(): void {
    for (const file of this.#earlier) {
      try {
        file.tidy();
      } catch (error) {
        // The next start replays them, and finds them settled.
        this.#log.warn('results.not_removed', { path: file.path, error });
      }
    }
    this.#earlier = this.#earlier.filter(({ lines }) => lines.length > 0);
  }

  /** The process ends: results that are not in the database by now are kept for its next life. */
  async end(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.keep(true);
    if (this.#file === null) return;
    const file = this.#file;
    const { path, bytes } = file;
    this.#file = null;
    if (bytes === 0) {
      await file.remove();
      return;
    }
    await file.close();
    const advice = 'they are written at the next start; do not remove the file';
    this.#log.warn('results.left', { path, results: this.#kept.size, not_kept: this.#notKept, advice });
  }
}

/** The results in this folder, left by processes that do not run. */
export function unsettledLeft(dir: string): Missing[] {
  let names: string[];
  try {
    names = namesIn(dir);
  } catch {
    return []; // no folder yet
  }
  const left = names.flatMap((name) => new EarlierFile(join(dir, name)).lines.map(({ shard }) => shard));
  const detail = `holds ${left.length} results that are not in the queue: they are written when the relay is started`;
  return missingResults(dir, left, detail);
}

/** @param shardOfEach the shard of each result. */
function missingResults(dir: string, shardOfEach: readonly number[], detail: string): Missing[] {
  if (shardOfEach.length === 0) return [];
  const shards = [...new Set(shardOfEach)].sort((a, b) => a - b);
  return [{ kind: 'results', name: join(dir, 'unsettled-*'), detail, shards }];
}
