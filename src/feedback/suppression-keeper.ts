/**
 * Keeps the filter of a host in step with the tables. Every process looks at each table every second: what other nodes
 * wrote is then in the filter. One process of the host makes the file where there is none, and a larger one when it is full.
 * Until such a file is complete everything is looked up in the tables, so nothing has to wait for it.
 */
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { SuppressionPart } from './suppression-book.ts';
import type { SuppressionFilter } from './suppression-filter.ts';

export const LOOK_MS = 1000;
const SYNC_MS = 60_000;
const PURGE_MS = 600_000;
/** Hashes in one answer: reading them holds up a sqlite queue for some ten milliseconds. */
const PAGE = 50_000;
const PURGE_PAGE = 2000;
const LEAST_ENTRIES = 65_536;
/** A new file has room for so many times the entries. */
const ROOM = 1.25;
const LEAST_SHARE_OF_BITS_PER_ENTRY = 0.625;
const MOST_SHARE_OF_BITS_PER_ENTRY_KEPT = 1.5;

export interface SuppressionKeeperPorts {
  parts(): readonly SuppressionPart[];
  filter: SuppressionFilter;
  bitsPerEntry: number;
  /** Whether this process looks after the file. */
  keeps: boolean;
  now(): number;
  steady(): number;
  log: Log;
}

export class SuppressionKeeper {
  readonly #ports: SuppressionKeeperPorts;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #syncAtMs = 0;
  #purgeAtMs = 0;
  #fault = '';
  #dirty = false;

  constructor(ports: SuppressionKeeperPorts) {
    this.#ports = ports;
    this.#syncAtMs = ports.steady() + SYNC_MS;
    this.#purgeAtMs = ports.steady() + PURGE_MS;
  }

  /** Looks once, and from then on every second. */
  start(): void {
    if (this.#ports.keeps) this.#ports.filter.recover();
    void this.look();
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref();
  }

  /** Resolves when nothing is under way. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#looking;
    if (this.#ports.keeps && this.#dirty) this.#quietly(() => this.#ports.filter.sync());
  }

  /** Brings the filter up to what the tables have now. One at a time: a look while another one is under way is that one. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    try {
      await this.#follow();
      this.#fault = '';
    } catch (error) {
      this.#failed(error);
    }
  }

  async #follow(): Promise<void> {
    const { filter, keeps, bitsPerEntry } = this.#ports;
    const isFull = filter.bitsPerEntry < bitsPerEntry * LEAST_SHARE_OF_BITS_PER_ENTRY;
    if (!keeps && !filter.ready) return;
    if (isFull || !(await this.#catchUp())) await this.makeRoom(0);
    if (!keeps) return;
    if (this.#dirty && this.#ports.steady() >= this.#syncAtMs) {
      filter.sync();
      this.#dirty = false;
      this.#syncAtMs = this.#ports.steady() + SYNC_MS;
    }
    if (this.#ports.steady() >= this.#purgeAtMs) await this.#purge();
  }

  /** @returns false when the filter does not follow a table, or an older state of it. */
  async #catchUp(): Promise<boolean> {
    const { filter } = this.#ports;
    for (const part of this.#ports.parts()) {
      const mark = await part.suppression({ op: 'mark' });
      const seen = filter.versionOf(part.index, mark.epoch);
      if (seen === null || seen > mark.version) return false;
      if (seen === mark.version) continue;
      await this.#read(part, 'version', seen);
      filter.follow(part.index, mark);
      this.#dirty = true;
    }
    return filter.ready;
  }

  async #read(part: SuppressionPart, by: 'version' | 'hash', from: number): Promise<void> {
    for (let after: number | null = from; after !== null; ) {
      const start: number = after;
      const { hashes, last } = await part.suppression({ op: 'hashes', by, after: start, limit: PAGE });
      for (const hash of hashes) this.#ports.filter.add(hash);
      after = last;
    }
  }

  /**
   * For whoever writes many entries where no relay runs: the filter then tells which of them are surely new.
   * @param more at least so many come; @param all about so many, if that is known.
   */
  async grow(more: number, all: number | null): Promise<void> {
    const { filter, bitsPerEntry } = this.#ports;
    await this.look();
    const { entries } = filter;
    if (filter.bitsFor(entries + more) < bitsPerEntry)
      await this.makeRoom(all === null ? Math.max(more, entries) : Math.max(more, all));
  }

  /** The end of that: gives room back that was not needed. */
  async fit(): Promise<void> {
    const { filter, bitsPerEntry } = this.#ports;
    if (
      filter.entries > LEAST_ENTRIES &&
      filter.bitsPerEntry > MOST_SHARE_OF_BITS_PER_ENTRY_KEPT * bitsPerEntry
    )
      await this.makeRoom(0);
  }

  /**
   * Makes the file anew, with room for what the tables have and so many more, and fills it. What is written meanwhile sets
   * its bits in it as well, or is found by the last look at the versions.
   */
  async makeRoom(more: number): Promise<void> {
    const { filter, keeps, bitsPerEntry, log } = this.#ports;
    if (!keeps) return;
    const parts = this.#ports.parts();
    const begun = this.#ports.steady();
    const counts = await Promise.all(parts.map((part) => part.suppression({ op: 'count' })));
    const known = Math.max(
      counts.reduce((sum, count) => sum + count, 0),
      filter.entries,
    );
    const entries = Math.max(LEAST_ENTRIES, Math.ceil((known + more) * ROOM));
    const marks = await Promise.all(parts.map((part) => part.suppression({ op: 'mark' })));
    filter.replace(entries, bitsPerEntry);
    for (const [i, part] of parts.entries()) {
      await this.#read(part, 'hash', -1);
      filter.follow(part.index, marks[i] as (typeof marks)[number]);
    }
    for (const [i, part] of parts.entries()) {
      const mark = await part.suppression({ op: 'mark' });
      await this.#read(part, 'version', (marks[i] as (typeof marks)[number]).version);
      filter.follow(part.index, mark);
    }
    filter.complete();
    this.#dirty = true;
    log.info('suppression.filter_made', {
      suppressed_entries: filter.entries,
      file_bytes: filter.bytes,
      duration_ms: Math.round(this.#ports.steady() - begun),
    });
  }

  async #purge(): Promise<void> {
    this.#purgeAtMs = this.#ports.steady() + PURGE_MS;
    for (const part of this.#ports.parts()) {
      const ask = { op: 'purge', nowMs: this.#ports.now(), limit: PURGE_PAGE } as const;
      while ((await part.suppression(ask)) === PURGE_PAGE);
    }
  }

  #quietly(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The health of shards is watched and logged elsewhere; what else is wrong is said once. */
  #failed(error: unknown): void {
    if (error instanceof RelayError && error.temporary) return;
    const { message } = error as Error;
    if (message !== this.#fault) this.#ports.log.warn('suppression.look_failed', { error });
    this.#fault = message;
  }
}
