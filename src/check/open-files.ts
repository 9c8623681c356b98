/** The limit of open files of a process, beside what the config wants to have open. */
import { readFileSync } from 'node:fs';
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
