/**
 * Greylisting: a client (its network), sender and recipient that were never seen together are refused once, and taken when
 * they come back after the delay. Two words are kept for each: when it was first seen (0: it has passed), and last.
 */
import { formatNetwork, neighbourhood } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import { oneSpelling } from '../protocol/address.ts';
import type { NotedSlots } from './noted-slots.ts';
import { type Found, type Hit, nameless, Part, type Subject } from './part.ts';
import { FIRST_TIME_S } from './policy-time.ts';
import { SLOT_WORDS, type SlotTable, slotTableWordsAt } from './slot-table.ts';

type GreylistConfig = Config['policy']['greylist'];

/** `first` of a key that has passed. */
const PASSED = 0;
/** Other nodes are told that a key was seen again only when it had not been seen for so long. */
const RETELL_AFTER_S = 3600;
/** What a slot has, in seconds of the policy's time. In the slot of a client, `first` counts how often it passed. */
export interface Seen {
  first: number;
  last: number;
}

export class Greylist {
  readonly part: Part;
  readonly #config: GreylistConfig;
  readonly #table: SlotTable;
  readonly #noted: NotedSlots | null;

  /** @param noted notes the slots that other nodes are to hear of; null: there are no other nodes. */
  constructor(config: GreylistConfig, table: SlotTable, noted: NotedSlots | null = null) {
    this.part = new Part(config);
    this.#config = config;
    this.#table = table;
    this.#noted = noted;
  }

