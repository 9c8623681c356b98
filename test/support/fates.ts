/** Reading delivery events in tests: what became of whom. */
import type { EventTail, LoggedEvent } from './event-tail.ts';

const FINAL = new Set(['delivered', 'bounced', 'expired', 'suppressed', 'discarded', 'removed']);

export const isFinal = (event: LoggedEvent): boolean => FINAL.has(String(event.type));

/** Waits for one event of a recipient. */
export function fate(
  events: EventTail,
  recipient: string,
  type: string,
  timeoutMs?: number,
): Promise<LoggedEvent> {
  return events.one(
    `event ${type} of ${recipient}`,
    (event) => event.type === type && event.recipient === recipient,
    timeoutMs,
  );
}

/** Final events by 'queue id recipient': more than one in any list breaks I2. */
export function fatesOf(events: readonly LoggedEvent[]): Map<string, string[]> {
  const fates = new Map<string, string[]>();
  for (const event of events) {
    if (!isFinal(event)) continue;
    const key = `${event.queue_id} ${event.recipient}`;
    const list = fates.get(key) ?? [];
    list.push(String(event.type));
    fates.set(key, list);
  }
  return fates;
}
