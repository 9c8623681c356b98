/** The place of a row in the queue of its destination: how many recipients of other rows are due before it. Bounded. */

import { MOST_BEFORE } from '../mail/queue-row.ts';

/** So many rows of a message are looked at. */
const MOST_ROWS = 40;

/** @param table the table with its index. */
export const beforeSql = (table: string): string =>
  `SELECT coalesce(sum(waiting), 0) AS n FROM (SELECT waiting FROM ${table} WHERE destination = ? AND due_at < ?
     AND state IN ('PENDING', 'RETRY') LIMIT ${MOST_BEFORE}) AS earlier`;

/** The rows of a message of which the place is worth to be known. */
export const placed = <Row extends { state: string; nextAttemptMs: number }>(rows: readonly Row[]): Row[] =>
  rows.filter(({ state }) => state === 'PENDING' || state === 'RETRY').slice(0, MOST_ROWS);
