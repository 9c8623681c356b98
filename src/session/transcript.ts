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
    this.#log.info('session.opened', { session_id: session, client_address: client });
  }

  command(session: string, line: string): void {
    // AUTH= of MAIL names a mailbox; whatever else stands behind the word may be a credential.
    const shown = line.slice(0, MAX_LINE).replace(/(?<![a-z0-9])AUTH(?!=).*/is, 'AUTH …');
    this.#log.info('session.command', { session_id: session, line: shown });
  }

  /**
   * A line that is not a command we know. In an exchange of AUTH or after it, it may be a password; before one, a mistyped
   * AUTH with its credentials. So only its first word is shown, when it looks like a verb and nothing like AUTH.
   */
  hidden(session: string, line = ''): void {
    const verb = /^[A-Za-z]{1,10}(?=[ \t]|$)/.exec(line)?.[0] ?? '';
    const shown = verb === '' || /auth/i.test(verb) ? '…' : verb === line ? verb : `${verb} …`;
    this.#log.info('session.command', { session_id: session, line: shown });
  }

  reply(session: string, line: string): void {
    this.#log.info('session.reply', {
      session_id: session,
      line: line.startsWith('334 ') ? '334 …' : line.trimEnd(),
    });
  }

  closed(session: string): void {
    this.#log.info('session.closed', { session_id: session });
  }
}
