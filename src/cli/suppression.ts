/** `protorelay suppression …`: the list of who gets no mail. Prints for people, or JSON with --json. */
import { createReadStream, createWriteStream, statSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { csvLine, csvRecords } from '../base/csv.ts';
import { isOfSystem } from '../base/errors.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { configFor } from '../config/load.ts';
import { suppressionAnswer } from '../control/suppression-answer.ts';
import type { SuppressionChoice } from '../feedback/suppression-book.ts';
import { type LineDefaults, SuppressionLines } from '../feedback/suppression-lines.ts';
import { isAttributeText } from '../mail/attributes.ts';
import {
  domainOfTarget,
  MAX_DETAIL_LENGTH,
  type Suppression,
  suppressionTarget,
  writtenTarget,
} from '../mail/suppression.ts';
import { SCOPE_ALL, suppressionScope } from '../mail/suppression-scope.ts';
import type { SuppressionList } from '../relay/suppression-list.ts';
import { addressOf, duration } from './arguments.ts';
import { type CommandLine, noteBelow } from './command-line.ts';
import { written } from './queue-output.ts';

const SCOPE_HELP =
  'of which mail: all, a class (urgent, normal, bulk), or list:NAME of a campaign or List-Id';
const COLUMNS =
  'The file is CSV (RFC 4180). Its first line may name the columns: address (or email), tenant, scope, reason, source, detail, created_at, ends_at; without such a line the first column is the address. Times are RFC 3339; what is missing is filled in.';

interface Output {
  out: Writable;
  err: Writable;
}

export function addSuppression(program: Command, line: CommandLine): void {
  const group = program
    .command('suppression')
    .description('addresses and domains that get no mail')
    .helpCommand(false);
  group
    .command('list')
    .description('who is on the list, why, and until when')
    .option('--tenant <name>', 'only the list of this tenant', tenantOf)
    .option('--reason <reason>', 'only entries with this reason', reasonOf)
    .option('--json', 'print JSON', false)
    .action(({ tenant = null, reason = null, json }) =>
      onList(line, false, (list, output) => printList(list, { tenant, reason }, json, output.out)),
    );
  group
    .command('add')
    .argument('<addresses...>', 'addresses, or domains for all their addresses', newTargetsOf)
    .description('put addresses or domains on the list; what waits for them in the queue ends as suppressed')
    .option(
      '--tenant <name>',
      'of the list of this tenant; without it of the list for all mail',
      tenantOf,
      '',
    )
    .option('--scope <scope>', SCOPE_HELP, scopeOf, SCOPE_ALL)
    .option('--reason <reason>', 'a word for why', reasonOf, 'operator')
    .option('--detail <text>', 'why, for those who ask', detailOf, '')
    .option('--for <time>', 'how long, as 12h or 30d; without it until it is removed', duration)
    .option('--json', 'print JSON', false)
    .action((targets: string[], { tenant, scope, reason, detail, for: durationMs = null, json }) =>
      onList(line, true, async (list, { out }) => {
        const nowMs = Date.now();
        const entries = targets.map(
          (target): Suppression => ({
            tenant,
            target,
            scope,
            reason,
            source: 'operator',
            detail,
            createdAtMs: nowMs,
            expiresAtMs: durationMs === null ? null : nowMs + durationMs,
          }),
        );
        await list.put(entries);
        if (json) out.write(jsonOf({ suppressions: entries.map(suppressionAnswer) }));
        else for (const entry of entries) out.write(`${lineOf(entry)}\n`);
        return EXIT.ok;
      }),
    );
  group
    .command('remove')
    .argument('<addresses...>', 'addresses or domains', targetsOf)
    .description('take addresses or domains off the list')
    .option(
      '--tenant <name>',
      'of the list of this tenant; without it of the list for all mail',
      tenantOf,
      '',
    )
    .option('--scope <scope>', 'only entries with this scope', scopeOf)
    .option('--json', 'print JSON', false)
    .action((targets: string[], { tenant, scope = null, json }) =>
      onList(line, true, (list, output) => remove(list, { tenant, scope }, targets, json, output)),
    );
  group
    .command('check')
    .argument('<addresses...>', 'addresses or domains', targetsOf)
    .description('whether addresses get mail; if not, which entry says so')
    .option('--tenant <name>', 'whether they get mail of this tenant', tenantOf, '')
    .option('--json', 'print JSON', false)
    .action((targets: string[], { tenant, json }) =>
      onList(line, false, (list, { out }) => check(list, tenant, targets, json, out)),
    );
  noteBelow(group.command('import'), COLUMNS)
    .argument('[file]', 'CSV file; without it standard input')
    .description('put the addresses of a file on the list; entries that are there take what the file says')
    .option('--tenant <name>', 'the list of lines that name none', tenantOf, '')
    .option('--scope <scope>', 'the scope of lines that name none', scopeOf, SCOPE_ALL)
    .option('--reason <reason>', 'the reason of lines that name none', reasonOf, 'imported')
    .option('--for <time>', 'how long lines hold that name no end, as 30d', duration)
    .option('--json', 'print JSON', false)
    .action((file: string | undefined, { tenant, scope, reason, for: durationMs = null, json }) =>
      onList(line, true, (list, output) =>
        importFile(list, file, { tenant, scope, reason, durationMs }, json, output),
      ),
    );
  group
    .command('export')
    .argument('[file]', 'to be written; without it standard output')
    .description('the list as CSV, as `import` reads it')
    .option('--tenant <name>', 'only the list of this tenant', tenantOf)
    .option('--reason <reason>', 'only entries with this reason', reasonOf)
    .option('--json', 'print how many entries the file got as JSON; without a file, the list as JSON', false)
    .action((file: string | undefined, { tenant = null, reason = null, json }) =>
      onList(line, false, (list, output) => exportFile(list, file, { tenant, reason }, json, output)),
    );
}

const targetsOf = (text: string, before: string[] = []): string[] => [
  ...before,
  targetIn(text, suppressionTarget),
];

const newTargetsOf = (text: string, before: string[] = []): string[] => [
  ...before,
  targetIn(text, writtenTarget),
];

function targetIn(text: string, read: (text: string) => string | null): string {
  const target = read(addressOf(text));
  if (target === null) throw new InvalidArgumentError('It is no address, and no domain.');
  return target;
}

function tenantOf(text: string): string {
  if (!isAttributeText(text)) throw new InvalidArgumentError('It is no name of a tenant.');
  return text;
}

function scopeOf(text: string): string {
  const scope = suppressionScope(text);
  if (scope === null) throw new InvalidArgumentError('It is all, urgent, normal, bulk, or list:NAME.');
  return scope;
}

function reasonOf(text: string): string {
  if (!/^[a-z][a-z0-9_]{0,63}$/.test(text))
    throw new InvalidArgumentError('It is a word of a-z, 0-9 and _, as complaint.');
  return text;
}

function detailOf(text: string): string {
  if (text.length > MAX_DETAIL_LENGTH)
    throw new InvalidArgumentError(`It has at most ${MAX_DETAIL_LENGTH} characters.`);
  return text;
}

async function onList(
  line: CommandLine,
  changes: boolean,
  command: (list: SuppressionList, output: Output) => Promise<ExitCode>,
): Promise<void> {
  const { QUEUE_KEYS } = await import('./open-queue.ts');
  const { openSuppressionList } = await import('../relay/suppression-list.ts');
  const config = configFor([...QUEUE_KEYS, 'suppression'], line.configPath());
  const list = await openSuppressionList(config, changes);
  try {
    line.endsWith(await command(list, { out: line.out, err: line.err }));
  } finally {
    await list.close();
  }
}

async function printList(
  list: SuppressionList,
  choice: SuppressionChoice,
  json: boolean,
  out: Writable,
): Promise<ExitCode> {
  let count = 0;
  if (json) await written(out, '{"suppressions":[');
  for await (const page of list.book.list(choice)) {
    const lines = page.map((entry) => {
      const separator = count++ === 0 ? '\n' : ',\n';
      return json
        ? separator + printableJson(JSON.stringify(suppressionAnswer(entry)))
        : `${lineOf(entry)}\n`;
    });
    await written(out, lines.join(''));
  }
  if (json) await written(out, '\n]}\n');
  else if (count === 0) out.write('nobody is suppressed\n');
  return EXIT.ok;
}

async function remove(
  { book }: SuppressionList,
  { tenant, scope }: { tenant: string; scope: string | null },
  targets: readonly string[],
  json: boolean,
  { out, err }: Output,
): Promise<ExitCode> {
  const removed: string[] = [];
  const unknown: string[] = [];
  const there = await book.find(targets.map((target) => ({ tenant, target })));
  for (const target of targets) {
    const keys = there.filter((one) => one.target === target && (scope ?? one.scope) === one.scope);
    ((await book.remove(keys)) > 0 ? removed : unknown).push(target);
  }
  if (json) out.write(jsonOf({ removed, unknown }));
  else for (const target of removed) out.write(printableLines(`${target} gets mail again\n`));
  for (const target of unknown)
    err.write(printableLines(`protorelay: ${target} is not on the list; see protorelay suppression list\n`));
  return unknown.length > 0 ? EXIT.dataError : EXIT.ok;
}

async function check(
  { book }: SuppressionList,
  tenant: string,
  targets: readonly string[],
  json: boolean,
  out: Writable,
): Promise<ExitCode> {
  const asked = [...new Set(targets.flatMap((target) => [target, domainOfTarget(target)]))];
  const found = await book.find(
    [...new Set(['', tenant])].flatMap((list) => asked.map((target) => ({ tenant: list, target }))),
  );
  const answers = targets.map((target) => ({
    target,
    entries: found.filter((one) => one.target === target || one.target === domainOfTarget(target)),
  }));
  if (json)
    out.write(
      jsonOf({
        checked: answers.map(({ target, entries }) => ({
          address: target,
          suppressed: entries.some(({ scope }) => scope === SCOPE_ALL),
          entries: entries.map(suppressionAnswer),
        })),
      }),
    );
  else
    for (const { target, entries } of answers) {
      if (entries.length === 0) out.write(printableLines(`${target} gets mail\n`));
      for (const entry of entries) out.write(`${lineOf(entry)}\n`);
    }
  return EXIT.ok;
}

/** Lines written at a time. */
const BATCH = 250_000;
/** So many lines that cannot be read are named. */
const MAX_NAMED = 10;

async function importFile(
  list: SuppressionList,
  file: string | undefined,
  options: Omit<LineDefaults, 'nowMs'>,
  json: boolean,
  { out, err }: Output,
): Promise<ExitCode> {
  const lines = new SuppressionLines({ ...options, nowMs: Date.now() });
  const sum = { lines: 0, added: 0, changed: 0, refused: 0 };
  let batch: Suppression[] = [];
  let left = (): number | null => null;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const { added, changed } = await list.put(batch, left());
    sum.added += added;
    sum.changed += changed;
    batch = [];
  };
  try {
    const stream =
      file === undefined || file === '-' ? null : createReadStream(file, { highWaterMark: 1 << 18 });
    const bytes = stream === null ? 0 : (statSync(stream.path, { throwIfNoEntry: false })?.size ?? 0);
    if (stream !== null && bytes > 0)
      left = () =>
        batch.length + Math.ceil((sum.lines / stream.bytesRead) * Math.max(0, bytes - stream.bytesRead));
    const input = stream ?? process.stdin;
    for await (const records of csvRecords(input)) {
      for (const record of records) {
        const read = lines.read(record);
        if (read === null) continue;
        sum.lines++;
        if (typeof read !== 'string') {
          batch.push(read);
          if (batch.length === BATCH) await flush();
          continue;
        }
        if (sum.refused++ < MAX_NAMED)
          err.write(printableLines(`protorelay: line ${record.line}: ${read}\n`));
      }
    }
    await flush();
  } catch (error) {
    err.write(`protorelay: ${sum.added + sum.changed} entries were written before this:\n`);
    if (!isOfSystem(error) || file === undefined) throw error;
    err.write(printableLines(`protorelay: ${file} cannot be read: ${error.message}\n`));
    return EXIT.dataError;
  }
  if (json) out.write(jsonOf(sum));
  else
    out.write(
      `${sum.lines} lines: ${sum.added} added, ${sum.changed} changed${sum.refused > 0 ? `, ${sum.refused} refused` : ''}\n`,
    );
  return sum.refused > 0 ? EXIT.dataError : EXIT.ok;
}

