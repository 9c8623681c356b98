/**
 * Builds the journal of a relay process where it has one: because mail is acknowledged there (after_journal), or
 * because an earlier life left mail in it. Part of the composition root.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { PressureOptions } from '../admission/pressure.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { within } from '../base/within.ts';
import type { Config } from '../config/schema.ts';
import type { DestinationBacklog, Missing, Recovered } from '../database/database.ts';
import { shardServers } from '../database/shard-servers.ts';
import { Journal, type JournalPorts, type JournalStats } from '../journal/journal.ts';
import { JournalClient, startJournalThread } from '../journal/journal-client.ts';
import { holdsRecords } from '../journal/segments.ts';
import type { Arena } from '../native.ts';
import type { Entry } from '../persistence/entry.ts';
import type { ShardedCommits } from '../persistence/sharded-commits.ts';
import { type RelayDatabase, staleMs } from './database.ts';

const MIB = 1_048_576;

export interface RelayJournalSetup {
  config: Config;
  queue: RelayDatabase;
  arena: Arena;
  spillDir: string;
  log: Log;
  /** false: this relay only drains what is in the journal. */
  accepts: boolean;
  ports: Omit<JournalPorts<Entry>, 'mark' | 'commit' | 'full'>;
  /** The journal's thread died: our own fault. */
  died(error: Error): void;
}

/** @returns null when this relay has no journal. @throws RelayError when mail waits in one that cannot be drained. */
export function openRelayJournal(setup: RelayJournalSetup): RelayJournal | null {
  const { config } = setup;
  const isUsed = config.inbound_ack_mode === 'after_journal';
  return isUsed || holdsRecords(config.journal.path) ? new RelayJournal(setup) : null;
}

/** Mail that waits in the journal for longer is reported as missing from what the queue answers. */
const SLOW_DRAIN_MS = 5000;

export class RelayJournal {
  /** Whether new mail is acknowledged by the journal. */
  readonly acknowledges: boolean;
  readonly #setup: RelayJournalSetup;
  readonly #journal: Journal<Entry>;
  #newestQueueId: string | null = null;
  #full = false;

