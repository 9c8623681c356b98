/** How selections are evaluated on MariaDB and MySQL. */
import type { Connection } from 'mariadb';
import type { Asking } from '../select-rows.ts';
import type { Dialect } from '../selection.ts';

export const DIALECT: Dialect = {
  // By destination the server would read all rows of it, however many.
  outbox: 'mail_outbox o FORCE INDEX (PRIMARY)',
  lower: (column) => `lower(${column})`,
};

/** Runs the queries, without locks. */
export async function answered<T>(connection: Connection, asking: Asking<T>): Promise<T> {
  let step = asking.next();
  while (!step.done) {
    const { sql, values } = step.value;
    step = asking.next(await connection.query<unknown[]>(sql, values));
  }
  return step.value;
}
