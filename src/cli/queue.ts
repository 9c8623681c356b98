/**
 * `protorelay queue …`: asks the running relay, or reads a stopped one's database. Prints for people, or JSON with
 * --json; anything that changes the queue needs the running relay.
 */

import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { type Command, Option } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { concerningNamed } from '../control/missing.ts';
import { MAX_CONTENT_BYTES, QUEUE_ACTIONS } from '../control/protocol.ts';
import { messageAnswer, missingAnswer } from '../control/queue-answers.ts';
import { statsAnswer } from '../control/stats-answer.ts';
import { suspensionsOn } from '../control/why.ts';
import type { OperateAction, Selection } from '../database/database.ts';
import type { ActionName } from '../mail/operator-action.ts';
import { COUNT_KEYS } from '../mail/queue-counts.ts';
import { MOST_DESTINATIONS } from '../mail/queue-stats.ts';
import { failText, hopOf, wholeNumber } from './arguments.ts';
import { askOn } from './ask.ts';
import type { CommandLine } from './command-line.ts';
import { formatMail } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { countQueue } from './queue-count.ts';
import { listQueue } from './queue-list.ts';
import { operateQueue } from './queue-operate.ts';
import { isTerminal, jsonOf, missingOf, type QueueOutput, told } from './queue-output.ts';
import { addSelecting, isEmpty, type SelectingOptions, selectionOf } from './selecting.ts';
import { formatStats } from './stats-text.ts';
import { verdictsOn } from './stored-verdicts.ts';
import { sayWhyOf, selectionMeant, whyMail, whyText } from './why.ts';

export function addQueue(program: Command, line: CommandLine): void {
  const queue = program.command('queue').description('look into the queue and change it').helpCommand(false);
  addSelecting(
    queue
      .command('list [ids...]')
      .description('entries of the queue: one a message and destination')
      .option('--limit <entries>', 'entries shown at most (default: 100; with --json all)', wholeNumber)
      .option('--after <id>', 'go on after this message')
      .option('--json', 'print JSON', false),
  ).action((ids: string[], options) =>
    onQueue(line, (source, output) => {
      const { json, after, limit = json ? undefined : 100 } = options;
      return listQueue(source, selected(line, ids, options, output), { limit, after, json }, output);
    }),
  );
  addSelecting(
    queue
      .command('count [ids...]')
      .description('how many entries, messages, recipients and bytes')
      .addOption(new Option('--by <key>', 'also for each, the largest first').choices(COUNT_KEYS))
      .option('--json', 'print JSON', false),
  ).action((ids: string[], options) =>
    onQueue(line, (source, output) =>
      countQueue(source, selected(line, ids, options, output), options.by ?? null, options.json, output),
    ),
  );
  queue
    .command('show <id>')
    .description('envelope, destinations, recipients and why they wait')
    .option('--json', 'print JSON', false)
    .action((id: string, { json }) => onQueue(line, (source, output) => showMail(source, id, json, output)));
  queue
    .command('why <id|recipient|domain>')
    .description('what keeps each entry of a message, or of mail to a recipient or domain, in the queue')
    .option(
      '--limit <messages>',
      'messages to a recipient or domain looked at, the oldest first',
      wholeNumber,
      20,
    )
    .option('--json', 'print JSON', false)
    .action((what: string, { json, limit }) =>
      onQueue(line, (source, output) => {
        const meant = selectionMeant(what);
        if (meant === null) return sayWhy(source, what, json, output);
        return sayWhyOf(source, what, meant, { json, limit }, output);
      }),
    );
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
    delete: 'remove recipients who are not being sent to, without a report',
  };
  for (const action of QUEUE_ACTIONS) addAction(queue, line, action, meaning[action], () => action);
  addAction(queue, line, 'fail', 'end recipients now, with a report to the sender', ({ text }) => ({
    fail: String(text),
  })).option('--text <text>', 'what the report says', failText, '');
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
  const command = queue
    .command(`${name} [ids...]`)
    .description(`${meaning}: of these messages, those that match, or all`)
    .option('--all', 'everything', false)
    .option('--dry-run', 'only say what would be done', false)
    .option('--yes', 'do not ask, however much it is', false)
    .option('--json', 'print JSON', false);
  return addSelecting(command).action((ids: string[], options) => {
    const { all, dryRun, yes, json } = options;
    if (all !== isEmpty(selectionOf(ids, options, 0)))
      line.usage(`queue ${name} needs message ids, options that say what is meant, or --all`);
    const action = actionOf(options);
    return onQueue(line, (source, output) =>
      operateQueue(source, action, selected(line, ids, options, output), { dryRun, yes, json }, output),
    );
  });
}

/** What the command line means. Says so where a header field is asked for that is not kept of new mail. */
function selected(
  line: CommandLine,
  ids: readonly string[],
  options: SelectingOptions,
  { err, nowMs }: QueueOutput,
): Selection {
  const selection = selectionOf(ids, options, nowMs);
  const names = new Set(selection.headers?.map(({ name }) => name));
  const kept = names.size === 0 ? [] : configFor(['queue'], line.configPath()).queue.kept_headers;
  for (const name of names)
    if (!kept.includes(name.toLowerCase()))
      err.write(
        printableLines(
          `protorelay: ${name} is not in queue.kept_headers: it is kept of no mail that comes now\n`,
        ),
      );
  return selection;
}

/** Runs a queue command on the running relay, or read-only on the database of a stopped one. */
async function onQueue(
  line: CommandLine,
  command: (source: QueueSource, output: QueueOutput) => Promise<ExitCode>,
): Promise<void> {
  const { openQueue, QUEUE_KEYS } = await import('./open-queue.ts');
  const path = line.configPath();
  const source = await openQueue(dataDirOf(path), () => configFor(QUEUE_KEYS, path));
  source.replyRules = () => configFor(['data_dir', 'replies'], path).replies.file;
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  try {
    line.endsWith(
      await command(source, {
        out: line.out,
        err: line.err,
        nowMs: Date.now(),
        ask:
          process.stdin.isTTY && isTerminal(line.err)
            ? (question) => askOn(process.stdin, process.stderr, question)
            : null,
        interrupted: interrupted.signal,
        // A second one ends the program at once.
        heedInterrupts: () => process.once('SIGINT', interrupt),
      }),
    );
  } finally {
    process.off('SIGINT', interrupt);
    source.close();
  }
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
  const verdictOn = await verdictsOn(mail, source.replyRules ?? (() => ''));
  out.write(
    json
      ? jsonOf({ ...messageAnswer(mail, suspensions, verdictOn), missing: missing.map(missingAnswer) })
      : formatMail(mail, suspensions, nowMs, verdictOn),
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
  const answer = await whyMail(
    source,
    mail,
    missing,
    nowMs,
    await verdictsOn(mail, source.replyRules ?? (() => '')),
  );
  out.write(json ? jsonOf({ ...answer, missing: missing.map(missingAnswer) }) : whyText(answer));
  return told(missing, err, EXIT.ok);
}

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
