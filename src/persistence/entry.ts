/** The parts of a commit. */
import type { OutboxPlan, Settlement } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';

/** A message to commit. The reference on its content stays with whoever submitted it. */
export interface Entry {
  message: Message;
  /** The outbox rows of the message; the `plan` port fills it in when it is empty. */
  plan: OutboxPlan[];
  /** Index of the session thread, -1 for our own DSNs and reports. */
  thread: number;
  ticket: number;
  /** Called when the message is durable; set by code of the main thread that waits for that. */
  durable?: () => void;
}

export interface SettleItem {
  settlement: Settlement;
  result: AttemptResult;
  /** The DSNs that the result calls for; they are committed with the settlement, or not at all. */
  dsns: Entry[];
}
