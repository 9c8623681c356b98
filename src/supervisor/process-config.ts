/**
 * What a relay process of several has of its own: its folder, its share of limits that hold for the host. Process 0
 * lies where the queue of a relay with one process lies, so that one may become several and the other way round.
 */
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Config } from '../config/schema.ts';

const CORES_PER_PROCESS = 4;
/** A file of a journal (src/journal). */
const SEGMENT = /^\d+\.segment$/;
/** Results that no database took (src/persistence). */
const UNSETTLED = /^unsettled-\d+$/;
const FOLDER = /^process-([1-9]\d{0,4})$/;

/** Relay processes that accept mail. */
export function processCount(
  { accept_processes: configured }: Config,
  cores = availableParallelism(),
): number {
  if (configured !== 'auto') return configured;
  return cores < 2 * CORES_PER_PROCESS ? 1 : Math.min(64, Math.floor(cores / CORES_PER_PROCESS));
}

/** Beside what process 0 has: `queue.db` → `process-1/queue.db`. */
function ofProcess(path: string, process: number): string {
  return process === 0 ? path : join(dirname(path), folderName(process), basename(path));
}

const folderName = (process: number): string => `process-${process}`;

/** The config as process number `process` of `processes` runs with it. */
export function processConfig(
  config: Config,
  process: number,
  processes: number,
  cores = availableParallelism(),
): Config {
  const { database, storage, delivery } = config;
  const ownQueue = database.driver === 'sqlite';
  const threads = (configured: number | 'auto'): number | 'auto' =>
    configured === 'auto' && processes > 1 ? Math.max(1, Math.floor(cores / 2 / processes)) : configured;
  const share = (limit: number): number => Math.max(1, Math.floor(limit / processes));
  return {
    ...config,
    data_dir: process === 0 ? config.data_dir : join(config.data_dir, folderName(process)),
    // Leases tell the processes apart; '/' is in no configured node_id.
    node_id: process === 0 ? config.node_id : `${config.node_id}/${process}`,
    session_threads: threads(config.session_threads),
    delivery_threads: threads(config.delivery_threads),
    persist_max_inflight_mails: share(config.persist_max_inflight_mails),
    database:
      ownQueue && database.path !== ':memory:'
        ? { ...database, path: ofProcess(database.path, process) }
        : database,
    // Content lies where all who share the queue find it.
    storage: ownQueue
      ? { ...storage, local: { ...storage.local, path: ofProcess(storage.local.path, process) } }
      : storage,
    journal: { ...config.journal, path: ofProcess(config.journal.path, process) },
    delivery: {
      ...delivery,
      max_connections_per_destination: share(delivery.max_connections_per_destination),
      // With bullmq the processes share the rate, whatever host they are on.
      max_messages_per_destination_per_s:
        config.scheduler.engine === 'bullmq'
          ? delivery.max_messages_per_destination_per_s
          : delivery.max_messages_per_destination_per_s / processes,
    },
  };
}

/** The file of the queue; null when it is in memory or on servers. */
export function queueFile({ database }: Config): string | null {
  return database.driver === 'sqlite' && database.path !== ':memory:' ? database.path : null;
}

/**
 * Numbers of processes, `processes` and above, that left a queue, a journal or results behind: there were more of them once.
 * In ascending order.
 */
export function leftoverProcesses(config: Config, processes: number): number[] {
  const { journal } = config;
  const found = new Set(
    processesIn(journal.path, (path) => namesIn(path).some((name) => SEGMENT.test(name))),
  );
  for (const process of queuesLeft(config, processes)) found.add(process);
  const hasResults = (path: string): boolean => namesIn(dirname(path)).some((name) => UNSETTLED.test(name));
  for (const process of processesIn(join(config.data_dir, 'unsettled'), hasResults)) found.add(process);
  return [...found].filter((process) => process >= processes).sort((a, b) => a - b);
}

function queuesLeft(config: Config, processes: number): number[] {
  const file = queueFile(config);
  if (file === null) return [];
  return processesIn(file, existsSync)
    .filter((process) => process >= processes)
    .sort((a, b) => a - b);
}

/** Processes whose own `path` is something. */
function processesIn(path: string, isSomething: (path: string) => boolean): number[] {
  return namesIn(dirname(path))
    .map((name) => Number(FOLDER.exec(name)?.[1] ?? 0))
    .filter((process) => process > 0 && isSomething(ofProcess(path, process)));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not there yet: nothing was left behind
  }
}

/** Numbers of all processes with a queue, for the command line: process 0 and whatever there is. */
export function queueProcesses(config: Config): number[] {
  return [0, ...queuesLeft(config, 1)];
}
