/** An entry of the queue as operators' commands read it. */
import type { OutboxState } from './outbox-state.ts';

export interface QueueRow {
  queueId: string;
  destination: string;
  state: OutboxState;
  attempts: number;
  nextAttemptMs: number;
  reversePath: string;
  sizeBytes: number;
  receivedAtMs: number;
  messageId: string;
  /** Who authenticated; null: nobody did. */
  user: string | null;
  listener: string;
  waiting: number;
  reason: string;
  detail: string;
  /** As mail/attributes.ts writes them; null: it has none. */
  attributes: string | null;
}

/** So many rows that are due before one are counted at most, to say its place. */
export const MOST_BEFORE = 2000;
