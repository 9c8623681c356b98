/** Scripts that bring a schema from one version to the next. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** @param sqlDir folder of NNN-name.sql. @returns paths by version. @throws Error when two scripts have one version. */
export function migrations(sqlDir: string): Map<number, string> {
  const scripts = new Map<number, string>();
  for (const name of readdirSync(sqlDir)) {
    const match = /^(\d{3})-.+\.sql$/.exec(name);
    if (match === null) continue;
    const version = Number(match[1]);
    if (scripts.has(version)) throw new Error(`two scripts for version ${version} in ${sqlDir}`);
    scripts.set(version, join(sqlDir, name));
  }
  return scripts;
}
