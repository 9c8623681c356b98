/** A row of the tables of events. */
import type { LogField } from '../log-fields.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface EventRow<Level extends LogLevel, Field extends LogField | `${LogField}?`> {
  readonly levels: readonly Level[];
  readonly means: string;
  readonly act: string;
  readonly fields: readonly Field[];
}

/**
 * @param level the one level it has; of several, it has that of its cause.
 * @param means what happened, after "the event says that".
 * @param act what the operator does; empty where there is nothing to do.
 * @param fields with `?` where the line need not have them.
 */
export function event<const Level extends LogLevel, const Field extends LogField | `${LogField}?` = never>(
  level: Level | readonly Level[],
  means: string,
  act: string,
  ...fields: Field[]
): EventRow<Level, Field> {
  const levels: readonly Level[] = typeof level === 'string' ? [level] : level;
  return { levels, means, act, fields };
}
