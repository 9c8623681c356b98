/** Scripts that bring a schema from one version to the next. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** @param sqlDir folder of NNN-name.sql. @returns paths by version. @throws Error where two have one number. */
export function migrations(sqlDir: string): Map<number, string> {
  const scripts = new Map<number, string>();
  for (const name of readdirSync(sqlDir)) {
    const match = /^(\d{3})-.+\.sql$/.exec(name);
    if (match === null) continue;
    const [version, path] = [Number(match[1]), join(sqlDir, name)];
    if (scripts.has(version)) throw new Error(`${path} has the number of ${scripts.get(version)}`);
    scripts.set(version, path);
  }
  return scripts;
}
