/** Files that answer at once: a disk that takes its own time would make another world of the same seed. */
import { closeSync, fdatasyncSync, fsyncSync, openSync, writeSync } from 'node:fs';

class File {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  async write(bytes: Buffer, offset: number, length: number, at: number): Promise<{ bytesWritten: number }> {
    return { bytesWritten: writeSync(this.#fd, bytes, offset, length, at) };
  }

  async datasync(): Promise<void> {
    fdatasyncSync(this.#fd);
  }

  async sync(): Promise<void> {
    fsyncSync(this.#fd);
  }

  async close(): Promise<void> {
    closeSync(this.#fd);
  }
}

export async function open(path: string, flags: string, mode?: number): Promise<File> {
  return new File(openSync(path, flags, mode));
}
