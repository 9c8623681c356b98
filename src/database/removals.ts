/** The recipients that an operator's action removes, gathered by entry, with what their events say of the message. */
import type { EntryFacts } from '../mail/job.ts';
import type { RemovedEntry } from './database.ts';

type Said = Pick<EntryFacts, 'reversePath' | 'messageId'>;

export class Removals {
  readonly #said = new Map<string, Said>();
  readonly #entries = new Map<string, RemovedEntry>();
  readonly #whole: RemovedEntry[] = [];

  /** What is to be said of a message: before its recipients are added, as it may be erased with the last of them. */
  knows(queueId: string): boolean {
    return this.#said.has(queueId);
  }

  tell(queueId: string, said: Said): void {
    this.#said.set(queueId, said);
  }

  add(queueId: string, destination: string, recipients: readonly string[]): void {
    if (recipients.length === 0) return;
    const key = `${queueId} ${destination}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const { reversePath = '', messageId = '' } = this.#said.get(queueId) ?? {};
      entry = { queueId, destination, reversePath, messageId, recipients: [] };
      this.#entries.set(key, entry);
    }
    for (const recipient of recipients) entry.recipients.push(recipient);
  }

  /** An entry that goes with its message, and comes once. */
  addWhole(entry: RemovedEntry): void {
    if (entry.recipients.length > 0) this.#whole.push(entry);
  }

  entries(): RemovedEntry[] {
    return this.#entries.size === 0 ? this.#whole : [...this.#whole, ...this.#entries.values()];
  }
}
