/** A config, and the files and folders that it names: what a start needs, and `config check` proves. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { ConfigError, type LoadedConfig, loadConfig } from './config/load.ts';
import { checkStoragePaths } from './storage/check-paths.ts';
import { checkTlsFiles } from './tls/check-files.ts';

/** @throws ConfigError listing every problem. */
export async function loadWithFiles(path: string): Promise<LoadedConfig> {
  const loaded = loadConfig(path);
  const storage = await checkStoragePaths(loaded.config);
  const problems = [...checkTlsFiles(loaded.config), ...storage.problems];
  if (problems.length > 0) throw new ConfigError(resolve(path), problems.map(loaded.place));
  return {
    ...loaded,
    warnings: [...loaded.warnings, ...missingUsers(loaded), ...storage.warnings.map(loaded.place)],
  };
}

/** A file or table of users may come later; until then nobody can log in by it, which nobody else would say. */
function missingUsers({ config, place }: LoadedConfig): string[] {
  return config.auth.backends.flatMap(({ type, path }, i) =>
    (type !== 'file' && type !== 'database') || path === undefined || existsSync(path)
      ? []
      : [
          place({
            path: ['auth', 'backends', i, 'path'],
            message: `${path} is not there yet: it has no users (protorelay user add makes it)`,
          }),
        ],
  );
}
