/** A config beside the world: what a start needs of it, and all that `config check` proves. */
import { join, resolve } from 'node:path';
import { parseUserFile } from './auth/user-file.ts';
import { isAlive, readPid } from './base/data-dir.ts';
import { steadyMs, timeOfDayMs } from './base/steady.ts';
import { checkFolders } from './check/folders.ts';
import { askersOf, checkHosts } from './check/hosts.ts';
import { checkListeners } from './check/listeners.ts';
import { checkMemory, checkOpenFiles, openFilesLimit } from './check/machine.ts';
import { checkNamedFiles } from './check/named-files.ts';
import { checkSourceAddresses } from './check/source-addresses.ts';
import { ConfigError, type Examined, examineConfig, type LoadedConfig, loadConfig } from './config/load.ts';
import { inOrder, type Said } from './config/problems.ts';
import type { Finding, Say } from './config/say.ts';
import type { Config } from './config/schema.ts';
import { ifSound } from './config/unsound.ts';
import { checkReturnPathKeys } from './feedback/return-path-keys.ts';
import { checkShapingFiles } from './shaping/check-files.ts';
import { checkKeyFiles } from './signing/check-files.ts';
import { checkStoragePaths } from './storage/check-paths.ts';
import { processCount } from './supervisor/process-config.ts';
import { checkTlsFiles } from './tls/check-files.ts';

/** @throws ConfigError listing every problem. */
export async function loadWithFiles(path: string): Promise<LoadedConfig> {
  const loaded = loadConfig(path);
  const found: Record<'error' | 'warning', string[]> = { error: [], warning: [...loaded.warnings] };
  const into =
    (texts: string[]): Say =>
    (key, message, mend) =>
      void texts.push(loaded.place(findingOf(key, message, mend)));
  const says = { problem: into(found.error), warning: into(found.warning) };
  // A certificate whose time is over is better than no mail at all.
  for (const check of fileChecks(loaded.config, { ...says, outOfDate: says.warning, nowMs: wallClockMs() }))
    await check();
  if (found.error.length > 0) throw new ConfigError(resolve(path), found.error);
  return { ...loaded, warnings: found.warning };
}

/** Everything that is wrong or odd, and the files it was read from. */
export type Checked = Pick<Examined, 'said' | 'files'>;

/**
 * For a reload: with the files that count as a whole or not at all. Of certificates those that are good are taken.
 * @throws ConfigError listing every problem.
 */
export async function loadAgain(path: string): Promise<LoadedConfig> {
  const loaded = loadConfig(path);
  const { file } = loaded.config.replies;
  const wrong = file === '' ? [] : await rulesIn(file);
  if (wrong.length === 0) return loaded;
  const at = wrong.map((message) => loaded.place({ path: ['replies', 'file'], message }));
  throw new ConfigError(resolve(path), at);
}

export interface CheckOptions {
  /** Leaves out what depends on the network: names, and addresses to listen on. */
  offline?: boolean;
  nowMs?: number;
}

export async function checkConfig(
  path: string,
  { offline = false, nowMs = wallClockMs() }: CheckOptions = {},
): Promise<Checked> {
  const { config, said, files, say } = examineConfig(path);
  if (config === null) return { said, files };
  // A key that is wrong already cannot be right in any other way.
  const wrong = new Set(said.flatMap(({ severity, key }) => (severity === 'error' ? key : [])));
  const into =
    (severity: Said['severity']): Say =>
    (path, message, mend) => {
      const one = say(severity, findingOf(path, message, mend));
      if (!wrong.has(one.key)) said.push(one);
    };
  const problem = into('error');
  const warning = into('warning');
  const checks = [
    ...fileChecks(config, { problem, warning, outOfDate: problem, nowMs }),
    () => checkFolders(config, problem),
  ];
  if (!offline)
    checks.push(
      () => checkHosts(config, askersOf(config), problem, warning),
      () => checkSourceAddresses(config, problem, warning),
      () => checkListeners(config, runningRelay(config), problem, into('note')),
    );
  await Promise.all(checks.map(ifSound));
  return { said: inOrder(said), files };
}

/** What checks rules for replies is loaded where there are any. */
const rulesIn = async (file: string): Promise<string[]> =>
  (await import('./feedback/rules-file.ts')).ruleProblems(file);

type Says = Parameters<typeof checkTlsFiles>[1];

const wallClockMs = (): number => timeOfDayMs(steadyMs());

/** What a start looks at too. */
function fileChecks(config: Config, says: Says): (() => void | Promise<void>)[] {
  const { problem, warning } = says;
  return [
    () => checkTlsFiles(config, says),
    () => checkStoragePaths(config, problem, warning),
    () =>
      checkNamedFiles(
        config,
        { users: (text) => parseUserFile(text).problems, rules: rulesIn },
        problem,
        warning,
      ),
    () => checkShapingFiles(config, problem),
    () => checkKeyFiles(config, problem, warning),
    () => checkReturnPathKeys(config, problem),
    () => checkOpenFiles(config, processCount(config), openFilesLimit(), warning),
    () => checkMemory(config, processCount(config), warning),
  ];
}

const findingOf = (path: Finding['path'], message: string, mend?: string): Finding =>
  mend === undefined ? { path, message } : { path, message, mend };

/** The relay that has this data folder; null when none runs. */
function runningRelay({ data_dir }: Config): number | null {
  const pid = readPid(join(data_dir, 'relay.pid'));
  return isAlive(pid) ? pid : null;
}
