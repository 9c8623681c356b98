/** `protorelay queue list` */
import type { Writable } from 'node:stream';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson } from '../base/printable.ts';
import { entryAnswer, missingAnswer } from '../control/queue-answers.ts';
import type { QueueReader } from '../control/target.ts';
import type { Missing, Selection } from '../database/database.ts';
import { idOfLine, rowsOfLines } from '../mail/queue-lines.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import { formatRows } from './format.ts';
import type { QueueSource } from './open-queue.ts';
import { missingOf, type QueueOutput, told, written } from './queue-output.ts';
import { partsOf } from './selecting.ts';

export interface ListOptions {
  /** Absent: all. */
  limit?: number | undefined;
  /** Goes on after this message. */
  after?: string | undefined;
  json: boolean;
}

/**
 * A page has about so many characters, by what the lines of the one before had: longer texts are collected late, and with
 * 500,000 characters came to 120 MB more.
 */
const PAGE_CHARACTERS = 60_000;
/** Entries written at a time, for the same reason. */
const WRITTEN_ENTRIES = 50;
const FIRST_PAGE_ROWS = 250;
const MOST_PAGE_ROWS = 500;

export async function listQueue(
  source: QueueSource,
  selection: Selection,
  { limit = Number.POSITIVE_INFINITY, after, json }: ListOptions,
  { out, err, nowMs }: QueueOutput,
): Promise<ExitCode> {
  const table = json ? new JsonEntries(out) : new TextEntries(out, nowMs);
  let left = limit;
  let last = after;
  let more = false;
  // One more than is wanted tells whether there are more.
  for await (const page of pagesOf(source.reader, selection, after, () => Math.max(0, left) + 1)) {
    const fits = page.length <= left ? page : page.slice(0, wholeMessages(page, left, left === limit));
    await table.write(fits);
    last = fits.at(-1)?.queueId ?? last;
    left -= fits.length;
    more = fits.length < page.length;
    if (more) break;
  }
  const missing = await missingOf(source);
  await table.end(more ? (last ?? null) : null, missing);
  return told(missing, err, EXIT.ok);
}

/** How many rows of a page come to `limit` at most without parting a message; all of the first one at least, if `isFirst`. */
function wholeMessages(page: readonly QueueRow[], limit: number, isFirst: boolean): number {
  let end = Math.max(0, limit);
  while (end > 0 && page[end]?.queueId === page[end - 1]?.queueId) end--;
  if (end > 0 || !isFirst) return end;
  const next = page.findIndex(({ queueId }) => queueId !== page[0]?.queueId);
  return next === -1 ? page.length : next;
}

interface Asked {
  limit: number;
  page: Promise<string[]>;
}

/** How many rows like these make a page. */
function rowsLike(lines: readonly string[]): number {
  const characters = lines.reduce((sum, { length }) => sum + length, 0);
  return Math.max(1, Math.min(MOST_PAGE_ROWS, Math.floor((PAGE_CHARACTERS * lines.length) / characters)));
}

/** Reads page by page, as fast as our output is taken: a queue of millions costs the memory of two pages. */
async function* pagesOf(
  reader: QueueReader,
  selection: Selection,
  from: string | undefined,
  wanted: () => number,
): AsyncGenerator<QueueRow[]> {
  let most = FIRST_PAGE_ROWS;
  for (const part of partsOf(selection)) {
    const ask = (after: string | undefined, rows: number): Asked => {
      const limit = Math.min(rows, most);
      const place = after === undefined ? {} : { afterQueueId: after };
      const page = reader.lines({ selection: part, limit, ...place });
      page.catch(() => {}); // who reads on is told; who does not has no need of it
      return { limit, page };
    };
    for (let asked: Asked | null = ask(from, wanted()); asked !== null; ) {
      const limit: number = asked.limit;
      const lines: string[] = await asked.page;
      const [last] = lines.slice(-1);
      const isLast: boolean = last === undefined || lines.length < limit;
      if (last !== undefined) most = rowsLike(lines);
      // The next page is on its way while this one is printed, where it is certainly wanted.
      const more = wanted() - lines.length;
      asked = isLast || more <= 0 ? null : ask(idOfLine(last as string), more);
      if (last !== undefined) yield rowsOfLines(lines);
      if (!isLast && asked === null) asked = ask(idOfLine(last as string), wanted());
    }
  }
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

  async end(moreAfter: string | null): Promise<void> {
    if (this.#widths === null) await written(this.#out, 'no entries\n');
    if (moreAfter !== null) await written(this.#out, `… there are more: go on with --after ${moreAfter}\n`);
  }
}

/** {"entries": […], "more_after": …, "missing": […]}, an entry a line. */
class JsonEntries {
  readonly #out: Writable;
  #begun = false;

  constructor(out: Writable) {
    this.#out = out;
  }

  async write(rows: readonly QueueRow[]): Promise<void> {
    for (let at = 0; at < rows.length; at += WRITTEN_ENTRIES) {
      const part = rows.slice(at, at + WRITTEN_ENTRIES);
      const text = part.map((row) => `  ${printableJson(JSON.stringify(entryAnswer(row)))}`).join(',\n');
      await written(this.#out, `${this.#begun ? ',\n' : '{"entries": [\n'}${text}`);
      this.#begun = true;
    }
  }

  async end(moreAfter: string | null, missing: readonly Missing[]): Promise<void> {
    const entries = this.#begun ? '\n]' : '{"entries": []';
    const rest = JSON.stringify({ more_after: moreAfter, missing: missing.map(missingAnswer) });
    await written(this.#out, `${entries}, ${printableJson(rest.slice(1))}\n`);
  }
}
