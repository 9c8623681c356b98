import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Paths of the files under a folder of the repository whose names end so, in order. */
export function filesUnder(folder: string, ending: string): string[] {
  return readdirSync(join(import.meta.dirname, '../..', folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => `${folder}/${name}`)
    .sort();
}