  /** Takes in what another node knows of a key. */
  merge(tag: number, place: number, theirs: Seen): void {
    if (tag === 0 || theirs.last === 0) return;
    const slot = this.#claimAt(tag, place);
    const ours = { first: this.#word(slot, 2), last: this.#word(slot, 3) };
    const { first, last } = mergeSeen(ours, theirs, this.#config);
    Atomics.store(this.#table.words, slot * 4 + 2, first);
    Atomics.store(this.#table.words, slot * 4 + 3, last);
  }

  /** What is known of the key in a slot; `last` 0: nothing. */
  seen(slot: number): Seen {
    return { first: this.#word(slot, 2), last: this.#word(slot, 3) };
  }

  #note(slot: number, before: number, nowS: number): void {
    if (this.#noted !== null && nowS - before >= RETELL_AFTER_S) this.#noted.add(slot);
  }

  /** @param sender and recipient as written; other spellings of the same addresses count as the same. */
  look(subject: Subject, sender: string, recipient: string, nowMs: number): Found {
    const network = subject.ip === null ? nameless(subject) : formatNetwork(neighbourhood(subject.ip));
    if (network === null) return null;
    const nowS = Math.floor(nowMs / 1000);
    if (this.#isKnown(network, nowS)) return null;
    const slot = this.#claim(`${network} ${oneSpelling(sender)} ${oneSpelling(recipient)}`);
    const waitS = this.#meet(slot, network, nowMs);
    return waitS === 0 ? null : this.#hit(`${network} ${sender} ${recipient}`, waitS);
  }

  /** Seconds that the client still has to wait; 0: it passes. */
  #meet(slot: number, network: string, nowMs: number): number {
    const nowS = Math.floor(nowMs / 1000);
    const { words } = this.#table;
    const [first, last] = [this.#word(slot, 2), this.#word(slot, 3)];
    const { delay_ms, retry_window_ms, keep_ms } = this.#config;
    const isNew = last === 0 || (nowS - last) * 1000 > (first === PASSED ? keep_ms : retry_window_ms);
    Atomics.store(words, slot * 4 + 3, nowS);
    if (isNew) {
      Atomics.store(words, slot * 4 + 2, nowS);
      this.#noted?.add(slot);
      return Math.max(1, Math.ceil(delay_ms / 1000));
    }
    if (first === PASSED) {
      this.#note(slot, last, nowS);
      return 0;
    }
    const waitMs = first * 1000 + delay_ms - nowMs;
    if (waitMs > 0) return Math.ceil(waitMs / 1000);
    Atomics.store(words, slot * 4 + 2, PASSED);
    this.#noted?.add(slot);
    this.#passed(network, nowS);
    return 0;
  }

  /** Seconds of the policy's time, or a count; both are unsigned. */
  #word(slot: number, at: number): number {
    return (this.#table.words[slot * 4 + at] as number) >>> 0;
  }

  /** Whether the client came back so often that all of its mail is taken. */
  #isKnown(network: string, nowS: number): boolean {
    const { client_passes, keep_ms } = this.#config;
    if (client_passes === 0) return false;
    const slot = this.#table.find(`client ${network}`);
    if (slot < 0) return false;
    const { words } = this.#table;
    if ((nowS - this.#word(slot, 3)) * 1000 > keep_ms) return false;
    if (this.#word(slot, 2) < client_passes) return false;
    this.#note(slot, this.#word(slot, 3), nowS);
    Atomics.store(words, slot * 4 + 3, nowS);
    return true;
  }

  #passed(network: string, nowS: number): void {
    if (this.#config.client_passes === 0) return;
    const slot = this.#claim(`client ${network}`);
    const { words } = this.#table;
    Atomics.add(words, slot * 4 + 2, 1);
    Atomics.store(words, slot * 4 + 3, nowS);
    this.#noted?.add(slot);
  }

  #claim(key: string): number {
    return this.#table.claim(key, this.#worth, this.#clear);
  }

  #claimAt(tag: number, place: number): number {
    return this.#table.claimAt(tag, place, this.#worth, this.#clear);
  }

  readonly #worth = (slot: number): number => this.#word(slot, 3);
  readonly #clear = (slot: number): void => {
    Atomics.store(this.#table.words, slot * 4 + 2, 0);
    Atomics.store(this.#table.words, slot * 4 + 3, 0);
  };

  #hit(detail: string, waitS: number): Hit {
    return { rule: 'greylist', mode: this.part.mode, detail, text: `${waitS}` };
  }
}

/** The same by another clock, which is so much ahead. Nothing and counts stay as they are. */
export function shiftedSeen({ first, last }: Seen, byS: number): Seen {
  return {
    first: first >= FIRST_TIME_S ? Math.max(FIRST_TIME_S, first + byS) : first,
    last: last === 0 ? 0 : Math.max(1, last + byS),
  };
}

/** Shifts a whole table, as it lies in a file, in place. */
export function shiftSeen(bytes: Buffer, byMs: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const byS = Math.round(byMs / 1000);
  for (let at = slotTableWordsAt; at < words.length; at += SLOT_WORDS) {
    const { first, last } = shiftedSeen(
      { first: words[at + 2] as number, last: words[at + 3] as number },
      byS,
    );
    words[at + 2] = first;
    words[at + 3] = last;
  }
}

/**
 * What two nodes know of one key, made one: a key that passed on either has passed, the earlier first time counts, and of
 * a client's passes the higher count. What one node knows and has outlived its window is dropped for what the other knows.
 */
export function mergeSeen(
  ours: Seen,
  theirs: Seen,
  { retry_window_ms, keep_ms }: { retry_window_ms: number; keep_ms: number },
): Seen {
  const lastsMs = (seen: Seen): number => (seen.first >= FIRST_TIME_S ? retry_window_ms : keep_ms);
  if (ours.last === 0 || (theirs.last - ours.last) * 1000 > lastsMs(ours)) return theirs;
  if ((ours.last - theirs.last) * 1000 > lastsMs(theirs)) return ours;
  const last = Math.max(ours.last, theirs.last);
  if (ours.first === PASSED || theirs.first === PASSED) {
    return {
      first: PASSED,
      last: Math.max(...[ours, theirs].map((one) => (one.first === PASSED ? one.last : 0))),
    };
  }
  if (ours.first < FIRST_TIME_S || theirs.first < FIRST_TIME_S)
    return { first: Math.max(ours.first, theirs.first), last };
  return { first: Math.min(ours.first, theirs.first), last };
}
