/** Files that a config names beside those of TLS listeners and content: users, tokens, issuers. */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { fileFault } from '../base/file-fault.ts';
import { readRegularText } from '../base/regular-file.ts';
import type { Finding, Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';

export interface FileReaders {
  /** What the lines of a file of users are no user for. @param text of the file. */
  users(text: string): string[];
  /** What is wrong with a file of rules for replies, each with file and line. */
  rules(file: string): Promise<string[]>;
}

export async function checkNamedFiles(
  config: Config,
  read: FileReaders,
  problem: Say,
  warning: Say,
): Promise<void> {
  checkUsers(config, read.users, problem, warning);
  const { delivery, database, scheduler } = config;
  const hops: [Finding['path'], typeof delivery.smarthost][] = [
    [['delivery', 'smarthost'], delivery.smarthost],
    ...Object.entries(delivery.routes).map(([domain, hop]): [Finding['path'], typeof hop] => [
      ['delivery', 'routes', domain],
      hop,
    ]),
  ];
  for (const [path, hop] of hops) {
    const file = hop?.auth?.access_token_file;
    const fault = file === undefined ? null : readFault(file);
    if (fault !== null)
      warning(
        [...path, 'auth', 'access_token_file'],
        fault,
        'mail to this next hop waits until the token is there',
      );
  }
  const servers: [Finding['path'], { tls_ca_file: string | null }][] =
    database.driver === 'mysql'
      ? [[['database'], database]]
      : database.driver === 'mysql_distributed'
        ? database.shards.map((shard, i) => [['database', 'shards', i], shard])
        : [];
  servers.push([['scheduler', 'redis'], scheduler.redis]);
  for (const [path, { tls_ca_file: file }] of servers) {
    const fault = file === null ? null : readFault(file);
    if (fault !== null) problem([...path, 'tls_ca_file'], fault);
  }
  const { file: rules } = config.replies;
  if (rules !== '') for (const fault of await read.rules(rules)) problem(['replies', 'file'], fault);
}

/** A file or table of users may come later; until then nobody can log in by it, which nobody else would say. */
function checkUsers({ auth }: Config, userProblems: FileReaders['users'], problem: Say, warning: Say): void {
  for (const [i, { type, path, config_dir: folder }] of auth.backends.entries()) {
    const at = ['auth', 'backends', i];
    if (folder !== undefined && !existsSync(folder))
      problem([...at, 'config_dir'], `${folder} is not there`, 'make it, with a file for the service in it');
    if ((type !== 'file' && type !== 'database') || path === undefined) continue;
    if (!existsSync(path)) {
      warning(
        [...at, 'path'],
        `${path} is not there yet, and so has no users`,
        'protorelay user add makes it',
      );
      continue;
    }
    const fault = readFault(path);
    if (fault !== null) problem([...at, 'path'], fault);
    else if (type === 'file') {
      const [first, ...rest] = userProblems(readRegularText(path));
      if (first === undefined) continue;
      const more = rest.length === 0 ? '' : `, and ${rest.length} more`;
      warning([...at, 'path'], `${path} has lines that count for nobody: ${first}${more}`);
    }
  }
}

function readFault(file: string): string | null {
  try {
    const stats = statSync(file);
    if (stats.isDirectory()) return `${file} is a folder, not a file`;
    if (!stats.isFile()) return `${file} is no regular file`;
    accessSync(file, constants.R_OK);
    return null;
  } catch (error) {
    return fileFault(file, error);
  }
}
