/** Bans on disk: one JSON object a line, so that people can read them. A new file is renamed over the old: never half. */
import { renameSync, writeFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { parseNetwork } from '../base/ip.ts';
import { readRecordLines } from '../base/record-lines.ts';
import { BAN_KINDS, type Ban, type BanTable } from './ban-table.ts';

const FILE_MODE = 0o600;

/** The bans in the file, none when there is no file, and the number of lines that are no bans. */
export const readBans = (path: string): { records: Ban[]; bad: number } => readRecordLines(path, readBan);

function readBan(line: string): Ban | null {
  let value: Partial<Ban> | null;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const { network, kind, sinceMs, untilMs, times } = value ?? {};
  if (typeof network !== 'string' || parseNetwork(network) === null) return null;
  if (kind === undefined || !BAN_KINDS.includes(kind)) return null;
  const numbers = [sinceMs, untilMs, times];
  if (!numbers.every((number) => Number.isSafeInteger(number) && (number as number) >= 0)) return null;
  return { network, kind, sinceMs: sinceMs as number, untilMs: untilMs as number, times: times as number };
}

export function putBans(table: BanTable, bans: readonly Ban[]): void {
  for (const ban of bans) {
    const network = parseNetwork(ban.network);
    if (network !== null) table.put(network, ban);
  }
}

const textOf = (bans: readonly Ban[]): string => bans.map((ban) => `${JSON.stringify(ban)}\n`).join('');

export async function writeBans(path: string, bans: readonly Ban[]): Promise<void> {
  await writeFile(`${path}.new`, textOf(bans), { mode: FILE_MODE, flush: true });
  await rename(`${path}.new`, path);
}

export function writeBansSync(path: string, bans: readonly Ban[]): void {
  writeFileSync(`${path}.new`, textOf(bans), { mode: FILE_MODE, flush: true });
  renameSync(`${path}.new`, path);
}
