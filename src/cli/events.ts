/**
 * `protorelay events`: prints delivery events from their files, those of a stopped relay too, as JSON lines or as the lines
 * of a mail log.
 */
import { join } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { EXIT } from '../base/exit-codes.ts';
import { looseTimeIn } from '../base/time-text.ts';
import { dataDirOf } from '../config/load.ts';
import { addressOf, destinationOf, EVENT_TYPES, eventTypeOf, wholeNumber } from './arguments.ts';
import { type CommandLine, noteBelow } from './command-line.ts';
import { type EventsOptions, printEvents } from './event-printer.ts';
import { PATTERNS, several, text } from './selecting.ts';

const MAX_LAST = 100_000;

export function addEvents(program: Command, line: CommandLine): void {
  const command = program
    .command('events')
    .description('what became of mail: prints the event files, of all processes, in order of time')
    .option('--follow', 'go on with what is written from now on', false)
    .option('--text', 'one line of a mail log for each event, instead of JSON', false);
  const address = (written: string): string => addressOf(text(written));
  const options = [
    several('--id <pattern>', 'of this message, and reports about it', text),
    several('--type <pattern>', `of this type: ${EVENT_TYPES.join(', ')}`, eventTypeOf),
    several('--sender <pattern>', 'of this sender; <> is the null one', address),
    several('--recipient <pattern>', 'to this recipient', address),
    several(
      '--destination <pattern>',
      'to this destination (a domain, smarthost, or via:HOST:PORT)',
      destinationOf,
    ),
    several('--domain <pattern>', 'to recipients of this domain, in any spelling', text),
    several('--status <pattern>', 'with this enhanced status code, as 5.1.1 or 4.*', text),
  ];
  for (const option of options) command.addOption(option);
  noteBelow(command, PATTERNS)
    .option('--since <time>', 'not before: RFC 3339, a date, or how long ago, as 2h', pointInTime)
    .option('--until <time>', 'not after', pointInTime)
    .option('--limit <events>', 'the first events only', wholeNumber)
    .option('--last <events>', 'the last events only', lastNumber)
    .action(async (options: EventsOptions) => {
      const dir = join(dataDirOf(line.configPath()), 'events');
      const ending = new AbortController();
      const end = (): void => ending.abort();
      process.once('SIGINT', end).once('SIGTERM', end);
      // `protorelay events | head` closes our standard output: that is the end, not a failure.
      line.out.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EPIPE') line.endsWith(EXIT.ioError);
        end();
      });
      line.endsWith(
        await printEvents(dir, options, {
          out: line.out,
          err: line.err,
          signal: ending.signal,
        }),
      );
    });
}

/** Since 2026-03-01, 2026-03-01T12:00:00Z or 2h ago; as events have it. */
export function pointInTime(text: string): string {
  const [, count, unit] = /^([1-9]\d{0,5})([smhd])$/.exec(text) ?? [];
  const ms =
    count === undefined
      ? parseTime(text)
      : Math.max(
          0,
          Date.now() - Number(count) * { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 's'],
        );
  if (Number.isNaN(ms))
    throw new InvalidArgumentError('It is a time as 2026-03-01T12:00:00Z, a date, or how long ago, as 2h.');
  return new Date(ms).toISOString();
}

/** A time without a zone is one of this machine's. NaN: it is none, or none that a file can have in its name. */
function parseTime(text: string): number {
  const ms = looseTimeIn(text);
  return ms >= 0 && ms < Date.UTC(9999, 11, 31) ? ms : Number.NaN;
}

function lastNumber(text: string): number {
  const number = wholeNumber(text);
  if (number > MAX_LAST) throw new InvalidArgumentError(`It is at most ${MAX_LAST}.`);
  return number;
}
