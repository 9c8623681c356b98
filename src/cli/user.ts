/** `protorelay user …`: users of AUTH. A password comes from the terminal or standard input, never from arguments. */

import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { type Command, Option } from 'commander';
import { readRules } from '../auth/rules.ts';
import { SCHEMES, type Scheme } from '../auth/schemes.ts';
import { isUserName } from '../auth/user-file.ts';
import type { UserServerAccess } from '../auth/user-server-store.ts';
import type { UserStore } from '../auth/user-store.ts';
import { isSenderRule } from '../base/domain.ts';
import { RelayError } from '../base/errors.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { configFor } from '../config/load.ts';
import type { ServerConfig } from '../config/schema.ts';
import { userAnswer } from '../control/user-answer.ts';
import { saslPrepare } from '../protocol/sasl/prepare.ts';
import type { CommandLine } from './command-line.ts';

/** Tables hold no longer names. */
const MAX_USER_NAME = 255;

export interface UserCommandPorts {
  out: { write(text: string): unknown };
  err: { write(text: string): unknown };
  /** The password as it was typed, or null when two tries differ. */
  password(username: string): Promise<string | null>;
}

export function addUser(program: Command, line: CommandLine): void {
  const user = program
    .command('user')
    .description('users of AUTH, in the first file or table of auth.backends');
  user.helpCommand(false);
  const scheme = (): Option =>
    new Option('--scheme <scheme>', 'kind of hash; SCRAM needs scram-sha-256 (or plain), CRAM-MD5 plain')
      .choices(SCHEMES)
      .default(SCHEMES[0]);
  const path = (): Option =>
    new Option('--path <file>', 'the backend with this path, where there are several');
  const ofQueue = (): Option =>
    new Option('--of-queue', 'the table in the database of the queue, where there are several').conflicts(
      'path',
    );
  user
    .command('add <name> [rules...]')
    .description('add a user; rules as senders=@example.com or messages_per_day=500')
    .addOption(scheme())
    .addOption(path())
    .addOption(ofQueue())
    .action((name: string, words: string[], options) =>
      onUsers(line, options, (store, ports) =>
        createUser(store, name, { words, scheme: options.scheme }, ports),
      ),
    );
  user
    .command('passwd <name>')
    .description('set the password of a user')
    .addOption(scheme())
    .addOption(path())
    .addOption(ofQueue())
    .action((name: string, options) =>
      onUsers(line, options, (store, ports) => changePassword(store, name, options, ports)),
    );
  user
    .command('delete <name>')
    .description('remove a user')
    .addOption(path())
    .addOption(ofQueue())
    .action((name: string, options) =>
      onUsers(line, options, async (store, ports) => deleteUser(store, name, ports)),
    );
  user
    .command('list')
    .description('names, kinds of hash and rules')
    .option('--json', 'print JSON', false)
    .addOption(path())
    .addOption(ofQueue())
    .action((options) =>
      onUsers(line, options, async (store, ports) => listUsers(store, options.json, ports)),
    );
}

async function onUsers(
  line: CommandLine,
  { path, ofQueue }: { path?: string; ofQueue?: boolean },
  command: (store: UserStore, ports: UserCommandPorts) => Promise<ExitCode>,
): Promise<void> {
  const config = configFor(['data_dir', 'auth.backends', 'database'], line.configPath());
  const { openUserStore } = await import('../auth/open-user-store.ts');
  let store: UserStore | null = null;
  try {
    const chosen = { ofQueue, path: path === undefined ? undefined : resolve(config.data_dir, path) };
    store = openUserStore(config, chosen, await usersOnServers());
    const ports = { out: line.out, err: line.err, password: readPassword };
    line.endsWith(await command(store, ports));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof RelayError || typeof code !== 'string') throw error;
    throw new RelayError(
      'data_dir_unusable',
      `users cannot be changed: ${message}; check the file, its folder and their owner`,
      error,
    );
  } finally {
    await store?.close();
  }
}

/** Returns how to reach the table of users on a server. */
async function usersOnServers(): Promise<(server: ServerConfig) => UserServerAccess> {
  const { connect, connectionOptions, serverName } = await import('../database/mysql/connection.ts');
  const { Endpoints } = await import('../database/mysql/endpoints.ts');
  const { mysqlError } = await import('../database/mysql/errors.ts');
  const { USERS_SESSION } = await import('../auth/user-server.ts');
  const open = (server: ServerConfig) =>
    connect({
      ...connectionOptions(server),
      initSql: USERS_SESSION,
      socketTimeout: server.query_timeout_ms,
    });
  return (server) => ({
    name: serverName(server),
    connect: () => new Endpoints(server, { connect: open }).open(),
    explain: (error) => mysqlError(error, serverName(server)),
  });
}

