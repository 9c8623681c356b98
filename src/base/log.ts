/**
 * What stages know of logging: events with fields, no free text. Each event stands in a table (`log-events/`): the
 * compiler refuses one that does not, another level, and a field it does not have. `base/pino-log.ts` implements it.
 */
import type { LogLevel } from './log-events/event.ts';
import { HTTP_EVENTS } from './log-events/http.ts';
import { LIMIT_EVENTS } from './log-events/limits.ts';
import { MAIL_EVENTS } from './log-events/mail.ts';
import { PROCESS_EVENTS } from './log-events/process.ts';
import { RETURN_PATH_EVENTS } from './log-events/return-paths.ts';
import { SERVER_EVENTS } from './log-events/servers.ts';
import { SESSION_EVENTS } from './log-events/session.ts';
import type { FieldValues, LOG_FIELDS, LogField } from './log-fields.ts';

export const LOG_EVENTS = {
  ...PROCESS_EVENTS,
  ...SESSION_EVENTS,
  ...MAIL_EVENTS,
  ...LIMIT_EVENTS,
  ...RETURN_PATH_EVENTS,
  ...SERVER_EVENTS,
  ...HTTP_EVENTS,
};

export type LogEvent = keyof typeof LOG_EVENTS;

type Value<F extends LogField> = FieldValues[(typeof LOG_FIELDS)[F][0]];
type Named<E extends LogEvent> = (typeof LOG_EVENTS)[E]['fields'][number];

/** The fields of a line. */
export type FieldsOf<E extends LogEvent> = {
  [F in Named<E> as F extends LogField ? F : never]: F extends LogField ? Value<F> | null : never;
} & {
  [F in Named<E> as F extends `${infer Name}?` ? Name : never]?: F extends `${infer Name extends LogField}?`
    ? Value<Name> | null | undefined
    : never;
};

type EventAt<L extends LogLevel> = {
  [E in LogEvent]: L extends (typeof LOG_EVENTS)[E]['levels'][number] ? E : never;
}[LogEvent];

export interface Log {
  debug<E extends EventAt<'debug'>>(event: E, fields: FieldsOf<E>): void;
  info<E extends EventAt<'info'>>(event: E, fields: FieldsOf<E>): void;
  warn<E extends EventAt<'warn'>>(event: E, fields: FieldsOf<E>): void;
  error<E extends EventAt<'error'>>(event: E, fields: FieldsOf<E>): void;
}

/** A line as a value, for those who have no log. */
export type LogLine<E extends LogEvent = LogEvent> = { [One in E]: { event: One; fields: FieldsOf<One> } }[E];

/** A log before the compiler's eyes are on it: what implements one, or hands lines on. */
export interface AnyLog {
  debug(event: string, fields?: object): void;
  info(event: string, fields?: object): void;
  warn(event: string, fields?: object): void;
  error(event: string, fields?: object): void;
}

/** Writes a line at its event's level (the first, where it has several). */
export function writeLine(log: Log, { event, fields }: LogLine): void {
  (log as AnyLog)[LOG_EVENTS[event].levels[0] as LogLevel](event, fields);
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
