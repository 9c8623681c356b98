/**
 * Greylisting: a client (its network), sender and recipient never seen together are refused once, and taken when they
 * come back after the delay. Two words are kept for each: when it was first seen (0: it has passed) and last.
 */
import { formatNetwork, neighbourhood } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import { type Found, type Hit, Part, type Subject } from './part.ts';
import type { SlotTable } from './slot-table.ts';

type GreylistConfig = Config['policy']['greylist'];

/** `first` of one that has passed. */
const PASSED = 0;

export class Greylist {
  readonly part: Part;
  readonly #config: GreylistConfig;
  readonly #table: SlotTable;

  constructor(config: GreylistConfig, table: SlotTable) {
    this.part = new Part(config);
    this.#config = config;
    this.#table = table;
  }

  /** Addresses compare without case: who changes it is nobody new. */
  look({ ip }: Subject, sender: string, recipient: string, nowMs: number): Found {
    if (ip === null) return null;
    const nowS = Math.floor(nowMs / 1000);
    const network = formatNetwork(neighbourhood(ip));
    if (this.#isKnown(network, nowS)) return null;
    const slot = this.#claim(`${network} ${sender.toLowerCase()} ${recipient.toLowerCase()}`);
    const waitS = this.#meet(slot, network, nowMs);
    return waitS === 0 ? null : this.#hit(`${network} ${sender} ${recipient}`, waitS);
  }

  /** Seconds it has to wait, 0 when it passes. */
  #meet(slot: number, network: string, nowMs: number): number {
    const nowS = Math.floor(nowMs / 1000);
    const { words } = this.#table;
    const [first, last] = [this.#word(slot, 2), this.#word(slot, 3)];
    const { delay_ms, retry_window_ms, keep_ms } = this.#config;
    const isNew = last === 0 || (nowS - last) * 1000 > (first === PASSED ? keep_ms : retry_window_ms);
    Atomics.store(words, slot * 4 + 3, nowS);
    if (isNew) {
      Atomics.store(words, slot * 4 + 2, nowS);
      return Math.max(1, Math.ceil(delay_ms / 1000));
    }
    if (first === PASSED) return 0;
    const waitMs = first * 1000 + delay_ms - nowMs;
    if (waitMs > 0) return Math.ceil(waitMs / 1000);
    Atomics.store(words, slot * 4 + 2, PASSED);
    this.#passed(network, nowS);
    return 0;
  }

  /** Seconds since 1970 as unsigned numbers last until 2106. */
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
    Atomics.store(words, slot * 4 + 3, nowS);
    return true;
  }

  #passed(network: string, nowS: number): void {
    if (this.#config.client_passes === 0) return;
    const slot = this.#claim(`client ${network}`);
    const { words } = this.#table;
    Atomics.add(words, slot * 4 + 2, 1);
    Atomics.store(words, slot * 4 + 3, nowS);
  }

  #claim(key: string): number {
    const { words } = this.#table;
    return this.#table.claim(
      key,
      (slot) => this.#word(slot, 3),
      (slot) => {
        Atomics.store(words, slot * 4 + 2, 0);
        Atomics.store(words, slot * 4 + 3, 0);
      },
    );
  }

  #hit(detail: string, waitS: number): Hit {
    return { rule: 'greylist', mode: this.part.mode, detail, text: `${waitS}` };
  }
}
