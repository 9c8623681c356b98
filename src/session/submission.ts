/**
 * What a submission server adds to a message (RFC 6409 §8.1, §8.2): Date and Message-ID, where they are missing. They
 * go before the content, with the trace, so that the content stays byte for byte what the client sent.
 */
import type { ContentHandle } from '../mail/message.ts';
import type { Arena } from '../native.ts';

const FIRST_LOOK_BYTES = 8192;
/** A longer header section gets nothing added. */
const MAX_HEADER_BYTES = 262_144;

/** Header fields to put before the content, each with its CRLF; '' when nothing is missing. */
export function missingFields(
  content: ContentHandle,
  arena: Pick<Arena, 'head'>,
  { date, messageId }: { date: string; messageId: string },
): string {
  const header = headerOf(content, arena);
  if (header === null) return '';
  const dated = /^date[ \t]*:/im.test(header) ? '' : `Date: ${date}\r\n`;
  const named = /^message-id[ \t]*:/im.test(header) ? '' : `Message-ID: <${messageId}>\r\n`;
  return dated + named;
}

/** The header section; null when its end is not found within bounds. A content without any header has an empty one. */
function headerOf(content: ContentHandle, arena: Pick<Arena, 'head'>): string | null {
  for (const bytes of [FIRST_LOOK_BYTES, MAX_HEADER_BYTES]) {
    const head = arena.head(content, bytes);
    if (head.length >= 2 && head[0] === 0x0d && head[1] === 0x0a) return '';
    const end = head.indexOf('\r\n\r\n');
    if (end >= 0) return head.toString('latin1', 0, end);
    if (head.length < bytes) return head.toString('latin1', 0, head.length);
  }
  return null;
}
