/** What this machine lets a process have, beside what the config wants. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';

/** Open files of this process at most (Node has raised it as far as it may); null where the system does not say. */
export function openFilesLimit(): number | null {
  try {
    const [, limit = ''] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return limit === '' ? null : Number(limit);
  } catch {
    return null;
  }
}

/** @param processes relay processes, which share the connections. */
export function checkOpenFiles(
  { smtp }: Config,
  processes: number,
  limit: number | null,
  warning: Say,
): void {
  const wanted = Math.ceil(smtp.max_connections / processes);
  if (limit === null || limit >= wanted) return;
  warning(
    ['smtp', 'max_connections'],
    `${wanted} connections of a process need more open files than the ${limit} it may have here`,
    `raise the limit (ulimit -n, LimitNOFILE= of the unit), or lower it`,
  );
}

/** Memory is touched only as it is used: too much of it is no error until it is needed. */
export function checkMemory({ content_memory_mb: mb }: Config, processes: number, warning: Say): void {
  const machineMb = Math.floor(totalmem() / 1_048_576);
  const wantedMb = mb * processes;
  if (wantedMb <= machineMb) return;
  const of = processes === 1 ? '' : ` of each of ${processes} processes`;
  warning(['content_memory_mb'], `${mb} MB${of} are more than this machine has (${machineMb})`, 'lower it');
}
