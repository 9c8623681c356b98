/** An Arena in plain memory of one thread, to test what uses one without the addon. Counts references strictly. */
import { closeSync, openSync, readSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Arena,
  CHUNK_BYTES,
  CONTENT_STATE,
  CONTENT_UNIT_BYTES,
  FIELD_UNKNOWN,
  NO_CONTENT,
} from '../../src/native.ts';

interface Content {
  parts: Buffer[];
  file: { fd: number; offset: number; path: string | null } | null;
  lengthBytes: number;
  refs: number;
  state: number;
}

const bytesFor = (length: number): number =>
  Math.max(1, Math.ceil(length / CONTENT_UNIT_BYTES)) * CONTENT_UNIT_BYTES;

export class FakeArena implements Arena {
  readonly buffer = new SharedArrayBuffer(8);
  readonly totalBytes: number;
  readonly #contents = new Map<number, Content>();
  #next = 1;
  #free: number;

  constructor(totalBytes = 4096 * CHUNK_BYTES) {
    this.totalBytes = totalBytes;
    this.#free = totalBytes;
  }

  holdEnvelope(): void {}

  fieldAt(): number {
    return FIELD_UNKNOWN;
  }

  textAt(): string {
    return '';
  }

  marked(): boolean {
    return false;
  }

  cut(): void {
    throw new Error('nobody cuts here');
  }

  takeHeld(): boolean {
    return false;
  }

  /** Contents somebody still holds a reference on. */
  get held(): number {
    return this.#contents.size;
  }

  freeBytes(): number {
    return this.#free;
  }

  heldBytes(handle: number): number {
    const { file, lengthBytes } = this.#at(handle);
    return bytesFor(file === null ? lengthBytes : 0);
  }

  store(bytes: Uint8Array): number {
    if (bytesFor(bytes.length) > this.#free) return NO_CONTENT;
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const part = Buffer.from(new SharedArrayBuffer(Math.min(CHUNK_BYTES, bytes.length - at)));
      part.set(bytes.subarray(at, at + part.length));
      parts.push(part);
    }
    this.#free -= bytesFor(bytes.length);
    return this.#add({ parts, file: null, lengthBytes: bytes.length, refs: 1, state: CONTENT_STATE.waiting });
  }

  storeFile(fd: number, offset: number, lengthBytes: number): number {
    if (this.#free === 0) return NO_CONTENT;
    this.#free -= CONTENT_UNIT_BYTES;
    return this.#add({
      parts: [],
      file: { fd, offset, path: null },
      lengthBytes,
      refs: 1,
      state: CONTENT_STATE.waiting,
    });
  }

  /** What the reactor does with long content. */
  spill(bytes: Uint8Array, folder: string): number {
    const path = join(folder, `spill-${this.#next}`);
    writeFileSync(path, bytes);
    const content = this.storeFile(openSync(path, 'r'), 0, bytes.length);
    const file = this.#at(content).file as { path: string | null };
    file.path = path;
    return content;
  }

  #add(content: Content): number {
    this.#contents.set(this.#next, content);
    return this.#next++;
  }

  #at(handle: number): Content {
    const content = this.#contents.get(handle);
    if (content === undefined) throw new Error(`content ${handle} is not in the arena`);
    return content;
  }

  lengthBytes(handle: number): number {
    return this.#at(handle).lengthBytes;
  }

  retain(handle: number): void {
    this.#at(handle).refs++;
  }

  release(handle: number): void {
    const content = this.#at(handle);
    if (--content.refs > 0) return;
    this.#free += this.heldBytes(handle);
    this.#contents.delete(handle);
    if (content.file === null) return;
    closeSync(content.file.fd);
    if (content.file.path !== null) unlinkSync(content.file.path);
  }

  moveState(handle: number, from: number, to: number): boolean {
    const content = this.#at(handle);
    if (content.state !== from) return false;
    content.state = to;
    return true;
  }

  parts(handle: number): Buffer[] {
    return this.#at(handle).parts;
  }

  file(handle: number): { fd: number; offset: number; path: string | null } | null {
    return this.#at(handle).file;
  }

  claimFile(handle: number): void {
    const { file } = this.#at(handle);
    if (file !== null) file.path = null;
  }

  head(handle: number, maxBytes: number): Buffer {
    return this.bytes(handle).subarray(0, maxBytes);
  }

  /** The whole content. */
  bytes(handle: number): Buffer {
    const { parts, file, lengthBytes } = this.#at(handle);
    if (file === null) return Buffer.concat(parts);
    const bytes = Buffer.alloc(lengthBytes);
    readSync(file.fd, bytes, 0, lengthBytes, file.offset);
    return bytes;
  }
}
