/** What goes into a commit. */
import type { OutboxPlan, Settlement } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';

/** A message to commit. The reference on its content stays with whoever submitted it. */
export interface Entry {
  message: Message;
  /** Filled by the `plan` port when it is empty. */
  plan: OutboxPlan[];
  /** Index of the session thread, -1 for our own DSNs and reports. */
  thread: number;
  ticket: number;
  /** Called when it is durable, by who waits for that on the main thread. */
  durable?: () => void;
}

export interface SettleItem {
  settlement: Settlement;
  result: AttemptResult;
  /** DSNs the result calls for: committed with the settlement, or not at all. */
  dsns: Entry[];
}
