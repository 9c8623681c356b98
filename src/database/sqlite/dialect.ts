/** How selections are evaluated in SQLite. */
import type { DatabaseSync } from 'node:sqlite';
import type { Asking } from '../select-rows.ts';
import type { Dialect } from '../selection.ts';

export const DIALECT: Dialect = {
  outbox: 'mail_outbox o',
  // SQLite itself knows no letters but those of ASCII.
  lower: (column, ascii) => (ascii ? `lower(${column})` : `unicode_lower(${column})`),
};

/** To be called once for a connection. */
export function addFunctions(db: DatabaseSync): void {
  const lower = (text: unknown): string | null => (text === null ? null : String(text).toLowerCase());
  db.function('unicode_lower', { deterministic: true }, lower);
}

/** Runs the queries. */
export function answered<T>(db: DatabaseSync, asking: Asking<T>): T {
  let step = asking.next();
  while (!step.done) {
    const { sql, values } = step.value;
    step = asking.next(db.prepare(sql).all(...values));
  }
  return step.value;
}