async function exportFile(
  list: SuppressionList,
  file: string | undefined,
  choice: SuppressionChoice,
  json: boolean,
  { out, err }: Output,
): Promise<ExitCode> {
  if (file === undefined || file === '-') {
    if (json) return printList(list, choice, json, out);
    await exportTo(out, list, choice);
    return EXIT.ok;
  }
  const stream = createWriteStream(file, { mode: 0o600 });
  try {
    const filled = exportTo(stream, list, choice).then((count) => {
      stream.end();
      return count;
    });
    const [entries] = await Promise.all([filled, finished(stream)]);
    out.write(json ? jsonOf({ file, entries }) : `${entries} ${entries === 1 ? 'entry' : 'entries'}\n`);
    return EXIT.ok;
  } catch (error) {
    if (!isOfSystem(error)) throw error;
    err.write(printableLines(`protorelay: ${file} cannot be written: ${error.message}\n`));
    return EXIT.cannotCreate;
  }
}

/** @returns how many entries were written. */
async function exportTo(
  out: Writable,
  { book }: SuppressionList,
  choice: SuppressionChoice,
): Promise<number> {
  let entries = 0;
  await written(
    out,
    csvLine(['address', 'tenant', 'scope', 'reason', 'source', 'detail', 'created_at', 'ends_at']),
  );
  for await (const page of book.list(choice)) {
    entries += page.length;
    await written(
      out,
      page
        .map(({ target, tenant, scope, reason, source, detail, createdAtMs, expiresAtMs }) =>
          csvLine([target, tenant, scope, reason, source, detail, timeOf(createdAtMs), timeOf(expiresAtMs)]),
        )
        .join(''),
    );
  }
  return entries;
}

const timeOf = (ms: number | null): string => (ms === null ? '' : new Date(ms).toISOString());

const jsonOf = (value: object): string => `${printableJson(JSON.stringify(value, null, 2))}\n`;

function lineOf(entry: Suppression): string {
  const { address, tenant, scope, reason, source, detail, created_at, ends_at } = suppressionAnswer(entry);
  const whose = tenant === '' ? '' : `  of ${tenant}`;
  const end = ends_at === null ? 'until it is removed' : `until ${ends_at}`;
  return printable(
    `${address}${whose}${scope === SCOPE_ALL ? '' : `  for ${scope}`}  ${reason} (${source})  since ${created_at} ${end}${detail === '' ? '' : `: ${detail}`}`,
  );
}
