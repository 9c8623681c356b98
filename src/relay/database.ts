/**
 * Builds the queue database of a relay process: the persistence pool, a client for each shard, and what looks after
 * the shards. Part of the composition root.
 */
import { createHash, randomBytes } from 'node:crypto';
import { availableParallelism, hostname } from 'node:os';
import { GAUGE, type Gauges } from '../admission/gauges.ts';
import { RelayError } from '../base/errors.ts';
import { type Log, silentLog, writeLine } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { BegunRows, Database, KeptResults, SuppressionNotes } from '../database/database.ts';
import { NodeClaim } from '../database/mysql/node-claim.ts';
import { type ShardServer, shardServers } from '../database/shard-servers.ts';
import type { ShardSetup } from '../database/shard-setup.ts';
import { ShardedDatabase } from '../database/sharded-database.ts';
import type { SuppressionPart } from '../feedback/suppression-book.ts';
import { PROCESS_SLOTS } from '../mail/queue-id.ts';
import type { QueueFile } from '../mail/queue-stats.ts';
import { DatabaseClient, startPool, type TaskPool } from '../persistence/database-client.ts';
import type { GroupCommitOptions } from '../persistence/group-commit.ts';
import { QueueThread } from '../persistence/queue-thread.ts';
import { noArena } from '../persistence/stopped-queue.ts';
import { RETURNED, type StorageNote } from '../storage/notes.ts';
import type { ProcessPlace } from './place.ts';
import { StorageFaults } from './storage-faults.ts';
import { hostFilterPath, partsOfFiles, partsOfShards } from './suppression-parts.ts';

/** A process that was not seen for this many leases has lost its slot; never sooner than after MIN_STALE_MS. */
const STALE_LEASES = 10;
const MIN_STALE_MS = 600_000;
/** The claim to the node id is renewed this often in the time of a lease, and at least every LONGEST_RENEW_MS. */
const CLAIM_RENEWALS = 6;
const LONGEST_RENEW_MS = 10_000;
/** After a shard was away, its rows are left to their owners for at least this share of a lease. */
const TAKE_OVER_SHARE = 1 / 4;
/** How many commits may be under way at the same time on one server. Measured: see docs/decisions/mysql.md. */
const SERVER_LANES = 2;
const SETTLE_LINGER_MS = 100;
/** A claim costs a server three statements, however many rows it brings: so it brings many. */
const CLAIMS = { claimRows: 500, minClaimRows: 250 };

export interface RelayDatabase {
  database: Database;
  /** null with sqlite. */
  shards: ShardedDatabase | null;
  storageFaults: StorageFaults;
  /** Numbers of the shards; [0] with sqlite. */
  shardIds: number[];
  /** Options for the group commit of each shard. */
  committing: Pick<GroupCommitOptions, 'lanes' | 'settleLingerMs' | 'settleApart'>;
  /** How many rows a claim is for; {} leaves it to the scheduler. */
  claims: { claimRows?: number; minClaimRows?: number };
  /** Number of messages held; counted only where a limit is set, else 0. */
  mails(): number;
  /** The file of the queue; null: it is on servers. */
  file(): QueueFile | null;
  /** Gives free space of the file back, where mail need not wait long for it. */
  compact(): Promise<boolean>;
  /**
   * Connections that nobody uses; null with sqlite, whose one writer counts as free unless a commit hangs or failed.
   */
  freeConnections(): number | null;
  /** Shards of these users, in order (router "table"). */
  shardsOfUsers(users: string[]): Promise<(number | null)[]>;
  /** The tables of the suppression list. */
  suppressions(): readonly SuppressionPart[];
  /** A number for this process that no other on this queue has; part of its queue ids. */
  enroll(): Promise<number>;
  /** Tells the others that this process still has its number; false: another has it by now. */
  stayEnrolled(): Promise<boolean>;
}

