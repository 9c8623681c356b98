/** `protorelay queue hold|release|flush|delete|fail|reroute`: counts before anything large, then goes on part by part. */
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableLines } from '../base/printable.ts';
import type { ControlClient } from '../control/client.ts';
import { concerningNamed } from '../control/missing.ts';
import { type ActionAnswer, entryAnswer, missingAnswer } from '../control/queue-answers.ts';
import type { OperateAction, Selection } from '../database/database.ts';
import { concernedBy } from '../database/outbox-rows.ts';
import { type ActionName, nameOf } from '../mail/operator-action.ts';
import { rowsOfLines } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import { meansRecipients } from '../mail/selection.ts';
import { counted, formatRows } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { countOf } from './queue-count.ts';
import { isTerminal, jsonOf, missingOf, type QueueOutput, told } from './queue-output.ts';
import { partsOf } from './selecting.ts';

export interface OperateOptions {
  json: boolean;
  /** Only says what would be done. */
  dryRun: boolean;
  /** Does not ask, however much it is. */
  yes: boolean;
}

/** Up to so many recipients nobody is asked. */
const UNASKED_RECIPIENTS = 1000;
/** So many entries are shown of what would be done. */
const SAMPLES = 20;
/** So many of the messages for which an action did nothing are named one by one. */
const MAX_UNCHANGED_NAMED = 20;
/** Why an action may have nothing to do for a message, besides that there is no such message. */
const NOTHING_TO_DO: Readonly<Record<ActionName, string>> = {
  flush: 'held, or being sent just now',
  hold: 'held already, or being sent just now',
  release: 'or not held',
  delete: 'or being sent just now',
  fail: 'or being sent just now',
  reroute: 'there already, or being sent just now',
};

/** The actions that are done to just the recipients who match; the others are done to whole entries. */
const TAKES_PARTS: ReadonlySet<ActionName> = new Set(['delete', 'fail', 'reroute']);

const takesParts = (action: OperateAction): boolean => TAKES_PARTS.has(nameOf(action));

/** What an action is about, or was. */
interface Extent {
  entries: number;
  recipients: number;
  /** Entries being sent. */
  sending: number;
}

export async function operateQueue(
  source: QueueSource,
  action: OperateAction,
  selection: Selection,
  options: OperateOptions,
  output: QueueOutput,
): Promise<ExitCode> {
  const { err, nowMs } = output;
  const meant = nameOf(action) === 'fail' ? thereAt(nowMs, selection) : selection;
  if (options.dryRun) return dryRun(source, action, meant, options, output);
  if (source.client === null) {
    err.write('protorelay: the relay is not running; the queue can be changed only through it\n');
    return EXIT.unavailable;
  }
  if (!options.yes && selection.ids === undefined) {
    const extent = await extentOf(source, action, meant);
    if (extent.recipients > UNASKED_RECIPIENTS) {
      const about = `${nameOf(action)}: ${textOf(action, selection, extent)}`;
      if (!output.ask) {
        err.write(`protorelay: ${about}; nothing was done: give --yes\n`);
        return EXIT.usage;
      }
      if (!(await output.ask(`${about}. Go on? [y/N] `))) {
        err.write('nothing was done\n');
        return EXIT.ok;
      }
    }
  }
  return new Operation(source, source.client, action, output).run(meant, options.json);
}

/** Only what was in the queue then: reports of what fails are mail to their senders, and come into the queue behind it. */
function thereAt(nowMs: number, selection: Selection): Selection {
  if (selection.ids !== undefined) return selection;
  return { ...selection, receivedBeforeMs: Math.min(nowMs, selection.receivedBeforeMs ?? nowMs) };
}

async function extentOf(source: QueueSource, action: OperateAction, selection: Selection): Promise<Extent> {
  const sums = await countOf(source, concernedBy(action, selection), 'state');
  const sending = sums.groups.find(({ key }) => key === 'SENDING');
  const recipients = takesParts(action) ? 'recipients' : 'entryRecipients';
  return {
    entries: sums.entries - (sending?.entries ?? 0),
    recipients: sums[recipients] - (sending?.[recipients] ?? 0),
    sending: sending?.entries ?? 0,
  };
}

const entriesText = (n: number): string => counted(n, 'entry', 'entries');
const recipientsText = (n: number): string => counted(n, 'recipient', 'recipients');

function textOf(
  action: OperateAction,
  selection: Selection,
  { entries, recipients, sending }: Extent,
): string {
  const whole = meansRecipients(selection) && !takesParts(action) ? 'whole ' : '';
  const left = sending === 0 ? '' : `; ${entriesText(sending)} being sent, left alone`;
  // Of entries that are failed or delivered, deleted, every recipient had a fate before.
  if (recipients === 0 && entries > 0) return `${entriesText(entries)} in which nobody waited${left}`;
  const done = takesParts(action)
    ? `${recipientsText(recipients)} in ${entriesText(entries)}`
    : `${whole}${entriesText(entries)} with ${recipientsText(recipients)}`;
  return `${done.replace(/^whole (\d+) /, '$1 whole ')}${left}`;
}

