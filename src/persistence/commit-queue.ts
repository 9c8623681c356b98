/** Everything that waits for a group commit, and how much of it goes into one batch. */
import type { Entry, SettleItem } from './entry.ts';

/** Bounds of one batch. Measured: a batch of 500 messages of 1 KB takes about 8 ms, and larger ones gain nothing. */
const MAX_MESSAGES = 500;
const MAX_SETTLEMENTS = 500;
const MAX_BYTES = 8 * 1024 * 1024;
const MAX_RECIPIENTS = 20_000;

export interface Batch {
  entries: Entry[];
  items: SettleItem[];
  withdrawals: string[];
  /** This batch is one part of a batch that the database refused. */
  alone: boolean;
}

export class CommitQueue {
  #entries: Entry[] = [];
  #items: SettleItem[] = [];
  #withdrawals: string[] = [];
  /** Parts of refused batches, to be tried one by one. */
  readonly #suspects: (Entry | SettleItem)[] = [];

  get entries(): number {
    return this.#entries.length;
  }

  get settlements(): number {
    return this.#items.length + this.#suspects.length;
  }

  get withdrawals(): number {
    return this.#withdrawals.length;
  }

  /** All results that wait, including those that are tried alone. */
  items(): SettleItem[] {
    return this.#items.concat(this.suspectItems());
  }

  /** Results that are tried alone. */
  suspectItems(): SettleItem[] {
    return this.#suspects.filter((part) => 'settlement' in part);
  }

  get isEmpty(): boolean {
    return this.entries + this.settlements + this.withdrawals === 0;
  }

  addEntries(entries: Entry[]): void {
    for (const entry of entries) this.#entries.push(entry);
  }

  addItems(items: SettleItem[]): void {
    for (const item of items) this.#items.push(item);
  }

  addWithdrawal(queueId: string): void {
    this.#withdrawals.push(queueId);
  }

  suspect(parts: (Entry | SettleItem)[]): void {
    for (const part of parts) this.#suspects.push(part);
  }

  /** Settlements and withdrawals of a batch that failed come before those that arrived since. */
  putBack({ items, withdrawals }: Pick<Batch, 'items' | 'withdrawals'>): void {
    this.#items = items.concat(this.#items);
    this.#withdrawals = withdrawals.concat(this.#withdrawals);
  }

  /** The next part to be tried alone. @param settle whether it may be a settlement; it may always be a message. */
  takeSuspect(settle: boolean): Batch | null {
    const at = settle ? 0 : this.#suspects.findIndex((part) => 'message' in part);
    const [suspect] = at < 0 ? [] : this.#suspects.splice(at, 1);
    if (suspect === undefined) return null;
    if ('message' in suspect) return { entries: [suspect], items: [], withdrawals: [], alone: true };
    return { entries: [], items: [suspect], withdrawals: [], alone: true };
  }

  /**
   * The next batch.
   * @param settle whether it may hold settlements and withdrawals.
   * @param apart whether it must not hold messages beside these.
   */
  take(settle: boolean, apart: boolean): Batch | null {
    const items = settle ? this.#takeItems() : [];
    const withdrawals = settle ? this.#withdrawals.splice(0, MAX_SETTLEMENTS) : [];
    const entries = apart && items.length + withdrawals.length > 0 ? [] : this.#takeEntries();
    if (items.length + withdrawals.length + entries.length === 0) return null;
    return { entries, items, withdrawals, alone: false };
  }

  #takeEntries(): Entry[] {
    let bytes = 0;
    let recipients = 0;
    let count = 0;
    while (count < this.#entries.length && count < MAX_MESSAGES) {
      const { message } = this.#entries[count] as Entry;
      bytes += message.sizeBytes;
      recipients += message.envelope.recipients.length;
      if (count > 0 && (bytes > MAX_BYTES || recipients > MAX_RECIPIENTS)) break;
      count++;
    }
    return this.#entries.splice(0, count);
  }

  #takeItems(): SettleItem[] {
    let recipients = 0;
    let count = 0;
    while (count < this.#items.length && count < MAX_SETTLEMENTS) {
      recipients += (this.#items[count] as SettleItem).result.recipients.length;
      if (count > 0 && recipients > MAX_RECIPIENTS) break;
      count++;
    }
    return this.#items.splice(0, count);
  }
}
