/**
 * The attachments of a content in the arena. They are read by whoever makes a message (a session, the writer of DSNs),
 * never during a commit: a commit is made for many messages, and a stranger's content must not hold it up. Plain text
 * costs a look at the Content-Type that the reactor has found, or at its header section.
 */
import type { Attachment, ContentHandle } from '../../mail/message.ts';
import { type Arena, FIELD, FIELD_UNKNOWN, NO_FIELD } from '../../native.ts';
import { MimeScanner, mayHaveAttachments } from './structure.ts';

/** Only so much of a content is looked at; attachments that begin later are not listed. */
const MAX_SCANNED_BYTES = 32 * 1024 * 1024;
const HEAD_BYTES = 65_536;
/** Of the value of Content-Type. */
const MAX_TYPE_BYTES = 256;
const NONE: Attachment[] = [];
const scanner = new MimeScanner();

/** [] also for a content that cannot be read: whoever needs its octets will say so. */
export function attachmentsIn(
  arena: Pick<Arena, 'parts' | 'head' | 'fieldAt' | 'textAt'>,
  content: ContentHandle,
): Attachment[] {
  const at = arena.fieldAt(content, FIELD.contentType);
  if (at === NO_FIELD) return NONE;
  const isKnown = at !== FIELD_UNKNOWN;
  if (isKnown && isText(arena.textAt(content, at, at + MAX_TYPE_BYTES))) return NONE;
  try {
    // A content in memory mostly has one part; one in a file has none.
    const parts = arena.parts(content);
    const first = parts[0];
    if (!mayHaveAttachments(first ?? arena.head(content, HEAD_BYTES))) return NONE;
    const whole = parts.length === 1 && first !== undefined ? first : arena.head(content, MAX_SCANNED_BYTES);
    return scanner.attachments(whole);
  } catch {
    return NONE;
  }
}

/** The value declares no other type than text, on its first line. */
const isText = (value: string): boolean => /^[ \t]*text[/; \t\r\n]/i.test(value);

/** The same for a content at hand. */
export function attachmentsOf(content: Buffer): Attachment[] {
  return mayHaveAttachments(content.subarray(0, HEAD_BYTES)) ? scanner.attachments(content) : NONE;
}
