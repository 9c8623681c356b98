/** A config, and the files that it names: what a start needs, and `config check` proves. */
import { resolve } from 'node:path';
import { ConfigError, type LoadedConfig, loadConfig } from './config/load.ts';
import { checkTlsFiles } from './tls/check-files.ts';

/** @throws ConfigError listing every problem. */
export function loadWithFiles(path: string): LoadedConfig {
  const loaded = loadConfig(path);
  const problems = checkTlsFiles(loaded.config);
  if (problems.length > 0) throw new ConfigError(resolve(path), problems.map(loaded.place));
  return loaded;
}