export interface RelayDatabaseOptions {
  config: Config;
  arena: SharedArrayBuffer;
  spillDir: string;
  gauges: Gauges;
  log: Log;
  place: Pick<ProcessPlace, 'process' | 'eventsDir'>;
  begun: BegunRows;
  kept: KeptResults;
  /** A shard is back: results and lease renewals of its rows are to be written before anything else. */
  returned(shard: number): void;
  /** Called when content that could not be read may be readable again. */
  contentReturned(): void;
}

export function openRelayDatabase(options: RelayDatabaseOptions): RelayDatabase {
  const { config, arena, spillDir, place } = options;
  const { database } = config;
  if (database.driver !== 'sqlite') return openServers(options);
  const storageFaults = new StorageFaults();
  const say = sayTo(options, storageFaults);
  const suppressionFilter = hostFilterPath(place);
  const client = new DatabaseClient(startPool({ config, arena, spillDir, suppressionFilter }, { say }));
  return {
    database: client,
    shards: null,
    storageFaults,
    shardIds: [0],
    committing: {},
    claims: {},
    mails: () => client.mails,
    file: () => client.file,
    compact: () => client.compact(),
    freeConnections: () => null,
    shardsOfUsers: async (users) => users.map(() => null),
    suppressions: partsOfFiles(database.path, place.process, client),
    enroll: async () => place.process,
    stayEnrolled: async () => true,
  };
}

function openServers(options: RelayDatabaseOptions): RelayDatabase {
  const { config, arena, spillDir, gauges, log, place, begun, kept, returned } = options;
  const storageFaults = new StorageFaults();
  const servers = shardServers(config.database);
  const threads = persistThreads(config);
  const owner = `${config.node_id}#${randomBytes(4).toString('hex')}`;
  const { database } = config;
  const tableShard = database.driver === 'mysql_distributed' ? (database.router.table_shard ?? null) : null;
  const largest = Math.max(...servers.map(({ server }) => server.max_pool_size));
  const pool = startPool(
    {
      config,
      arena,
      spillDir,
      owner,
      connections: Math.ceil(largest / threads),
      suppressionFilter: hostFilterPath(place),
    },
    { threads, say: sayTo(options, storageFaults) },
  );
  const clients = servers.map(({ id }) => new DatabaseClient(pool, { shard: id }));
  const { retry_delay_ms: retryDelayMs, max_retry_delay_ms: maxRetryDelayMs } = pausesOf(config.database);
  const claimOf = ({ server }: ShardServer): NodeClaim =>
    new NodeClaim({
      server,
      node: config.node_id,
      life: owner,
      place: `pid ${process.pid} on ${hostname()}`,
      leaseMs: config.lease_ms,
      now: Date.now,
    });
  const shards = new ShardedDatabase(setupsOf(servers, clients, config.lease_ms, claimOf), {
    retryDelayMs,
    maxRetryDelayMs,
    log,
    clocks: { warnOffsetMs: config.clock_warn_offset_ms, maxOffsetMs: config.clock_max_offset_ms },
    // By then every living node has tried the shard again, however long its pause between tries was.
    takeOverPauseMs: Math.max(config.lease_ms * TAKE_OVER_SHARE, 2 * maxRetryDelayMs),
    returned,
    usable: (mask) => Atomics.store(gauges, GAUGE.usableShards, mask),
    begun,
    kept,
    close: () => (clients[0] as DatabaseClient).close(),
    sweep: () => (clients[0] as DatabaseClient).sweep(),
  });
  const parts = partsOfShards(shards);
  return {
    database: shards,
    shards,
    storageFaults,
    shardIds: servers.map(({ id }) => id),
    committing: { lanes: SERVER_LANES, settleLingerMs: SETTLE_LINGER_MS, settleApart: true },
    claims: CLAIMS,
    mails: () => 0,
    file: () => null,
    compact: async () => false,
    freeConnections: () => shards.freeConnections,
    shardsOfUsers: (users) => shards.shardsOfUsers(users, tableShard),
    suppressions: () => parts,
    enroll: () => enroll(shards, config),
    async stayEnrolled() {
      const nowMs = Date.now();
      const isOurs = await shards.stillEnrolled(nowMs, nowMs - staleMs(config.lease_ms));
      if (!isOurs) log.error('relay.number_lost', { advice: 'another process took it: restart this relay' });
      return isOurs;
    },
  };
}

