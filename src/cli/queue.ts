/**
 * `protorelay queue …`: asks the running relay, or reads a stopped one's database. Prints for people, or JSON with
 * --json; anything that changes the queue needs the running relay.
 */

import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { type Command, Option } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { concerningNamed, missingText } from '../control/missing.ts';
import { MAX_CONTENT_BYTES, QUEUE_ACTIONS, type QueueReader } from '../control/protocol.ts';
import { type ActionAnswer, entryAnswer, messageAnswer, missingAnswer } from '../control/queue-answers.ts';
import { statsAnswer } from '../control/stats-answer.ts';
import { suspensionsOn } from '../control/why.ts';
import { STATES } from '../control/words.ts';
import type {
  Missing,
  OperateAction,
  OutboxState,
  QueueFilter,
  QueueRow,
  Selection,
} from '../database/database.ts';
import { type ActionName, nameOf } from '../mail/operator-action.ts';
import { MOST_DESTINATIONS } from '../mail/queue-stats.ts';
import { MAX_IDS } from '../mail/selection.ts';
import { addressOf, destinationOf, failText, hopOf, stateOf, wholeNumber } from './arguments.ts';
import type { CommandLine } from './command-line.ts';
import { formatMail, formatRows, MORE_ENTRIES } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { formatStats } from './stats-text.ts';
import { whyMail, whyText } from './why.ts';

export interface QueueOutput {
  out: Writable;
  err: Writable;
  nowMs: number;
}

export interface ListOptions {
  state?: OutboxState;
  destination?: string;
  sender?: string;
  recipient?: string;
  limit: number;
  json: boolean;
}

/** Few, because garbage of many pages adds up before it is collected: with 2,000 rows it came to 100 MB more. */
const PAGE_ROWS = 250;
/** Why an action may have nothing to do for a message, besides that there is no such message. */
const NOTHING_TO_DO: Readonly<Record<ActionName, string>> = {
  flush: 'held, or being sent just now',
  hold: 'held already, or being sent just now',
  release: 'or not held',
  delete: 'or being sent just now',
  fail: 'or being sent just now',
  reroute: 'there already, or being sent just now',
};

/** So many of the messages for which an action did nothing are named one by one. */
const MAX_UNCHANGED_NAMED = 20;

export function addQueue(program: Command, line: CommandLine): void {
  const queue = program.command('queue').description('look into the queue and change it').helpCommand(false);
  queue
    .command('list')
    .description('entries of the queue: one a message and destination')
    .addOption(
      new Option(
        '--state <state>',
        `only entries in this state: ${Object.keys(STATES).join(', ')}`,
      ).argParser(stateOf),
    )
    .option(
      '--destination <name>',
      'only entries of this destination (a domain, or smarthost)',
      destinationOf,
    )
    .option('--sender <address>', 'only messages of this sender; <> for the null one', addressOf)
    .option('--recipient <address>', 'only messages to this recipient', addressOf)
    .option('--limit <entries>', 'entries shown at most', wholeNumber, 100)
    .option('--json', 'print JSON', false)
    .action((options) => onQueue(line, (source, output) => listQueue(source, options, output)));
  queue
    .command('show <id>')
    .description('envelope, destinations, recipients and why they wait')
    .option('--json', 'print JSON', false)
    .action((id: string, { json }) => onQueue(line, (source, output) => showMail(source, id, json, output)));
  queue
    .command('why <id>')
    .description('what keeps each entry of a message in the queue')
    .option('--json', 'print JSON', false)
    .action((id: string, { json }) => onQueue(line, (source, output) => sayWhy(source, id, json, output)));
  queue
    .command('cat <id>')
    .description('trace and content, byte for byte')
    .action((id: string) => onQueue(line, (source, output) => catMail(source, id, output)));
  queue
    .command('stats')
    .description('what waits, by state, destination and age, the biggest destinations first')
    .option('--limit <destinations>', `destinations named, at most ${MOST_DESTINATIONS}`, wholeNumber, 20)
    .option('--json', 'print JSON', false)
    .action((options) => onQueue(line, (source, output) => queueStats(source, options, output)));
  addActions(queue, line);
}

