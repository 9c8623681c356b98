/**
 * What each of several relay processes has for itself: its folder, and its share of the host's limits. Process 0 has
 * its queue where a relay with one process has it, so that one process may become several, and several one.
 */
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Config } from '../config/schema.ts';

const CORES_PER_PROCESS = 4;
/** Name of a journal's file (src/journal). */
const SEGMENT = /^\d+\.segment$/;
/** Name of a file with results that no database has taken (src/persistence). */
const UNSETTLED = /^unsettled-\d+$/;
const FOLDER = /^process-([1-9]\d{0,4})$/;

/** Number of relay processes that accept mail. */
export function processCount(
  { accept_processes: configured }: Config,
  cores = availableParallelism(),
): number {
  if (configured !== 'auto') return configured;
  return cores < 2 * CORES_PER_PROCESS ? 1 : Math.min(64, Math.floor(cores / CORES_PER_PROCESS));
}

/** The path for another process, beside that of process 0: `queue.db` → `process-1/queue.db`. */
function ofProcess(path: string, process: number): string {
  return process === 0 ? path : join(dirname(path), folderName(process), basename(path));
}

const folderName = (process: number): string => `process-${process}`;

/** The config with which process number `process` of `processes` runs. */
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
    // So leases tell the processes apart; no configured node_id has a '/'.
    node_id: process === 0 ? config.node_id : `${config.node_id}/${process}`,
    session_threads: threads(config.session_threads),
    delivery_threads: threads(config.delivery_threads),
    persist_max_inflight_mails: share(config.persist_max_inflight_mails),
    database:
      ownQueue && database.path !== ':memory:'
        ? { ...database, path: ofProcess(database.path, process) }
        : database,
    // Content lies where all processes that share the queue can find it.
    storage: ownQueue
      ? { ...storage, local: { ...storage.local, path: ofProcess(storage.local.path, process) } }
      : storage,
    // On servers every process looks after the whole queue.
    queue: ownQueue
      ? {
          ...config.queue,
          keep_failed_messages: Math.ceil(config.queue.keep_failed_messages / processes),
          keep_failed_mb: Math.ceil(config.queue.keep_failed_mb / processes),
        }
      : config.queue,
    journal: { ...config.journal, path: ofProcess(config.journal.path, process) },
    delivery: {
      ...delivery,
      max_connections_per_destination: share(delivery.max_connections_per_destination),
      // With bullmq all processes share the rate, on whatever host they are.
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
 * Numbers, from `processes` on, of earlier processes that left a queue, a journal or results behind, from a time when
 * there were more processes. In ascending order.
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

/** Numbers of processes for whose `path` this is true. */
function processesIn(path: string, isSomething: (path: string) => boolean): number[] {
  return namesIn(dirname(path))
    .map((name) => Number(FOLDER.exec(name)?.[1] ?? 0))
    .filter((process) => process > 0 && isSomething(ofProcess(path, process)));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // there is no folder, so nothing was left behind
  }
}

/** Numbers of all processes with a queue, for the command line: process 0, and others that are found. */
export function queueProcesses(config: Config): number[] {
  return [0, ...queuesLeft(config, 1)];
}
