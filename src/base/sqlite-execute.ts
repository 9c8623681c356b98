import type { SQLInputValue, StatementSync } from 'node:sqlite';

/**
 * Runs a statement that answers with no rows. `run` would make an object of the number of changes, which takes 0.2 µs; a
 * message has eight such statements.
 */
export function execute(statement: StatementSync, ...values: SQLInputValue[]): void {
  statement.get(...values);
}