/** @param words `rule=value` */
export async function createUser(
  store: UserStore,
  username: string,
  { words, scheme }: { words: readonly string[]; scheme: Scheme },
  ports: UserCommandPorts,
): Promise<ExitCode> {
  const name = saslPrepare(username);
  if (name === null || !isUserName(name))
    return complain(
      ports,
      `"${username}" cannot be a user name: no spaces, colons or control characters`,
      EXIT.usage,
    );
  if (name.length > MAX_USER_NAME)
    return complain(ports, `a user name has ${MAX_USER_NAME} characters at most`, EXIT.usage);
  const rules = wordsToRules(words);
  if (typeof rules === 'string') return complain(ports, rules, EXIT.usage);
  const hash = await newHash(name, scheme, ports);
  if (hash === null) return EXIT.usage;
  if (!(await store.add(name, hash, rules)))
    return complain(ports, `${name} exists already in ${store.path}`, EXIT.dataError);
  ports.out.write(printableLines(`${name} added to ${store.path}\n`));
  return EXIT.ok;
}

export async function changePassword(
  store: UserStore,
  username: string,
  { scheme }: { scheme: Scheme },
  ports: UserCommandPorts,
): Promise<ExitCode> {
  const hash = await newHash(username, scheme, ports);
  if (hash === null) return EXIT.usage;
  if (!(await store.setHash(username, hash))) return noSuchUser(store, username, ports);
  ports.out.write(printableLines(`password of ${username} changed in ${store.path}\n`));
  return EXIT.ok;
}

export async function deleteUser(
  store: UserStore,
  username: string,
  ports: UserCommandPorts,
): Promise<ExitCode> {
  if (!(await store.remove(username))) return noSuchUser(store, username, ports);
  ports.out.write(printableLines(`${username} deleted from ${store.path}\n`));
  return EXIT.ok;
}

export async function listUsers(
  store: UserStore,
  json: boolean,
  { out }: UserCommandPorts,
): Promise<ExitCode> {
  const users = await store.list();
  if (json) {
    out.write(`${printableJson(JSON.stringify(users.map(userAnswer), null, 2))}\n`);
    return EXIT.ok;
  }
  if (users.length === 0) out.write(printableLines(`no users in ${store.path}\n`));
  const width = Math.max(0, ...users.map(({ username }) => username.length));
  for (const { username, scheme, rules } of users) {
    const words = Object.entries(rules).map(([name, value]) => `${name}=${String(value)}`);
    out.write(`${printable([username.padEnd(width), scheme, ...words].join('  '))}\n`);
  }
  return EXIT.ok;
}

function wordsToRules(words: readonly string[]): Record<string, string> | string {
  const rules: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals < 1 || /\s/.test(word)) return `"${word}" is no rule: write for example messages_per_day=500`;
    rules[word.slice(0, equals)] = word.slice(equals + 1);
  }
  const read = readRules(rules, true);
  if (typeof read === 'string') return read;
  const sender = read.senders?.find((one) => !isSenderRule(one));
  if (sender !== undefined)
    return `senders: "${sender}" is neither an address (bob@example.com) nor a domain (@example.com)`;
  return rules;
}

async function newHash(username: string, scheme: Scheme, ports: UserCommandPorts): Promise<string | null> {
  const { isBcryptable, makeHash } = await import('../auth/hashes.ts');
  const typed = await ports.password(username);
  const password = typed === null ? null : saslPrepare(typed);
  if (typed === null) complain(ports, 'the two passwords differ', EXIT.usage);
  else if (typed === '') complain(ports, 'the password is empty', EXIT.usage);
  else if (password === null || password === '' || (scheme === 'plain' && /\s/.test(password)))
    complain(ports, 'the password has characters it cannot have', EXIT.usage);
  else if (scheme === 'bcrypt' && !isBcryptable(password))
    complain(ports, 'bcrypt takes passwords of 72 bytes at most; choose another --scheme', EXIT.usage);
  else return makeHash(password, scheme);
  return null;
}

function noSuchUser(store: UserStore, username: string, ports: UserCommandPorts): ExitCode {
  return complain(ports, `there is no ${username} in ${store.path}`, EXIT.dataError);
}

function complain({ err }: UserCommandPorts, problem: string, code: ExitCode): ExitCode {
  err.write(printableLines(`protorelay: ${problem}\n`));
  return code;
}

/** Asks twice at a terminal, without echo; else the first line of standard input. */
export async function readPassword(username: string): Promise<string | null> {
  const { stdin, stderr } = process;
  const terminal = stdin.isTTY === true;
  // What readline echoes goes here, to nobody.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: nowhere, terminal });
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
  const ask = (prompt: string): Promise<string> => {
    if (terminal) stderr.write(printableLines(prompt));
    const answered = new Promise<string>((resolve) => lines.once('line', resolve));
    return Promise.race([answered, ended]).finally(() => terminal && stderr.write('\n'));
  };
  try {
    const password = await ask(`Password for ${username}: `);
    if (!terminal) return password;
    return (await ask('The same again: ')) === password ? password : null;
  } finally {
    lines.close();
  }
}
