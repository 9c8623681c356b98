/** `protorelay db …`: the servers that hold the queue. */
import { existsSync } from 'node:fs';
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { RelayError } from '../base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import type { Config, ServerConfig } from '../config/schema.ts';
import { shardAnswer } from '../control/shard-answer.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { CommandLine } from './command-line.ts';
import { formatShards, size } from './format.ts';

export function addDatabase(program: Command, line: CommandLine): void {
  const db = program.command('db').description('databases of the queue').helpCommand(false);
  db.command('migrate')
    .description(
      'make the tables, or bring them up to date, on every shard; to a newer schema only while no relay runs',
    )
    .option('--user <name>', 'connect as this user, who may change tables (default: the relay’s)')
    .option('--password-env <name>', 'environment variable with its password', 'PROTORELAY_DB_PASSWORD')
    .action(async ({ user, passwordEnv }: { user?: string; passwordEnv: string }) => {
      const password = process.env[passwordEnv];
      if (user !== undefined && password === undefined)
        line.usage(`set the environment variable ${passwordEnv} to the password of ${user}`);
      const { database } = configFor(['database'], line.configPath());
      const { shardServers } = await import('../database/shard-servers.ts');
      const { migrate } = await import('../database/mysql/schema.ts');
      const servers = shardServers(database).map(({ name, server }) => ({
        name,
        server: user === undefined ? server : { ...server, user, password: password ?? '' },
      }));
      line.endsWith(await migrateShards(servers, migrate, line.out, line.err));
    });
  db.command('compact')
    .description('give free space of the queue’s file back to the disk; only while no relay runs')
    .action(async () =>
      line.endsWith(await compactQueues(configFor(['database', 'journal'], line.configPath()), line.out)),
    );
  db.command('shards')
    .description('state, depth, latency and errors of every shard')
    .option('--json', 'print JSON', false)
    .action(async ({ json }: { json: boolean }) => {
      const { openShards, QUEUE_KEYS } = await import('./open-queue.ts');
      const path = line.configPath();
      const source = await openShards(dataDirOf(path), () => configFor(QUEUE_KEYS, path));
      try {
        line.endsWith(showShards(await source.report(), json, line.out, Date.now()));
      } finally {
        await source.close();
      }
    });
}

/** @throws RelayError 'already_running' while a relay runs; 'database_full' when the disk has no room for a copy. */
export async function compactQueues(config: Config, out: Writable): Promise<ExitCode> {
  const { compactFile } = await import('../database/sqlite/compact.ts');
  const { lockDataDir } = await import('../base/data-dir.ts');
  const { processConfig, queueFile, queueProcesses } = await import('../supervisor/process-config.ts');
  const lock = lockDataDir(config.data_dir);
  let files = 0;
  try {
    for (const process of queueProcesses(config)) {
      const own = processConfig(config, process, 1);
      const file = queueFile(own);
      if (file === null || !existsSync(file)) continue;
      files++;
      const queueLock = lockDataDir(own.data_dir, 'queue');
      try {
        const { before, after } = compactFile(file);
        out.write(printableLines(`${file}: ${size(before.bytes)} before, ${size(after.bytes)} now\n`));
      } finally {
        queueLock.release();
      }
    }
  } finally {
    lock.release();
  }
  if (files === 0) out.write('there is no file of a queue here yet, so nothing to compact\n');
  return EXIT.ok;
}

/** Migrates all servers, also when one of them fails. */
export async function migrateShards(
  servers: readonly { name: string; server: ServerConfig }[],
  migrate: (server: ServerConfig, nowMs: number) => Promise<number[]>,
  out: Writable,
  err: Writable,
): Promise<ExitCode> {
  if (servers.length === 0) {
    out.write('the queue is a file (database.driver sqlite): the relay migrates it when it starts\n');
    return EXIT.ok;
  }
  let code: ExitCode = EXIT.ok;
  for (const { name, server } of servers) {
    try {
      const applied = await migrate(server, Date.now());
      const done = applied.length === 0 ? 'up to date' : `migrated to version ${applied.at(-1)}`;
      out.write(printableLines(`${name}: ${done}\n`));
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      err.write(printableLines(`protorelay: ${name}: ${error.message}\n`));
      code = EXIT_OF_ERROR[error.code];
    }
  }
  return code;
}

export function showShards(
  shards: readonly ShardReport[],
  json: boolean,
  out: Writable,
  nowMs: number,
): ExitCode {
  if (json) out.write(`${printableJson(JSON.stringify(shards.map(shardAnswer), null, 2))}\n`);
  else out.write(formatShards(shards, nowMs));
  return shards.every(({ up }) => up) ? EXIT.ok : EXIT.temporary;
}
