/** Chooses events from their files and prints them, in blocks: files and readers may be as large and as slow as they like. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import type { EventFileName } from '../report/event-names.ts';
import { EventReader, timeOf } from '../report/event-reader.ts';
import { EventSource, listEventFiles, type Start } from '../report/event-source.ts';
import { eventText, type ReadEvent } from '../report/event-text.ts';
import { EventFilter, type EventFilterOptions } from './event-filter.ts';

export interface EventsOptions extends EventFilterOptions {
  follow: boolean;
  text: boolean;
  limit?: number;
  last?: number;
}

export interface EventsOutput {
  out: Writable;
  err: Writable;
  /** Ends the command when it aborts. */
  signal: AbortSignal;
}

/** Lines beyond the last ones asked for that are kept before they are cut off together. */
const SPARE = 1000;
/** How soon a line is printed that was written meanwhile. */
const POLL_MS = 200;
export async function printEvents(
  dir: string,
  options: EventsOptions,
  output: EventsOutput,
): Promise<ExitCode> {
  const printer = new EventPrinter(dir, options, output);
  try {
    return await printer.run();
  } catch (error) {
    if (output.signal.aborted) return EXIT.ok;
    throw error;
  }
}

class EventPrinter {
  readonly #dir: string;
  readonly #options: EventsOptions;
  readonly #output: EventsOutput;
  readonly #filter: EventFilter;
  /** Chosen lines that are kept back, because later ones may be the last. */
  #kept: string[] = [];
  #text = '';
  #left: number;
  #damagedLines = 0;
  #code: ExitCode = EXIT.ok;

  constructor(dir: string, options: EventsOptions, output: EventsOutput) {
    this.#dir = dir;
    this.#options = options;
    this.#output = output;
    this.#filter = new EventFilter(options);
    this.#left = options.limit ?? Number.POSITIVE_INFINITY;
  }

  async run(): Promise<ExitCode> {
    const { follow, last } = this.#options;
    const { signal } = this.#output;
    const starts = await this.#starts();
    this.#damagedLines = 0;
    const reader = new EventReader(this.#sourceOptions(), this.#from(), starts);
    let isPast = last !== undefined;
    try {
      while (this.#goesOn()) {
        await reader.look();
        for (let lines = await reader.lines(); lines !== null; lines = await reader.lines()) {
          for (const line of lines) this.#take(line, isPast);
          await this.#flush();
          if (!this.#goesOn()) break;
        }
        if (isPast) for (const line of this.#kept.slice(-Number(last))) this.#print(line);
        this.#kept = [];
        isPast = false;
        await this.#flush();
        if (!follow) break;
        if (this.#goesOn()) await pause(POLL_MS, undefined, { signal });
      }
    } finally {
      await reader.close();
      this.#sayDamaged();
    }
    return this.#code;
  }

  #goesOn(): boolean {
    return !this.#output.signal.aborted && this.#left > 0;
  }

  #sourceOptions() {
    return {
      dir: this.#dir,
      signal: this.#output.signal,
      lastDay: dayAfter(this.#options.until),
      wanted: (block: string) => this.#filter.mayHold(block),
      damaged: (path: string, why: string) => {
        this.#output.err.write(printableLines(`protorelay: ${path} cannot be read as it is: ${why}\n`));
        this.#code = EXIT.dataError;
      },
    };
  }

  /** Files of days before are passed over. */
  #from(): Start {
    const { since = '' } = this.#options;
    return { day: since.slice(0, 10), number: 0 };
  }

  /** Where each process begins that does not begin there. */
  async #starts(): Promise<Map<number, Start>> {
    const starts = new Map<number, Start>();
    const { follow, since, last } = this.#options;
    const files = await listEventFiles(this.#dir);
    if (last !== undefined) await this.#findLast(last, files.reverse(), starts);
    // Without another wish, with what comes now. Only the newest file of each can grow.
    else if (follow && since === undefined)
      for (const { process, day, number } of files) starts.set(process, { day, number, atEnd: true });
    return starts;
  }

  /** For the last N events: far enough back that each process has N that are chosen, or all. @param files newest first. */
  async #findLast(last: number, files: readonly EventFileName[], starts: Map<number, Start>): Promise<void> {
    const found = new Map<number, number>();
    for (const { process, day, number } of files) {
      const count = found.get(process) ?? 0;
      if (count >= last || day < this.#from().day || this.#output.signal.aborted) continue;
      starts.set(process, { day, number });
      found.set(process, count + (await this.#count(process, { day, number }, last - count)));
    }
  }

  /** How many lines of one file are chosen, if they are fewer than `most`. */
  async #count(process: number, start: Start, most: number): Promise<number> {
    const source = new EventSource({ ...this.#sourceOptions(), process, damaged() {} }, start);
    let count = 0;
    try {
      while (count < most && (await source.fill()) && isAt(source, start))
        for (; !source.empty; source.at++) if (this.#isChosen(source.lines[source.at] as string)) count++;
    } finally {
      await source.close();
    }
    return count;
  }

  /** Whether the line is asked for. It is parsed only where its text does not tell. */
  #isChosen(line: string): boolean {
    if (line === '' || !this.#filter.isInTime(timeOf(line)) || !this.#filter.mayHold(line)) return false;
    if (!this.#filter.looksInside && isSound(line)) return true;
    const event = this.#parsed(line);
    return event !== null && this.#filter.accepts(event);
  }

  #parsed(line: string): ReadEvent | null {
    const event = eventIn(line);
    if (event === null) this.#damagedLines++;
    return event;
  }

  #take(line: string, isPast: boolean): void {
    if (!this.#isChosen(line)) return;
    if (!isPast) {
      this.#print(line);
      return;
    }
    this.#kept.push(line);
    const { last = 0 } = this.#options;
    if (this.#kept.length >= last + SPARE) this.#kept = this.#kept.slice(-last);
  }

  #print(line: string): void {
    if (this.#left <= 0) return;
    const { text } = this.#options;
    const event = text || !isSound(line) ? this.#parsed(line) : null;
    if (event === null && text) return;
    this.#left--;
    this.#text += `${event === null ? line : text ? eventText(event) : printableJson(JSON.stringify(event))}\n`;
  }

  /** Waits while the reader of our output is slow. */
  async #flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    const { out, signal } = this.#output;
    if (text !== '' && !signal.aborted && !out.write(text)) await once(out, 'drain', { signal });
  }

  #sayDamaged(): void {
    if (this.#damagedLines === 0) return;
    this.#output.err.write(`protorelay: ${this.#damagedLines} damaged lines were passed over\n`);
    this.#code = EXIT.dataError;
  }
}

/** null: it is none. */
function eventIn(line: string): ReadEvent | null {
  if (!line.startsWith('{') || !line.endsWith('}')) return null;
  try {
    return JSON.parse(line) as ReadEvent;
  } catch {
    return null;
  }
}

const isAt = ({ file }: EventSource, { day, number }: Start): boolean =>
  file?.day === day && file.number === number;

const ASCII = /^[ -~]*$/;

/** As the relay wrote it: whole, with nothing in it that steers a terminal. */
const isSound = (line: string): boolean =>
  line.startsWith('{"type":"') && line.endsWith('}') && (ASCII.test(line) || printable(line) === line);

const LAST_DAY = '9999-12-31';
/** A line may stand in the file of the next day. */
function dayAfter(time: string | undefined): string {
  if (time === undefined || time >= LAST_DAY) return '~';
  return new Date(Date.parse(time) + 86_400_000).toISOString().slice(0, 10);
}
