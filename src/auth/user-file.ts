/**
 * The file of users: a line each, `name:hash`, then words `rule=value` where the user has rules of its own. Lines that
 * begin with #, and empty lines, stay as they are. Files of htpasswd -B and hashes of mkpasswd are read as they are.
 *
 *   alice:$argon2id$v=19$m=19456,t=2,p=1$…$… senders=alice@example.com,@example.org messages_per_day=500
 */
import { changeFile } from '../base/changed-file.ts';
import { isHash } from './hashes.ts';
import { type GivenRules, readRules } from './rules.ts';

export interface Account {
  hash: string;
  rules: GivenRules;
}

export interface UserFile {
  users: Map<string, Account>;
  /** 'line 3: …' */
  problems: string[];
}

/** A user name has no characters that would end the name in the file, or make the line a comment. */
const NAME = /^[^\s:#\p{Cc}][^\s:\p{Cc}]*$/u;
const MAX_NAME = 255;

export function isUserName(text: string): boolean {
  return text.length <= MAX_NAME && NAME.test(text);
}

/** Lines that cannot be read become problems, not users; the others count. */
export function parseUserFile(text: string): UserFile {
  const users = new Map<string, Account>();
  const problems: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const name = nameOf(line);
    if (name === null) continue;
    const account = parseLine(line, name);
    const problem = users.has(name) ? `names ${name} again` : typeof account === 'string' ? account : null;
    if (problem !== null) problems.push(`line ${index + 1}: ${problem}`);
    else users.set(name, account as Account);
  }
  return { users, problems };
}

/** null for a line that is no user's. */
function nameOf(line: string): string | null {
  const text = line.trim();
  if (text === '' || text.startsWith('#')) return null;
  const colon = text.indexOf(':');
  return colon < 0 ? text : text.slice(0, colon);
}

/** The account, or what is wrong, in words that show no part of the hash. */
function parseLine(line: string, name: string): Account | string {
  if (!isUserName(name)) return 'has no user name that can be one before a colon';
  const [first = '', ...words] = line
    .trim()
    .slice(name.length + 1)
    .split(/\s+/);
  // Dovecot names the scheme before the hash.
  const hash = first.replace(/^\{[A-Z0-9-]+\}(?=\$|SCRAM-)/, '');
  if (!isHash(hash)) return `the hash of ${name} is none we can verify`;
  const record: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals < 1) return `of ${name}: after the hash come words like messages_per_day=500`;
    record[word.slice(0, equals)] = word.slice(equals + 1);
  }
  const rules = readRules(record, true);
  return typeof rules === 'string' ? `of ${name}: ${rules}` : { hash, rules };
}

/**
 * Changes the line of one user: `line` is called with what stands after the name now (null: there is no such user) and
 * returns what shall stand there (null: the line is deleted).
 * @throws RelayError when another command is changing the file; Error of the file system.
 */
export function changeUser(path: string, name: string, line: (rest: string | null) => string | null): void {
  changeFile(path, (text) => {
    const lines = text.split('\n');
    if (lines.at(-1) === '') lines.pop();
    const at = lines.findIndex((one) => nameOf(one) === name);
    const next = line(at < 0 ? null : (lines[at] as string).trim().slice(name.length + 1));
    if (at >= 0) lines.splice(at, 1, ...(next === null ? [] : [`${name}:${next}`]));
    else if (next !== null) lines.push(`${name}:${next}`);
    return lines.map((one) => `${one}\n`).join('');
  });
}
