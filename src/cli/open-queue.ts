/** Opens the queue for the command line: through the running relay, or where a stopped one left it. */
import { existsSync } from 'node:fs';
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import type { ControlClient } from '../control/client.ts';
import { union } from '../control/missing.ts';
import type { QueueReader } from '../control/target.ts';
import type { Missing } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { AskMark } from '../journal/left.ts';
import type { SuspensionRule } from '../mail/suspension.ts';

export interface QueueSource {
  reader: QueueReader;
  /** Present when a relay is running. */
  client: ControlClient | null;
  /** Rules of operators that hold mail. */
  rules(): Promise<SuspensionRule[]>;
  /** The operator's rules for replies, '' for none; absent: not known, none. */
  replyRules?: () => string;
  close(): void;
}

interface ShardSource {
  report(): Promise<ShardReport[]>;
  close(): Promise<void>;
}

/** Keys of the config that say where a stopped relay left its queue, and what is in it. */
export const QUEUE_KEYS = ['data_dir', 'node_id', 'database', 'storage', 'journal', 'queue'];

/** @param load the config with QUEUE_KEYS: only a queue that no relay runs on needs it. */
export async function openQueue(dataDir: string, load: () => Config): Promise<QueueSource> {
  const { runningRelay } = await import('../control/running-relay.ts');
  const client = await runningRelay(dataDir);
  if (client !== null)
    return {
      reader: client,
      client,
      rules: async () => client.suspensions.list(),
      close: () => client.close(),
    };
  const config = load();
  try {
    return await openStoppedQueues(config);
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    throw new RelayError(
      error.code,
      `no relay is running on ${config.data_dir}, and ${error.message}`,
      error,
    );
  }
}

/** Reports of the running relay, or of the servers themselves: then `load` is asked for the config with QUEUE_KEYS. */
export async function openShards(dataDir: string, load: () => Config): Promise<ShardSource> {
  const none = 'the queue is a file (database.driver sqlite): it has no shards';
  const { runningRelay } = await import('../control/running-relay.ts');
  const client = await runningRelay(dataDir);
  if (client !== null) {
    const report = async (): Promise<ShardReport[]> => {
      const shards = await client.shards();
      if (shards.length === 0) throw new RelayError('config_invalid', none);
      return shards;
    };
    return { report, close: async () => client.close() };
  }
  const config = load();
  if (config.database.driver === 'sqlite') throw new RelayError('config_invalid', none);
  const { openStoppedServers } = await import('../relay/database.ts');
  const queue = openStoppedServers(config);
  return { report: () => queue.report(), close: () => queue.close() };
}

async function stoppedRules(config: Config): Promise<SuspensionRule[]> {
  const { openStoppedBook } = await import('../relay/suspension-book.ts');
  const { book, close } = await openStoppedBook(config);
  try {
    return book.list();
  } finally {
    await close();
  }
}

/** The queues of all relay processes that left one; or the servers, where the queue lies on servers. */
async function openStoppedQueues(config: Config): Promise<QueueSource> {
  if (config.database.driver !== 'sqlite') {
    const servers = (await import('../relay/database.ts')).openStoppedServers(config);
    const askMark: AskMark = async (shard, journal) =>
      servers.journalMark(shard, journal).then(
        ({ mark }) => mark,
        () => null,
      );
    const reader: QueueReader = {
      lines: (filter) => servers.lines(filter),
      count: (selection, by) => servers.count(selection, by),
      show: (queueId) => servers.show(queueId),
      content: (queueId, offset, maxBytes) => servers.content(queueId, offset, maxBytes),
      stats: () => servers.stats(),
      missing: async () => union([await leftBehind(config, askMark), servers.missing()]),
    };
    return { reader, client: null, rules: () => stoppedRules(config), close: () => void servers.close() };
  }
  const { openStoppedQueue } = await import('../persistence/stopped-queue.ts');
  const { processConfig, queueFile, queueProcesses } = await import('../supervisor/process-config.ts');
  const { MergedQueue } = await import('../control/merged-queue.ts');
  const configs = queueProcesses(config).map((process) => processConfig(config, process, 1));
  const files = configs.map(queueFile);
  if (files.every((file) => file !== null && !existsSync(file)))
    throw new RelayError(
      'database_unavailable',
      `there is no queue (${files[0]}): start the relay first, or name its config with -c`,
    );
  const queues = configs.map(openStoppedQueue);
  const close = (): void => {
    for (const queue of queues) void queue.close();
  };
  const reader = Object.assign(new MergedQueue(() => queues), {
    missing: () => leftBehind(config, async () => null),
  });
  return { reader, client: null, rules: () => stoppedRules(config), close };
}

/** What stopped processes left that is in no queue: journals that still hold mail, and results of deliveries. */
async function leftBehind(config: Config, askMark: AskMark): Promise<Missing[]> {
  const { journalLeft } = await import('../journal/left.ts');
  const { leftoverProcesses, processConfig } = await import('../supervisor/process-config.ts');
  const { unsettledLeft } = await import('../persistence/unsettled.ts');
  const left: Missing[] = [];
  for (const process of new Set([0, ...leftoverProcesses(config, 1)])) {
    const { journal, data_dir } = processConfig(config, process, 1);
    left.push(...(await journalLeft(journal.path, askMark)), ...unsettledLeft(data_dir));
  }
  return left;
}
