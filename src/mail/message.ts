import type { Envelope } from './envelope.ts';
import type { TlsUse } from './tls-use.ts';

/**
 * Names one piece of content: the number of its first chunk in the process's content arena. It is a number so
 * that it crosses threads for nothing; length, spill file and reference count lie in shared memory behind it
 * (see `Arena` in native.ts). Whoever receives a handle owns one reference and must release it.
 */
export type ContentHandle = number;

/** A message whose content is complete, on its way from a session (or a DSN) to stable storage. */
export interface Message {
  queueId: string;
  envelope: Envelope;
  /** Trace header lines we add (`Received: …`, each ending in CRLF). Stored apart: content stays byte for byte. */
  trace: string;
  content: ContentHandle;
  /** Length of the content in bytes, trace excluded. */
  sizeBytes: number;
  receivedAtMs: number;
  /** Milliseconds from MAIL to the end of data, for the accepted event; absent for our own DSNs. */
  receptionMs?: number;
  client: ClientInfo;
  /** Of its MIME structure; absent when there are none, or they are not indexed. */
  attachments?: Attachment[];
}

/** What the index of a message's attachments says of one. */
export interface Attachment {
  name: string;
  type: string;
  /** Of its body as it stands in the content, transfer encoding included. */
  sizeBytes: number;
  /** Of the first byte of its body within the content. */
  offset: number;
}

/** Address of a client that its proxy knows nothing of: it has no rights, and shares its limits with its like. */
export const UNKNOWN_CLIENT = 'unknown';

export interface ClientInfo {
  /** Peer address, or 'unix' for a Unix socket, 'unknown' for a proxy's unknown client, 'internal' for our own DSNs. */
  address: string;
  helo: string;
  /** 'SMTP', 'ESMTP', 'ESMTPS', 'UTF8SMTP' … as RFC 5321 §4.4.1, RFC 3848 and RFC 6531 name it. */
  protocol: string;
  sessionId: string;
  /** Absent on a connection in the clear. */
  tls?: TlsUse;
  /** Who authenticated, if anybody did. */
  user?: string;
}