function addActions(queue: Command, line: CommandLine): void {
  const meaning = {
    flush: 'make waiting entries due now',
    hold: 'keep waiting entries until they are released',
    release: 'let held entries go on',
    delete: 'remove entries that are not being sent; no DSN goes out',
  };
  for (const action of QUEUE_ACTIONS) {
    addAction(queue, line, action, meaning[action], () => action);
  }
  addAction(queue, line, 'fail', 'end recipients now, with a report to the sender', ({ reason }) => ({
    fail: String(reason),
  })).option('--reason <text>', 'what the report says', failText, '');
  addAction(queue, line, 'reroute', 'send to another next hop', ({ to, default: byConfig }) => {
    if ((to !== undefined) === byConfig) line.usage('queue reroute needs --to, or --default');
    return { reroute: byConfig ? null : String(to) };
  })
    .option('--to <host>', 'this next hop: HOST, HOST:PORT, [IPv6]:PORT', hopOf)
    .option('--default', 'where the config says', false);
  queue
    .command('retry [ids...]', { hidden: true })
    .allowUnknownOption()
    .action(() => line.usage('queue retry is called queue flush'));
}

function addAction(
  queue: Command,
  line: CommandLine,
  name: ActionName,
  meaning: string,
  actionOf: (options: Record<string, unknown>) => OperateAction,
): Command {
  return queue
    .command(`${name} [ids...]`)
    .description(`${meaning}: of these messages, of a destination, or all`)
    .option('--destination <name>', 'all entries of this destination', destinationOf)
    .option('--all', 'all entries', false)
    .option('--json', 'print JSON', false)
    .action((ids: string[], { destination, all, json, ...rest }) => {
      const given = [ids.length > 0, destination !== undefined, all].filter(Boolean).length;
      if (given !== 1) line.usage(`queue ${name} needs message ids, or --destination, or --all`);
      const target = all ? 'all' : destination === undefined ? ids : { destination: String(destination) };
      const action = actionOf(rest);
      return onQueue(line, (source, output) => operateQueue(source, action, target, json, output));
    });
}

/** Runs a queue command on the running relay, or read-only on the database of a stopped one. */
async function onQueue(
  line: CommandLine,
  command: (source: QueueSource, output: QueueOutput) => Promise<ExitCode>,
): Promise<void> {
  const { openQueue, QUEUE_KEYS } = await import('./open-queue.ts');
  const path = line.configPath();
  const source = await openQueue(dataDirOf(path), () => configFor(QUEUE_KEYS, path));
  try {
    const output = { out: process.stdout, err: process.stderr, nowMs: Date.now() };
    line.endsWith(await command(source, output));
  } finally {
    source.close();
  }
}

export async function listQueue(
  source: QueueSource,
  options: ListOptions,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const { limit, json } = options;
  const filter: QueueFilter = { selection: selectionOf(options), limit };
  const table = json ? new JsonEntries(out) : new TextEntries(out, nowMs);
  let left = limit;
  let more = false;
  for await (const page of pagesOf(source.reader, filter, limit + 1)) {
    more = page.length > left;
    await table.write(page.slice(0, left));
    left -= Math.min(left, page.length);
  }
  const missing = await missingOf(source);
  await table.end(more, missing);
  return told(missing, err, EXIT.ok);
}

/** Reads page by page, as fast as our output is taken: a queue of millions costs the memory of a page. */
async function* pagesOf(reader: QueueReader, filter: QueueFilter, limit: number): AsyncGenerator<QueueRow[]> {
  let after: string | undefined;
  for (let left = limit; left > 0; ) {
    const asked = Math.min(left, PAGE_ROWS);
    const page = await reader.list({
      ...filter,
      limit: asked,
      ...(after === undefined ? {} : { afterQueueId: after }),
    });
    if (page.length > 0) yield page;
    if (page.length < asked) return;
    left -= page.length;
    after = page.at(-1)?.queueId;
  }
}

