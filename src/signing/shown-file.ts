/** Which keys DNS showed when it was last asked, in a file of the relay's own. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const pathIn = (dataDir: string): string => join(dataDir, 'dkim-shown.json');

/** Fingerprints by the name of the record; none when the file is not there or damaged: then DNS is asked first. */
export function readShown(dataDir: string): Map<string, string> {
  try {
    const read = JSON.parse(readFileSync(pathIn(dataDir), 'utf8')) as Record<string, unknown>;
    return new Map(Object.entries(read).filter((row): row is [string, string] => typeof row[1] === 'string'));
  } catch {
    return new Map();
  }
}

/** @throws Error of the file system */
export function writeShown(dataDir: string, shown: ReadonlyMap<string, string>): void {
  const path = pathIn(dataDir);
  writeFileSync(`${path}.new`, `${JSON.stringify(Object.fromEntries(shown))}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