async function dryRun(
  source: QueueSource,
  action: OperateAction,
  selection: Selection,
  { json }: OperateOptions,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const meant = concernedBy(action, selection);
  const extent = await extentOf(source, action, selection);
  const samples: QueueRow[] = [];
  for (const part of partsOf(meant))
    if (samples.length < SAMPLES)
      samples.push(...rowsOfLines(await source.reader.lines({ selection: part, limit: SAMPLES })));
  const shown = samples.slice(0, SAMPLES);
  const missing = await missingOf(source);
  if (json) {
    const { entries, recipients, sending } = extent;
    const answer = { action: nameOf(action), dry_run: true, entries, recipients, sending_entries: sending };
    out.write(jsonOf({ ...answer, samples: shown.map(entryAnswer), missing: missing.map(missingAnswer) }));
  } else {
    out.write(`${nameOf(action)} would change ${textOf(action, selection, extent)}\n`);
    if (shown.length > 0) out.write(formatRows(shown, nowMs, null).text);
  }
  return told(missing, err, EXIT.ok);
}

class Operation {
  readonly #source: QueueSource;
  readonly #client: ControlClient;
  readonly #action: OperateAction;
  readonly #name: ActionName;
  readonly #output: QueueOutput;
  readonly #sum: Extent = { entries: 0, recipients: 0, sending: 0 };
  readonly #changed = new Set<string>();

  constructor(source: QueueSource, client: ControlClient, action: OperateAction, output: QueueOutput) {
    this.#source = source;
    this.#client = client;
    this.#action = action;
    this.#name = nameOf(action);
    this.#output = output;
  }

  async run(selection: Selection, json: boolean): Promise<ExitCode> {
    const { err } = this.#output;
    this.#output.heedInterrupts?.();
    const isWhole = await this.#go(selection).catch((error: unknown) => {
      if (this.#sum.entries > 0) err.write(`protorelay: ${this.#said(selection)} before this:\n`);
      throw error;
    });
    const unchanged = isWhole ? (selection.ids ?? []).filter((id) => !this.#changed.has(id)) : [];
    this.#tell(unchanged);
    const seen = await missingOf(this.#source);
    const missing = selection.ids === undefined ? seen : concerningNamed(seen, [...this.#changed], unchanged);
    this.#print(selection, unchanged.length, isWhole, json, missing);
    const code = told(missing, err, unchanged.length > 0 ? EXIT.dataError : EXIT.ok);
    return isWhole ? code : EXIT.temporary;
  }

  /** @returns false when it was interrupted. */
  async #go(selection: Selection): Promise<boolean> {
    for (const part of partsOf(selection))
      for (let after: string | null = ''; after !== null; ) {
        if (this.#output.interrupted?.aborted) return false;
        const done = await this.#client.operate(this.#action, part, after);
        this.#sum.entries += done.rows;
        this.#sum.recipients += done.recipients;
        this.#sum.sending += done.sending;
        for (const queueId of done.queueIds) this.#changed.add(queueId);
        after = done.next;
        if (after !== null) this.#progress();
      }
    return true;
  }

  #progress(): void {
    const { err } = this.#output;
    if (isTerminal(err)) err.write(`\r${this.#name}: ${recipientsText(this.#sum.recipients)} so far `);
  }

  #said(selection: Selection): string {
    return `${this.#name}: ${textOf(this.#action, selection, this.#sum)}`;
  }

  #tell(unchanged: readonly string[]): void {
    const { err } = this.#output;
    const why = `(unknown, settled, ${NOTHING_TO_DO[this.#name]})`;
    for (const queueId of unchanged.slice(0, MAX_UNCHANGED_NAMED))
      err.write(printableLines(`protorelay: ${queueId}: nothing to ${this.#name} ${why}\n`));
    if (unchanged.length > MAX_UNCHANGED_NAMED)
      err.write(`protorelay: nothing to ${this.#name} of ${unchanged.length - MAX_UNCHANGED_NAMED} more\n`);
  }

  #print(
    selection: Selection,
    unchanged: number,
    isWhole: boolean,
    json: boolean,
    missing: Parameters<typeof missingAnswer>[0][],
  ): void {
    const { out, err } = this.#output;
    if (!isWhole) err.write('protorelay: interrupted; the same command does the rest\n');
    if (isTerminal(err)) err.write('\r\u001b[K');
    if (!json) {
      out.write(`${this.#said(selection)}\n`);
      return;
    }
    const answer: ActionAnswer = {
      action: this.#name,
      entries: this.#sum.entries,
      recipients: this.#sum.recipients,
      sending_entries: this.#sum.sending,
      unchanged_messages: unchanged,
      interrupted: !isWhole,
    };
    out.write(jsonOf({ ...answer, missing: missing.map(missingAnswer) }));
  }
}
