/**
 * Entries as lines of text, each made once by the engine: a page of thousands passes threads and sockets as strings, which
 * costs a fraction of what as many objects do. A line is a JSON array that begins with the queue id, so that lines of one
 * form sort as their entries do.
 */

import { shownDestination } from './operator-keys.ts';
import type { OutboxState } from './outbox-state.ts';
import type { QueueRow } from './queue-row.ts';

type Values = [
  queueId: string,
  destination: string,
  state: OutboxState,
  attempts: number,
  nextAttemptMs: number,
  reversePath: string,
  sizeBytes: number,
  receivedAtMs: number,
  messageId: string,
  user: string | null,
  listener: string,
  waiting: number,
  reason: string,
  detail: string,
  attributes: string | null,
];
const NEXT_ATTEMPT = 4;

export const idOfLine = (line: string): string => line.slice(2, line.indexOf('"', 2));

export function rowsOfLines(lines: readonly string[]): QueueRow[] {
  return (JSON.parse(`[${lines.join(',')}]`) as Values[]).map((values) => ({
    queueId: values[0],
    destination: shownDestination(values[1]),
    state: values[2],
    attempts: values[3],
    nextAttemptMs: values[NEXT_ATTEMPT],
    reversePath: values[5],
    sizeBytes: values[6],
    receivedAtMs: values[7],
    messageId: values[8],
    user: values[9],
    listener: values[10],
    waiting: values[11],
    reason: values[12],
    detail: values[13],
    attributes: values[14],
  }));
}

/** The line with its time in another clock. 0: it does not wait for a time. */
export function lineTimed(line: string, time: (ms: number) => number): string {
  const values = JSON.parse(line) as Values;
  if (values[NEXT_ATTEMPT] > 0) values[NEXT_ATTEMPT] = time(values[NEXT_ATTEMPT]);
  return JSON.stringify(values);
}

/**
 * A page of several queues from a page of each. Every page is complete up to its last line, so what is cut off here comes with
 * the next page. The lines of one message are never parted.
 */
export function mergedLines(pages: readonly (readonly string[])[], limit: number): string[] {
  const lines = pages.flat();
  if (pages.length > 1) lines.sort();
  let end = Math.min(limit, lines.length);
  while (
    end > 0 &&
    end < lines.length &&
    idOfLine(lines[end] as string) === idOfLine(lines[end - 1] as string)
  )
    end++;
  return lines.slice(0, end);
}
