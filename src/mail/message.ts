import type { Attributes } from './attributes.ts';
import type { Envelope } from './envelope.ts';
import type { TlsUse } from './tls-use.ts';

/**
 * Names one piece of content: the number of its first block in the process's content arena. It is a number, so that
 * passing it between threads costs nothing; length, spill file and reference count lie in shared memory (see `Arena` in
 * native.ts). Whoever receives a handle owns one reference and must release it.
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
  /** Of its Message-ID field, without angle brackets, at most 255 characters; absent when it has none. */
  messageId?: string;
  /** A report of ours: the message it is about. */
  originalQueueId?: string;
  /** The header fields named by queue.kept_headers, in their order; absent when it has none of them. */
  headers?: HeaderField[];
  /** Absent: it has none. */
  attributes?: Attributes;
  /** The attachments in its MIME structure; absent when there are none, or they are not indexed. */
  attachments?: Attachment[];
}

/** A header field that is kept beside the content. */
export interface HeaderField {
  /** In lower case. */
  name: string;
  /** Unfolded and decoded, at most 1,000 octets of UTF-8. */
  value: string;
}

/** One attachment in the index. */
export interface Attachment {
  name: string;
  type: string;
  /** Length of its body as it stands in the content, in its transfer encoding. */
  sizeBytes: number;
  /** Where its body begins within the content. */
  offset: number;
}

/** Address of a client that is unknown to its proxy. Such clients have no rights, and share their limits. */
export const UNKNOWN_CLIENT = 'unknown';

export interface ClientInfo {
  /** Peer address, or 'unix' for a Unix socket, 'unknown' for a proxy's unknown client, 'internal' for our own DSNs. */
  address: string;
  helo: string;
  /** 'SMTP', 'ESMTP', 'ESMTPS', 'UTF8SMTP' … as RFC 5321 §4.4.1, RFC 3848 and RFC 6531 name it. */
  protocol: string;
  sessionId: string;
  /** Name of the listener it came in by; absent for our own reports. */
  listener?: string;
  /** TCP port of the client; absent or 0 where there is none, or a proxy did not tell. */
  port?: number;
  /** Absent on a connection in the clear. */
  tls?: TlsUse;
  /** Who authenticated, if anybody did. */
  user?: string;
}
