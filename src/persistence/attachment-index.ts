/** Reads the attachments of messages about to be committed. Plain text costs a look at its header section. */
import { readSync } from 'node:fs';
import type { Message } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { type FoundAttachment, MimeScanner, mayHaveAttachments } from './mime-structure.ts';

/** Only so much of a content is looked at; attachments that begin later are not listed. */
const MAX_SCANNED_BYTES = 32 * 1024 * 1024;
const HEAD_BYTES = 65_536;

export class AttachmentIndex {
  readonly #arena: Arena;
  readonly #scanner = new MimeScanner();

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  of({ content, sizeBytes }: Message): FoundAttachment[] {
    const file = this.#arena.file(content);
    if (file !== null) {
      if (!mayHaveAttachments(this.#read(file, Math.min(HEAD_BYTES, sizeBytes)))) return [];
      return this.#scanner.attachments(this.#read(file, Math.min(MAX_SCANNED_BYTES, sizeBytes)));
    }
    const parts = this.#arena.parts(content);
    const first = parts[0];
    if (first === undefined || !mayHaveAttachments(first)) return [];
    return this.#scanner.attachments(parts.length === 1 ? first : Buffer.concat(parts));
  }

  #read(file: { fd: number; offset: number }, count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    let done = 0;
    while (done < count) {
      const got = readSync(file.fd, bytes, done, count - done, file.offset + done);
      if (got === 0) break;
      done += got;
    }
    return bytes.subarray(0, done);
  }
}
