/**
 * State that is to survive a restart, as a file of JSON objects, one a line. It is written when something changed, at once, but not
 * sooner than ten seconds after the last time; a new file is renamed over the old one.
 */
import { rename, writeFile } from 'node:fs/promises';

const EVERY_MS = 10_000;
const FILE_MODE = 0o600;

export interface KeptLinesPorts {
  path: string;
  lines(): Iterable<object>;
  /** Steady time. */
  now(): number;
  setTimer(ms: number, fire: () => void): void;
  failed(error: unknown): void;
}

export class KeptLines {
  readonly #ports: KeptLinesPorts;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #isDue = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(ports: KeptLinesPorts) {
    this.#ports = ports;
  }

  /** Whether it was written since the start. */
  get written(): boolean {
    return Number.isFinite(this.#writtenMs);
  }

  /** Something changed that is to survive. */
  changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const waitMs = this.#writtenMs + EVERY_MS - this.#ports.now();
    // Not before what changed along with it is there too.
    this.#ports.setTimer(Math.max(0, waitMs), () => this.#write());
  }

  #write(): void {
    this.#isDue = false;
    this.#writtenMs = this.#ports.now();
    this.#writing = this.#writing.then(() => this.#put()).catch((error) => this.#ports.failed(error));
  }

  async #put(): Promise<void> {
    const { path, lines } = this.#ports;
    let text = '';
    for (const record of lines()) text += `${JSON.stringify(record)}\n`;
    await writeFile(`${path}.new`, text, { mode: FILE_MODE, flush: true });
    await rename(`${path}.new`, path);
  }

  /** Writes the last state. */
  async close(): Promise<void> {
    this.#write();
    await this.#writing;
  }
}
