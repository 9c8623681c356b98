/** How selections are evaluated in SQLite. */
import type { DatabaseSync } from 'node:sqlite';
import type { Asking } from '../select-rows.ts';
import type { Dialect, SqlValue } from '../selection.ts';

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
    const statement = db.prepare(sql);
    statement.setReturnArrays(true);
    const rows = statement.all(...values) as unknown as SqlValue[][];
    const names = statement.columns().map(({ name }) => name);
    step = asking.next(rows.map((row) => objectOf(names, row)));
  }
  return step.value;
}

/** Measured: objects that node:sqlite makes are hash tables, and cost three times as much. */
function objectOf(names: readonly string[], row: readonly SqlValue[]): Record<string, SqlValue> {
  const object: Record<string, SqlValue> = {};
  for (let i = 0; i < names.length; i++) object[names[i] as string] = row[i] as SqlValue;
  return object;
}
