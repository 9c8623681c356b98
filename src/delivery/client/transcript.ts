/**
 * Transcript of one dialog with a host, for the log (log.transcripts.outbound): what is sent and what is received, never
 * content. Of an exchange of AUTH only the mechanism and the codes of replies are shown, and wherever else the peer quotes
 * one of our secrets it is hidden.
 */
import type { LogLine } from '../../base/log.ts';
import type { ClientPort } from './owner.ts';
import type { ClientSession } from './session.ts';
import { type Fault, type Transaction, transactionIn } from './state.ts';

export type DialogLine = LogLine<'delivery.opened' | 'delivery.transcript' | 'delivery.closed'>;

/** Who reads the lines of a session. */
export interface DialogReader {
  /** Name of the session. */
  readonly sessionId: string;
  readonly destination: string;
  take(line: DialogLine): void;
}

/** A longer line is cut. */
const MAX_LINE = 500;
/** Of a longer reply the lines beyond are left out, but for the last. */
const MAX_REPLY_LINES = 20;

export class ClientTranscript {
  readonly #session: ClientSession;
  readonly #reader: DialogReader;
  #replyLines = 0;
  #fault: Fault | null = null;
  #over = false;

  constructor(session: ClientSession, reader: DialogReader) {
    this.#session = session;
    this.#reader = reader;
    reader.take({
      event: 'delivery.opened',
      fields: { ...this.#who(), peer_port: session.host.port, destination: reader.destination },
    });
  }

  /** The port, with all that is sent through it written down. */
  on(port: ClientPort): ClientPort {
    return {
      sendLatin1: (id, text) => {
        this.#sent(text);
        port.sendLatin1(id, text);
      },
      sendUtf8: (id, text) => {
        this.#sent(text);
        port.sendUtf8(id, text);
      },
      sendContent: (id, ...content) => {
        this.#line('sent', '(content)');
        port.sendContent(id, ...content);
      },
      expectLines: (id) => port.expectLines(id),
      deadline: (id, ms) => port.deadline(id, ms),
      close: (id, atOnce) => port.close(id, atOnce),
      secure: (...how) => port.secure(...how),
    };
  }

  received(line: string): void {
    const continues = line[3] === '-';
    this.#replyLines = continues ? this.#replyLines + 1 : 0;
    if (this.#replyLines > MAX_REPLY_LINES) return;
    const { state, secrets } = this.#session;
    const secret = state.phase === 'auth' && !/^[45]\d\d/.test(line);
    this.#line('received', secret ? `${/^\d{3}[ -]?/.exec(line)?.[0] ?? ''}…` : secrets.hide(line));
    if (this.#replyLines === MAX_REPLY_LINES) this.#line('received', '…');
  }

  /** Why the session ends. */
  failed(fault: Fault): void {
    this.#fault ??= fault;
  }

  closed(): void {
    if (this.#over) return;
    this.#over = true;
    const { reason = null, detail = null } = this.#fault ?? {};
    this.#reader.take({ event: 'delivery.closed', fields: { ...this.#who(), reason, detail } });
  }

  #sent(text: string): void {
    const { phase } = this.#session.state;
    for (const line of text.split('\r\n'))
      if (line !== '') this.#line('sent', phase === 'auth' ? withoutSecret(line) : line);
  }

  #line(direction: 'sent' | 'received', line: string): void {
    const queueId = transactionOf(this.#session, direction)?.attempt.job.queueId;
    const shown = line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line;
    this.#reader.take({
      event: 'delivery.transcript',
      fields: { ...this.#who(), queue_id: queueId, direction, line: shown },
    });
  }

  #who(): { session_id: string; peer_host: string; peer_address: string } {
    const { host } = this.#session;
    return { session_id: this.#reader.sessionId, peer_host: host.name, peer_address: host.address };
  }
}

/** The line of AUTH with its mechanism only; of what follows nothing. */
const withoutSecret = (line: string): string => {
  const command = /^AUTH [A-Z0-9-]+/.exec(line)?.[0];
  return command === line ? line : `${command ?? ''} …`.trimStart();
};

/** The transaction of a line: what is sent while a content is under way belongs to the next one. */
function transactionOf({ state }: ClientSession, direction: 'sent' | 'received'): Transaction | null {
  const next = direction === 'sent' && state.phase === 'content' ? state.next : null;
  return next ?? transactionIn(state);
}
