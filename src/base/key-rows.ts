/** What nodes tell each other about keys of tables: rows of 16 bytes, 64 bits for the key and 64 bits for its value. */
const ROW_BYTES = 16;

export class RowWriter {
  #bytes = Buffer.alloc(64 * ROW_BYTES);
  #length = 0;

  get rows(): number {
    return this.#length / ROW_BYTES;
  }

  /** Adds a row whose value is a number. */
  number(tag: number, place: number, number: number): void {
    const at = this.#key(tag, place);
    this.#bytes.writeDoubleLE(number, at);
  }

  /** Adds a row whose value is two unsigned 32-bit words. */
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
    this.#length += ROW_BYTES;
    return at + 8;
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }
}

export function readNumbers(bytes: Buffer, each: (tag: number, place: number, number: number) => void): void {
  for (let at = 0; at + ROW_BYTES <= bytes.length; at += ROW_BYTES) {
    const number = bytes.readDoubleLE(at + 8);
    if (Number.isFinite(number) && number > 0) each(bytes.readInt32LE(at), bytes.readInt32LE(at + 4), number);
  }
}

export function readWords(
  bytes: Buffer,
  each: (tag: number, place: number, first: number, second: number) => void,
): void {
  for (let at = 0; at + ROW_BYTES <= bytes.length; at += ROW_BYTES)
    each(
      bytes.readInt32LE(at),
      bytes.readInt32LE(at + 4),
      bytes.readUInt32LE(at + 8),
      bytes.readUInt32LE(at + 12),
    );
}
