/** What `protorelay user …` does and prints. A password comes from the terminal or standard input, never from arguments. */

import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { isSenderRule } from '../base/domain.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { saslPrepare } from '../protocol/sasl/prepare.ts';
import { isBcryptable, makeHash } from './hashes.ts';
import { readRules } from './rules.ts';
import type { Scheme } from './schemes.ts';
import { isUserName } from './user-file.ts';
import type { UserStore } from './user-store.ts';

/** As tables hold it. */
const MAX_NAME = 255;

export interface UserCommandPorts {
  out: { write(text: string): unknown };
  err: { write(text: string): unknown };
  /** The password as it was typed, or null when two tries differ. */
  password(username: string): Promise<string | null>;
}

/** @param words `rule=value` */
export async function addUser(
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
  if (name.length > MAX_NAME)
    return complain(ports, `a user name has ${MAX_NAME} characters at most`, EXIT.usage);
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
    out.write(`${printableJson(JSON.stringify(users, null, 2))}\n`);
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
  // What readline would echo goes nowhere.
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
