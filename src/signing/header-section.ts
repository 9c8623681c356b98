/** The header section of a message in the arena. */
import type { Job } from '../mail/job.ts';
import type { Arena } from '../native.ts';

/** Most header sections end in so many octets; longer ones are read again. */
const HEAD_BYTES = 8192;
const MOST_HEAD_BYTES = 1_048_576;

/** As Latin-1. @throws Error of the file system */
export function headerSection(
  arena: Arena,
  { content, sizeBytes }: Pick<Job, 'content' | 'sizeBytes'>,
): string {
  let text = arena.textAt(content, 0, HEAD_BYTES);
  for (let bytes = HEAD_BYTES; ; bytes = Math.min(bytes * 16, MOST_HEAD_BYTES)) {
    if (text === '' && sizeBytes > 0) text = arena.head(content, bytes).toString('latin1');
    const end = text.startsWith('\r\n') ? 0 : text.indexOf('\r\n\r\n');
    if (end !== -1) return text.slice(0, end);
    if (bytes >= sizeBytes || bytes >= MOST_HEAD_BYTES) return text;
    text = '';
  }
}
