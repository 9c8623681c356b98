/** Scripts that bring a schema from one version to the next. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** @param sqlDir folder of NNN-name.sql. @returns paths by version. */
export function migrations(sqlDir: string): Map<number, string> {
  const scripts = new Map<number, string>();
  for (const name of readdirSync(sqlDir)) {
    const match = /^(\d{3})-.+\.sql$/.exec(name);
    if (match) scripts.set(Number(match[1]), join(sqlDir, name));
  }
  return scripts;
}
