/** The states of a session as a union: what a phase can have is there, what it cannot have does not exist. */
import type { Envelope } from '../mail/envelope.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Reply } from '../protocol/reply.ts';
import type { Exchange } from './sasl.ts';

/** Whom a report came to. */
export interface ReportEnvelope {
  /** Local part with a token; null: the address for complaints. */
  readonly local: string | null;
}

/** From MAIL to the reply after the end of data. */
export interface Transaction {
  readonly envelope: Envelope;
  /** Keys of the recipients, to store a repeated one once; made when there is a second recipient. */
  seen: Set<string> | null;
  /** It goes to the domain of return paths, so its content is read as a report and not relayed. */
  report?: ReportEnvelope;
  /** When MAIL came, in steady time; the reception time of the accepted event counts from here. */
  readonly startedAtMs: number;
}

export type SessionState =
  /** Banner sent, no HELO or EHLO yet. */
  | { readonly phase: 'new' }
  | { readonly phase: 'ready' }
  | { readonly phase: 'envelope'; readonly transaction: Transaction }
  /** Content follows, up to CRLF.CRLF. */
  | { readonly phase: 'data'; readonly transaction: Transaction }
  /** A BDAT chunk follows; `octets` counts it and those before it. */
  | {
      readonly phase: 'chunk';
      readonly transaction: Transaction;
      readonly octets: number;
      readonly chunkOctets: number;
      /** When the first chunk began. */
      readonly sinceMs: number;
    }
  /** Between two BDAT chunks. */
  | {
      readonly phase: 'chunks';
      readonly transaction: Transaction;
      readonly octets: number;
      readonly sinceMs: number;
      /** The next chunk has to come by then, whatever else is said. */
      readonly untilMs: number;
    }
  /** A refused BDAT chunk follows; it is read to stay in step, then answered with `reply`. */
  | { readonly phase: 'discard'; readonly reply: Reply; readonly next: SessionState }
  /** Content complete, verdict awaited. The session holds one reference on `content`. */
  | {
      readonly phase: 'waiting';
      readonly ticket: number;
      readonly queueId: string;
      readonly content: ContentHandle;
      /** How many the message has: its user's quota gets them back when it is not kept. */
      readonly recipients: number;
    }
  /** A report is being read. */
  | { readonly phase: 'reported'; readonly ticket: number }
  /** A TLS handshake is under way; nothing is read or said. */
  | { readonly phase: 'securing' }
  /** A response of the client to a challenge of AUTH comes next. */
  | { readonly phase: 'exchange'; readonly exchange: Exchange }
  /** The main thread was asked about a login; nothing is read meanwhile. */
  | {
      readonly phase: 'login';
      readonly exchange: Exchange;
      readonly request: number;
      readonly sinceMs: number;
    }
  /** The connection is being closed; nothing is answered any more. */
  | { readonly phase: 'closed' };

export const NEW: SessionState = Object.freeze({ phase: 'new' });
export const READY: SessionState = Object.freeze({ phase: 'ready' });
export const SECURING: SessionState = Object.freeze({ phase: 'securing' });
export const CLOSED: SessionState = Object.freeze({ phase: 'closed' });

/** From MAIL to the reply after the end of data. */
export function isTransaction({ phase }: SessionState): boolean {
  switch (phase) {
    case 'new':
    case 'ready':
    case 'exchange':
    case 'login':
    case 'securing':
    case 'closed':
      return false;
    default:
      return true;
  }
}

/** Commands, or lines of an exchange, can come now. */
export function isReadingLines({ phase }: SessionState): boolean {
  switch (phase) {
    case 'new':
    case 'ready':
    case 'envelope':
    case 'chunks':
    case 'exchange':
      return true;
    default:
      return false;
  }
}
