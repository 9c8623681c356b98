/** What nodes tell each other about keys of tables: rows of 16 bytes, a key of 64 bits and 64 bits of what is said of it. */
const ROW = 16;

export class RowWriter {
  #bytes = Buffer.alloc(64 * ROW);
  #length = 0;

  get rows(): number {
    return this.#length / ROW;
  }

  /** @param number what is said of the key. */
  number(tag: number, place: number, number: number): void {
    const at = this.#key(tag, place);
    this.#bytes.writeDoubleLE(number, at);
  }

  /** @param first @param second two unsigned words that are said of it. */
  words(tag: number, place: number, first: number, second: number): void {
    const at = this.#key(tag, place);
    this.#bytes.writeUInt32LE(first >>> 0, at);
    this.#bytes.writeUInt32LE(second >>> 0, at + 4);
  }

  #key(tag: number, place: number): number {
    if (this.#length === this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2);
    const at = this.#length;
    this.#bytes.writeInt32LE(tag, at);
    this.#bytes.writeInt32LE(place, at + 4);
    this.#length += ROW;
    return at + 8;
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }
}

export function readNumbers(bytes: Buffer, each: (tag: number, place: number, number: number) => void): void {
  for (let at = 0; at + ROW <= bytes.length; at += ROW) {
    const number = bytes.readDoubleLE(at + 8);
    if (Number.isFinite(number) && number > 0) each(bytes.readInt32LE(at), bytes.readInt32LE(at + 4), number);
  }
}

export function readWords(
  bytes: Buffer,
  each: (tag: number, place: number, first: number, second: number) => void,
): void {
  for (let at = 0; at + ROW <= bytes.length; at += ROW)
    each(
      bytes.readInt32LE(at),
      bytes.readInt32LE(at + 4),
      bytes.readUInt32LE(at + 8),
      bytes.readUInt32LE(at + 12),
    );
}