function selectionOf({ state, destination, sender, recipient }: ListOptions): Selection {
  return {
    ...(state === undefined ? {} : { states: [state] }),
    ...(destination === undefined ? {} : { destinations: [destination] }),
    ...(sender === undefined ? {} : { senders: [sender] }),
    ...(recipient === undefined ? {} : { recipients: [recipient] }),
  };
}

class TextEntries {
  readonly #out: Writable;
  readonly #nowMs: number;
  /** Widths of the columns; they only grow. */
  #widths: number[] | null = null;

  constructor(out: Writable, nowMs: number) {
    this.#out = out;
    this.#nowMs = nowMs;
  }

  async write(rows: readonly QueueRow[]): Promise<void> {
    if (rows.length === 0) return;
    const { text, widths } = formatRows(rows, this.#nowMs, this.#widths);
    this.#widths = widths;
    await written(this.#out, text);
  }

  async end(more: boolean): Promise<void> {
    if (this.#widths === null) await written(this.#out, 'no entries\n');
    if (more) await written(this.#out, MORE_ENTRIES);
  }
}

/** {"entries": […], "missing": […]}, an entry a line. */
class JsonEntries {
  readonly #out: Writable;
  #begun = false;

  constructor(out: Writable) {
    this.#out = out;
  }

  async write(rows: readonly QueueRow[]): Promise<void> {
    if (rows.length === 0) return;
    const text = rows.map((row) => `  ${printableJson(JSON.stringify(entryAnswer(row)))}`).join(',\n');
    await written(this.#out, `${this.#begun ? ',\n' : '{"entries": [\n'}${text}`);
    this.#begun = true;
  }

  async end(_more: boolean, missing: readonly Missing[]): Promise<void> {
    const entries = this.#begun ? '\n]' : '{"entries": []';
    const answer = JSON.stringify(missing.map(missingAnswer));
    await written(this.#out, `${entries}, "missing": ${printableJson(answer)}}\n`);
  }
}

async function written(out: Writable, text: string): Promise<void> {
  if (!out.write(text)) await once(out, 'drain');
}

async function missingOf({ reader }: QueueSource): Promise<Missing[]> {
  return (await reader.missing?.()) ?? [];
}

/** Prints what an answer leaves out. Returns the exit code: `code` when nothing is missing. */
function told(missing: readonly Missing[], err: Writable, code: ExitCode): ExitCode {
  for (const one of missing) err.write(printableLines(`protorelay: not seen: ${missingText(one)}\n`));
  return missing.length > 0 ? EXIT.temporary : code;
}

export async function showMail(
  source: QueueSource,
  queueId: string,
  json: boolean,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const mail = await source.reader.show(queueId);
  if (mail === null) return unknownMail(source, queueId, err);
  const missing = concerningNamed(await missingOf(source), [queueId], []);
  const suspensions = suspensionsOn(mail, await source.rules());
  out.write(
    json
      ? jsonOf({ ...messageAnswer(mail, suspensions), missing: missing.map(missingAnswer) })
      : formatMail(mail, suspensions, nowMs),
  );
  return told(missing, err, EXIT.ok);
}

async function sayWhy(
  source: QueueSource,
  queueId: string,
  json: boolean,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const mail = await source.reader.show(queueId);
  if (mail === null) return unknownMail(source, queueId, err);
  const missing = concerningNamed(await missingOf(source), [queueId], []);
  const answer = await whyMail(source, mail, missing, nowMs);
  out.write(json ? jsonOf({ ...answer, missing: missing.map(missingAnswer) }) : whyText(answer));
  return told(missing, err, EXIT.ok);
}

const jsonOf = (answer: object): string => `${printableJson(JSON.stringify(answer, null, 2))}\n`;

/** Prints trace and content, byte for byte; on a terminal, without what could steer it. */
export async function catMail(
  source: QueueSource,
  queueId: string,
  { out, err }: QueueOutput,
): Promise<ExitCode> {
  for (let offset = 0; ; ) {
    const bytes = await source.reader.content(queueId, offset, MAX_CONTENT_BYTES);
    if (bytes === null) return unknownMail(source, queueId, err);
    if (bytes.length === 0) return EXIT.ok;
    offset += bytes.length;
    if (!out.write(isTerminal(out) ? shown(bytes) : bytes)) await once(out, 'drain');
  }
}

const isTerminal = (out: Writable): boolean => (out as { isTTY?: boolean }).isTTY === true;

/** Content for a terminal: lines end in LF there, and nothing may steer it. */
const shown = (bytes: Uint8Array): string =>
  printableLines(Buffer.from(bytes).toString('utf8').replaceAll('\r\n', '\n').replaceAll('\t', '    '));

async function unknownMail(source: QueueSource, queueId: string, err: Writable): Promise<ExitCode> {
  err.write(printableLines(`protorelay: no message ${queueId} in the queue (settled messages leave it)\n`));
  return told(concerningNamed(await missingOf(source), [], [queueId]), err, EXIT.dataError);
}

export async function queueStats(
  source: QueueSource,
  { json, limit }: { json: boolean; limit: number },
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const running = (await source.client?.runningStats()) ?? null;
  const queue = running?.queue ?? (await source.reader.stats());
  const scheduler = running?.scheduler ?? null;
  const processes = running?.processes ?? [];
  const journal = running?.journal ?? null;
  const missing = await missingOf(source);
  if (json) {
    const answer = statsAnswer(queue, scheduler, journal, processes, limit);
    out.write(jsonOf({ ...answer, missing: missing.map(missingAnswer) }));
  } else out.write(formatStats({ queue, scheduler, processes, journal }, nowMs, limit));
  return told(missing, err, EXIT.ok);
}

/** @param target ids of messages, a destination, or all. */
export async function operateQueue(
  source: QueueSource,
  action: OperateAction,
  target: readonly string[] | { destination: string } | 'all',
  json: boolean,
  { out, err }: QueueOutput,
): Promise<ExitCode> {
  if (source.client === null) {
    err.write('protorelay: the relay is not running; the queue can be changed only through it\n');
    return EXIT.unavailable;
  }
  const name = nameOf(action);
  const sum = { rows: 0, sending: 0 };
  const named = typeof target === 'object' && !('destination' in target);
  const changed: string[] = [];
  const unchanged: string[] = [];
  for (const part of partsOf(target)) {
    const done = await source.client.operate(action, part);
    sum.rows += done.rows;
    sum.sending += done.sending;
    const hit = new Set(done.queueIds);
    for (const queueId of part.ids ?? []) (hit.has(queueId) ? changed : unchanged).push(queueId);
  }
  for (const queueId of unchanged.slice(0, MAX_UNCHANGED_NAMED))
    err.write(
      printableLines(
        `protorelay: ${queueId}: nothing to ${name} (unknown, settled, ${NOTHING_TO_DO[name]})
`,
      ),
    );
  if (unchanged.length > MAX_UNCHANGED_NAMED)
    err.write(`protorelay: nothing to ${name} of ${unchanged.length - MAX_UNCHANGED_NAMED} more\n`);
  const seen = await missingOf(source);
  const missing = named ? concerningNamed(seen, changed, unchanged) : seen;
  if (json) {
    const answer: ActionAnswer = {
      action: name,
      entries: sum.rows,
      sending_entries: sum.sending,
      unchanged_messages: unchanged.length,
    };
    out.write(jsonOf({ ...answer, missing: missing.map(missingAnswer) }));
  } else {
    const sending = sum.sending === 0 ? '' : `; ${entriesText(sum.sending)} being sent, left alone`;
    out.write(`${name}: ${entriesText(sum.rows)}${sending}\n`);
  }
  return told(missing, err, unchanged.length > 0 ? EXIT.dataError : EXIT.ok);
}

const entriesText = (entries: number): string => `${entries} ${entries === 1 ? 'entry' : 'entries'}`;

function* partsOf(target: readonly string[] | { destination: string } | 'all'): Generator<Selection> {
  if (target === 'all') yield {};
  else if ('destination' in target) yield { destinations: [target.destination] };
  else for (let at = 0; at < target.length; at += MAX_IDS) yield { ids: target.slice(at, at + MAX_IDS) };
}