/** The servers of a relay that does not run, for the command line. They are not contacted until something is read. */
/** @param suppressed the filter of the suppression list: absent, nobody writes entries. */
export function openStoppedServers(config: Config, suppressed?: SuppressionNotes): ShardedDatabase {
  const servers = shardServers(config.database);
  const owner = `${config.node_id}#stopped`;
  const noted = suppressed === undefined ? {} : { suppressed };
  const thread = new QueueThread({ config, arena: noArena, spillDir: '', owner, connections: 2, ...noted });
  const pool: TaskPool = { run: (task, shard) => thread.run(task, shard), destroy: async () => {} };
  const clients = servers.map(({ id }) => new DatabaseClient(pool, { shard: id }));
  return new ShardedDatabase(
    setupsOf(servers, clients, config.lease_ms, () => null),
    {
      retryDelayMs: 1000,
      maxRetryDelayMs: 1000,
      log: silentLog,
      usable() {},
      close: () => (clients[0] as DatabaseClient).close(),
      sweep: async () => 0,
    },
  );
}

function setupsOf(
  servers: ShardServer[],
  clients: DatabaseClient[],
  leaseMs: number,
  claimOf: (shard: ShardServer) => NodeClaim | null,
): ShardSetup[] {
  return servers.map((shard, i) => ({
    id: shard.id,
    name: shard.name,
    weight: shard.weight,
    maxConnections: shard.server.max_pool_size,
    silenceMs: shard.server.connection_timeout_ms,
    client: clients[i] as DatabaseClient,
    claim: claimOf(shard),
    renewClaimMs: Math.min(LONGEST_RENEW_MS, leaseMs / CLAIM_RENEWALS),
  }));
}

/** Pauses before a server that failed is tried again. */
function pausesOf(database: Config['database']): { retry_delay_ms: number; max_retry_delay_ms: number } {
  if (database.driver === 'mysql_distributed') return database;
  return { retry_delay_ms: 500, max_retry_delay_ms: 5000 };
}

/**
 * Number of persistence threads. 'auto' is two at most: while one waits for the disk, the other works, and a third
 * gains nothing. With replicas it is one, because the thread that writes them also looks after them.
 */
function persistThreads({ persist_threads: configured, storage: { distributed, hdfs_web } }: Config): number {
  if (distributed.roots.length + hdfs_web.endpoints.length > 0) return 1;
  return configured === 'auto' ? Math.min(2, availableParallelism()) : configured;
}

const sayTo =
  ({ log, contentReturned }: RelayDatabaseOptions, faults: StorageFaults) =>
  (note: StorageNote): void => {
    faults.take(note);
    writeLine(log, note);
    if (RETURNED.has(note.event)) contentReturned();
  };

/** Takes the slot that the hash of the node's name points at, or the next one that is free. */
async function enroll(
  shards: ShardedDatabase,
  { node_id: node, lease_ms: leaseMs }: Config,
): Promise<number> {
  const first = createHash('sha256').update(node).digest().readUInt16BE(0) % PROCESS_SLOTS;
  for (let i = 0; i < PROCESS_SLOTS; i++) {
    const slot = (first + i) % PROCESS_SLOTS;
    const nowMs = Date.now();
    if (await shards.enroll({ slot, node, nowMs, staleBeforeMs: nowMs - staleMs(leaseMs) })) return slot;
  }
  throw new RelayError(
    'database_refused',
    `${PROCESS_SLOTS} relay processes share this queue already; rows of relay_nodes say which`,
  );
}

/** After this time without a sign of life a process has lost its number. */
export const staleMs = (leaseMs: number): number => Math.max(MIN_STALE_MS, leaseMs * STALE_LEASES);
