/**
 * Which attempts of a process have begun: a table in a file that delivery threads have mapped. Writing there costs no
 * system call, and outlives the process however it ends (but not a power cut). So the next start knows which of the
 * rows with delivery were really under way when the process died.
 *
 * A slot has eight words: four of queue id (the first is 0 in a free slot), the destination's hash, the fencing number,
 * two spare. Each thread has a range of slots of its own.
 */
const SLOT_WORDS = 8;
export const SLOT_BYTES = SLOT_WORDS * 4;
const ID_WORDS = 4;
const HASH = 4;
const FENCE = 5;
const ID_LENGTH = ID_WORDS * 4;

/** A row whose attempt had begun. */
export interface BegunRow {
  queueId: string;
  /** Hash of the destination (hashOf). */
  hash: number;
  fence: number;
}

/** FNV-1a, 32 bits. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export class BegunSlots {
  readonly #words: Int32Array;
  /** A stack of free slots, each by the index of its first word. */
  readonly #free: Int32Array;
  #freeCount: number;

  /** @param from the first slot of this thread, @param count how many it has. */
  constructor(words: Int32Array, from: number, count: number) {
    this.#words = words;
    this.#free = new Int32Array(count);
    for (let i = 0; i < count; i++) this.#free[i] = (from + count - 1 - i) * SLOT_WORDS;
    this.#freeCount = count;
  }

  /** Notes an attempt. @returns the slot, to be given to `free`; -1 when no slot is free, and so nothing was noted. */
  take(queueId: string, destination: string, fence: number): number {
    if (this.#freeCount === 0) return -1;
    const at = this.#free[--this.#freeCount] as number;
    const words = this.#words;
    words[at + HASH] = hashOf(destination) | 0;
    words[at + FENCE] = fence;
    // The first word is written last: a slot counts once it has that.
    for (let word = ID_WORDS - 1; word >= 0; word--) words[at + word] = idWord(queueId, word * 4);
    return at;
  }

  free(slot: number): void {
    if (slot < 0) return;
    this.#words[slot] = 0;
    this.#free[this.#freeCount++] = slot;
  }
}

/** Four characters of an id as a word, with 0 past its end. */
function idWord(id: string, at: number): number {
  const left = id.length - at;
  return (
    (left > 0 ? id.charCodeAt(at) : 0) |
    ((left > 1 ? id.charCodeAt(at + 1) : 0) << 8) |
    ((left > 2 ? id.charCodeAt(at + 2) : 0) << 16) |
    ((left > 3 ? id.charCodeAt(at + 3) : 0) << 24)
  );
}

/** The attempts that a process left in its table. */
export function readBegun(table: Buffer): BegunRow[] {
  const rows: BegunRow[] = [];
  for (let at = 0; at + SLOT_BYTES <= table.length; at += SLOT_BYTES) {
    if (table.readInt32LE(at) === 0) continue;
    const queueId = table.toString('latin1', at, at + ID_LENGTH).replace(/\0+$/, '');
    rows.push({ queueId, hash: table.readUInt32LE(at + HASH * 4), fence: table.readInt32LE(at + FENCE * 4) });
  }
  return rows;
}

/** Frees the slots for which `isOver` says so. @returns how many are left. */
export function clearBegun(table: Buffer, isOver: (queueId: string) => boolean): number {
  let left = 0;
  for (let at = 0; at + SLOT_BYTES <= table.length; at += SLOT_BYTES) {
    if (table.readInt32LE(at) === 0) continue;
    if (isOver(table.toString('latin1', at, at + ID_LENGTH).replace(/\0+$/, ''))) table.writeInt32LE(0, at);
    else left++;
  }
  return left;
}
