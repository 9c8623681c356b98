/**
 * Transcript of dialogs for the log (log.transcripts): commands and replies, never content. A line that could carry a
 * credential (AUTH) is named, not shown.
 */
import type { Log } from '../base/log.ts';

const MAX_LINE = 500;

export class Transcript {
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  opened(session: string, client: string): void {
    this.#log.info('session.opened', { session, client });
  }

  command(session: string, line: string): void {
    const shown = /^ *AUTH/i.test(line) ? 'AUTH …' : line.slice(0, MAX_LINE);
    this.#log.info('session.command', { session, line: shown });
  }

  /** A line that is not a command, or none we know: in or after an exchange of AUTH it may be a password. */
  hidden(session: string): void {
    this.#log.info('session.command', { session, line: '…' });
  }

  reply(session: string, line: string): void {
    this.#log.info('session.reply', { session, line: line.startsWith('334 ') ? '334 …' : line.trimEnd() });
  }

  closed(session: string): void {
    this.#log.info('session.closed', { session });
  }
}
