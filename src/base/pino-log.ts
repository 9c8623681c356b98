/**
 * The program's log on pino: one line for each event, JSON or text, to a file or standard output. Every thread opens the
 * same file for appending, so that lines never mix. While nobody reads them or the disk is full, lines wait in memory, up
 * to a bound; beyond it they are dropped, and their number is logged when lines flow again.
 */
import { dirname } from 'node:path';
import { inspect } from 'node:util';
import pino from 'pino';
import { isOfSystem, RelayError } from './errors.ts';
import type { Log } from './log.ts';
import { LogSink } from './log-sink.ts';
import { makeFolder } from './make-folder.ts';
import { printable, printableJson } from './printable.ts';

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  format: 'json' | 'text';
  /** Absolute path, or null for standard output. */
  file: string | null;
  /** Name of the thread, when it is not the main one. */
  thread?: string;
  /** Number of the relay process, when there are several. */
  process?: number;
}

/** Bytes of lines that may wait for room on the disk, or for a reader. */
const MAX_WAITING_BYTES = 4 * 1_048_576;

export class PinoLog implements Log {
  readonly #pino: pino.Logger;
  readonly #sink: LogSink;

  /** @throws Error when the file cannot be opened. */
  constructor(options: LogOptions) {
    if (options.file !== null) makeFolder(dirname(options.file), 0o700);
    // Lines are written at once: each is in the file when the call returns, even when a crash comes next. The log is not
    // on the hot path; delivery events are (report/events.ts).
    this.#sink = new LogSink({
      file: options.file,
      maxWaitingBytes: MAX_WAITING_BYTES,
      flowsAgain: (lines) => this.#pino.warn({ lines }, 'log.lines_dropped'),
    });
    const { format } = options;
    const stream = {
      write: (line: string) => this.#sink.write(format === 'json' ? printableJson(line) : toText(line)),
    };
    this.#pino = pino(
      {
        level: options.level,
        base: baseOf(options),
        messageKey: 'event',
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label) => ({ level: label }) },
        serializers: { error: (error: unknown) => shownError(error, this.#pino.level === 'debug') },
      },
      stream,
    );
  }

  debug(event: string, fields?: object): void {
    this.#pino.debug(fields ?? {}, event);
  }

  info(event: string, fields?: object): void {
    this.#write('info', event, fields);
  }

  warn(event: string, fields?: object): void {
    this.#write('warn', event, fields);
  }

  error(event: string, fields?: object): void {
    this.#write('error', event, fields);
  }

  get level(): string {
    return this.#pino.level;
  }

  setLevel(level: LogOptions['level']): void {
    this.#pino.level = level;
  }

  /** After the file was moved away (rotation): goes on in a new file of the same name, or in the old one and says why. */
  reopen(): void {
    try {
      this.#sink.reopen();
    } catch (error) {
      this.error('log.not_reopened', { error });
    }
  }

  close(): void {
    this.#sink.close();
  }

  #write(level: 'info' | 'warn' | 'error', event: string, fields: object = {}): void {
    this.#pino[level](fields, event);
  }
}

/**
 * An error as the log shows it, always an object. The message of a RelayError, or of the system, says what to mend, and the
 * stack would not help but who mends the program; of all other errors the stack is needed.
 */
function shownError(error: unknown, withStack: boolean): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const ofWorld = (error instanceof RelayError && error.code !== 'database_refused') || isOfSystem(error);
  if (!ofWorld) return pino.stdSerializers.err(error);
  const { code, message } = error as NodeJS.ErrnoException;
  return { code, message, ...(withStack && { stack: inspect(error) }) };
}

/** What every line of this thread carries. */
function baseOf({ process, thread }: LogOptions): Record<string, unknown> | null {
  if (process === undefined && thread === undefined) return null;
  return { ...(process === undefined ? {} : { process }), ...(thread === undefined ? {} : { thread }) };
}

/** `2026-01-31T12:00:00.000Z WARN  relay.overloaded connections=12 reason="no memory"` */
function toText(line: string): string {
  const { time, level, event, ...fields } = JSON.parse(line) as Record<string, unknown>;
  let text = `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${String(event)}`;
  for (const [key, value] of Object.entries(fields)) text += textOf(key, value);
  return `${printable(text)}\n`;
}

/** ` key=value`; of an object each value by itself: ` error.code=ENOENT error.message="no such file"`. */
function textOf(key: string, value: unknown): string {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return Object.entries(value)
      .map(([below, one]) => textOf(`${key}.${below}`, one))
      .join('');
  const isPlain = typeof value === 'string' && /^[^\s"=]+$/.test(value);
  return ` ${key}=${isPlain ? value : JSON.stringify(value)}`;
}