  constructor(setup: RelayJournalSetup) {
    this.#setup = setup;
    const { config, queue, arena, spillDir, accepts, ports, log } = setup;
    this.acknowledges = accepts && config.inbound_ack_mode === 'after_journal';
    const { path: folder, max_mb, segment_mb } = config.journal;
    const maxBytes = max_mb * MIB;
    const pool = startJournalThread({
      folder,
      maxBytes,
      segmentBytes: segment_mb * MIB,
      inMemoryBytes: config.spill_threshold_bytes,
      arena: arena.buffer,
      spillDir,
    });
    const client = new JournalClient(pool, (error) => setup.died(error));
    this.#journal = new Journal<Entry>(
      client,
      {
        ...ports,
        mark: async (shard, journal) => {
          if (queue.shards === null) throw new Error('a journal is drained to servers only');
          return queue.shards.journalMark(shard, journal);
        },
        commit: (batch) => queue.database.commit(batch),
        full: (isFull) => {
          this.#full = isFull;
        },
      },
      {
        folder,
        shards: shardServers(config.database),
        maxBytes,
        maxDelayMs: config.journal.max_delay_ms,
        arena,
        leaseMs: config.lease_ms,
        log,
      },
    );
  }

  /** @throws RelayError when what an earlier life left cannot be drained with this configuration. */
  async open(): Promise<void> {
    const { config, spillDir } = this.#setup;
    if (config.database.driver === 'sqlite')
      throw new RelayError(
        'config_invalid',
        `the journal ${config.journal.path} holds mail for the servers of a mysql driver: start with the database they are in until "queue stats" shows an empty journal`,
      );
    const { newestQueueId } = await this.#journal.open();
    this.#newestQueueId = newestQueueId;
    // Otherwise the persistence thread does this when it opens a server, but the servers may be away.
    for (const name of namesIn(spillDir)) rmSync(join(spillDir, name), { force: true });
  }

  /**
   * Recovers the queue. When no server answers, mail is taken all the same, and recovery follows when they are back.
   */
  async recover(nowMs: number): Promise<Recovered> {
    const { queue, log } = this.#setup;
    let recovered: Recovered = { released: 0, rekeyed: 0, newestQueueId: null };
    try {
      recovered = await queue.database.recover(nowMs);
    } catch (error) {
      if (!this.acknowledges || !isAway(error) || this.#journal.slot === null) throw error;
      log.warn('journal.no_server', {
        error: (error as Error).message,
        advice: 'mail is taken into the journal until a server answers',
      });
    }
    const newest = [recovered.newestQueueId ?? '', this.#newestQueueId ?? ''].sort().at(-1) || null;
    return { ...recovered, newestQueueId: newest };
  }

  /**
   * The number of this process. When no server answers, it is the number of its last life, as long as no other process
   * can have been given that.
   * @throws RelayError
   */
  async enroll(): Promise<number> {
    const { queue, config } = this.#setup;
    try {
      const slot = await queue.enroll();
      await this.#journal.rememberSlot(slot);
      return slot;
    } catch (error) {
      const { slot } = this.#journal;
      if (!isAway(error) || slot === null) throw error;
      if (Date.now() - slot.seenAtMs > staleMs(config.lease_ms))
        throw new RelayError(
          'database_unavailable',
          `${(error as Error).message}; and this relay was away for so long that its number may be another's by now: start it when a server answers`,
          error,
        );
      queue.shards?.keepSlot(slot.number, config.node_id);
      return slot.number;
    }
  }

  /** Renews the hold on the number. After that it may be used for a while without asking a server. */
  async stayEnrolled(): Promise<void> {
    const { slot } = this.#journal;
    if ((await this.#setup.queue.stayEnrolled()) && slot !== null)
      await this.#journal.rememberSlot(slot.number);
  }

  async backlog(): Promise<DestinationBacklog[]> {
    try {
      return await this.#setup.queue.database.backlog();
    } catch (error) {
      // When the servers are back, the poll for due work finds what waits there.
      if (this.acknowledges && isAway(error)) return [];
      throw error;
    }
  }

  /** @throws RelayError when mail waits for another queue than the shards have. */
  start(): Promise<void> {
    return this.#journal.start();
  }

  submit(entries: Entry[]): void {
    this.#journal.submit(entries);
  }

  /** What admission looks at instead of the servers. */
  get pressure(): { commitAgeMs: number; failing: boolean; full: boolean } {
    const { ageMs, failing } = this.#journal;
    return { commitAgeMs: ageMs, failing, full: this.#full };
  }

  get waiting(): number {
    return this.#journal.waiting;
  }

  stats(): JournalStats {
    return this.#journal.stats();
  }

  /** Names the shards whose mail waits here for longer than a drain takes: answers about the queue do not count it. */
  missing(): Missing[] {
    const slow = this.#journal
      .stats()
      .shards.filter(({ oldestMs }) => oldestMs !== null && Date.now() - oldestMs >= SLOW_DRAIN_MS);
    const waiting = slow.reduce((sum, shard) => sum + shard.waiting, 0);
    if (waiting === 0) return [];
    const name = this.#setup.config.journal.path;
    const detail = `holds ${waiting} messages that are not in the queue yet`;
    return [{ kind: 'journal', name, detail, shards: slow.map(({ shard }) => shard) }];
  }

  hurry(): void {
    this.#journal.hurry();
  }

  /** Resolves when every message has its verdict. */
  settled(): Promise<void> {
    return this.#journal.settled();
  }

  drained(): Promise<void> {
    return this.#journal.drained();
  }

  busy(): number[] {
    return this.#journal.busy();
  }

  /**
   * Waits at most `ms` for transfers under way. Mail that waits stays for the next start; an empty journal that is not
   * used any more is deleted.
   */
  async end(ms: number): Promise<void> {
    await within(ms, this.#journal.stop());
    await this.#journal
      .close(!this.acknowledges)
      .catch((error: unknown) => this.#setup.log.warn('journal.close_failed', { error }));
  }
}

/**
 * What admission looks at: the journal where mail is acknowledged there, so that servers hold up nobody; else the
 * servers.
 */
export function pressurePorts(
  journal: RelayJournal | null,
  queue: RelayDatabase,
  commits: ShardedCommits,
  current: () => Config,
): Pick<PressureOptions, 'commitAgeMs' | 'databaseFailing' | 'freeConnections' | 'journalFull'> {
  if (journal?.acknowledges !== true)
    return {
      commitAgeMs: () => commits.stats().commitAgeMs,
      databaseFailing: () => commits.stats().failing,
      freeConnections: () => queue.freeConnections(),
    };
  return {
    commitAgeMs: () => journal.pressure.commitAgeMs,
    databaseFailing: () => journal.pressure.failing,
    freeConnections() {
      const { commitAgeMs, failing } = journal.pressure;
      const hangs = commitAgeMs >= current().inbound_persist_wait_timeout_ms;
      return failing || hangs ? 0 : Number.POSITIVE_INFINITY;
    },
    journalFull: () => journal.pressure.full,
  };
}

const isAway = (error: unknown): boolean =>
  error instanceof RelayError && error.code === 'database_unavailable';

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not made yet
  }
}
