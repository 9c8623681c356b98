/** `protorelay db …`: the servers that hold the queue. */
import type { Writable } from 'node:stream';
import { RelayError } from '../base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import type { ServerConfig } from '../config/schema.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import { formatShards } from './format.ts';

/** Migrates all; one that fails does not keep the others from it. */
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
  if (json) out.write(`${printableJson(JSON.stringify(shards, null, 2))}\n`);
  else out.write(formatShards(shards, nowMs));
  return shards.every(({ up }) => up) ? EXIT.ok : EXIT.temporary;
}
