/** `protorelay token …`: who may come in over HTTP. The secret is printed once, when a token is made. */
import type { Writable } from 'node:stream';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { isOfSystem, RelayError } from '../base/errors.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { configFor } from '../config/load.ts';
import { tokenAnswer } from '../control/token-answer.ts';
import { MAX_TOKEN_NAME, newToken, ROLES, type Role, type Token } from '../http/token.ts';
import { changeTokens, readTokens } from '../http/token-file.ts';
import { isAttributeText } from '../mail/attributes.ts';
import { duration, networksOf } from './arguments.ts';
import { type CommandLine, noteBelow } from './command-line.ts';

interface NewToken {
  role: Role;
  name: string;
  tenant?: string[];
  network?: string[];
  for?: number;
  json: boolean;
}

export function addTokens(program: Command, line: CommandLine): void {
  const group = program.command('token').description('who may come in over HTTP').helpCommand(false);
  noteBelow(
    group.command('create'),
    'viewer sees, operator also acts on mail, admin also on the relay and its config; inject only puts mail in. The token is printed once; what is kept is a hash of it.',
  )
    .description('make a token')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).makeOptionMandatory())
    .requiredOption('--name <name>', 'who has it', nameOf)
    .option('--tenant <name>', 'only mail of this tenant (several: again)', tenantsOf)
    .option('--network <network>', 'good from this network only (several: again)', networksOf)
    .option('--for <time>', 'how long it is good, as 90d; without it until it is revoked', duration)
    .option('--json', 'print JSON', false)
    .action((given: NewToken) => onFile(line, (path) => create(path, given, line.out)));
  group
    .command('list')
    .description('tokens, without their secrets')
    .option('--json', 'print JSON', false)
    .action(({ json }: { json: boolean }) => onFile(line, (path) => list(path, json, line.out)));
  group
    .command('revoke')
    .argument('<ids...>', 'ids, as `token list` shows them')
    .description('make tokens no good; requests with them are refused within a second')
    .option('--json', 'print JSON', false)
    .action((ids: string[], { json }: { json: boolean }) =>
      onFile(line, (path) => revoke(path, ids, json, line)),
    );
}

function nameOf(text: string): string {
  if (text.length > MAX_TOKEN_NAME || !isAttributeText(text))
    throw new InvalidArgumentError(`It is one line of at most ${MAX_TOKEN_NAME} characters.`);
  return text;
}

function tenantsOf(text: string, before: string[] = []): string[] {
  if (!isAttributeText(text)) throw new InvalidArgumentError('It is no name of a tenant.');
  return [...before, text];
}

function onFile(line: CommandLine, command: (path: string) => ExitCode): void {
  const path = configFor(['data_dir', 'http.tokens_file'], line.configPath()).http.tokens_file;
  try {
    line.endsWith(command(path));
  } catch (error) {
    if (error instanceof RelayError || !isOfSystem(error)) throw error;
    const text = `tokens cannot be changed: ${error.message}; check the file, its folder and their owner`;
    throw new RelayError('data_dir_unusable', text, error);
  }
}

function create(path: string, given: NewToken, out: Writable): ExitCode {
  const nowMs = Date.now();
  const { token, text } = newToken({
    name: given.name,
    role: given.role,
    tenants: given.tenant ?? [],
    networks: given.network ?? [],
    created_at: new Date(nowMs).toISOString(),
    ends_at: given.for === undefined ? null : new Date(nowMs + given.for).toISOString(),
  });
  changeTokens(path, (tokens) => [...tokens, token]);
  if (given.json)
    out.write(printableJson(`${JSON.stringify({ token: text, ...tokenAnswer(token) }, null, 2)}\n`));
  else out.write(`${text}\n`);
  return EXIT.ok;
}

function list(path: string, json: boolean, out: Writable): ExitCode {
  const tokens = readTokens(path);
  if (json) {
    out.write(printableJson(`${JSON.stringify({ tokens: tokens.map(tokenAnswer) }, null, 2)}\n`));
    return EXIT.ok;
  }
  if (tokens.length === 0) out.write(printableLines(`no tokens in ${path}\n`));
  for (const token of tokens) out.write(`${lineOf(token)}\n`);
  return EXIT.ok;
}

function lineOf({ id, name, role, tenants, networks, created_at, ends_at }: Token): string {
  const words = [id, role.padEnd(8), `since ${created_at}`];
  if (ends_at !== null) words.push(`until ${ends_at}`);
  if (tenants.length > 0) words.push(`tenants ${tenants.join(', ')}`);
  if (networks.length > 0) words.push(`from ${networks.join(', ')}`);
  return printable(`${words.join('  ')}  ${name}`);
}

function revoke(path: string, ids: readonly string[], json: boolean, { out, err }: CommandLine): ExitCode {
  const gone: Token[] = [];
  changeTokens(path, (tokens) => {
    gone.push(...tokens.filter(({ id }) => ids.includes(id)));
    return tokens.filter(({ id }) => !ids.includes(id));
  });
  if (json) out.write(printableJson(`${JSON.stringify({ revoked: gone.map(tokenAnswer) }, null, 2)}\n`));
  else for (const { id, name } of gone) out.write(`${printable(`${id} revoked  ${name}`)}\n`);
  const missing = ids.filter((id) => !gone.some((token) => token.id === id));
  if (missing.length === 0) return EXIT.ok;
  err.write(printableLines(`protorelay: there is no token ${missing.join(', ')}\n`));
  return EXIT.dataError;
}
