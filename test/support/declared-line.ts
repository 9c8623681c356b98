/** Holds the lines that relays of tests write to the tables of events: the compiler does not see what is spread into a line. */
import assert from 'node:assert/strict';
import { LOG_EVENTS, type LogEvent } from '../../src/base/log.ts';

const OF_EVERY_LINE: readonly string[] = ['time', 'level', 'event', 'process', 'thread'];

/** @throws when its event, level, or a field is not in the tables, or a field is missing. */
export function assertDeclared(line: Record<string, unknown>): void {
  const event = line.event as LogEvent;
  assert.ok(Object.hasOwn(LOG_EVENTS, event), `the log has an event ${event}`);
  const { levels, fields } = LOG_EVENTS[event];
  assert.ok((levels as readonly unknown[]).includes(line.level), `${event} at level ${line.level}`);
  const names = Object.keys(line).filter((name) => !OF_EVERY_LINE.includes(name));
  const may = fields.map((field) => field.replace('?', ''));
  const must = fields.filter((field) => !field.endsWith('?') && !OF_EVERY_LINE.includes(field));
  const strange = names.filter((name) => !may.includes(name));
  const missing = must.filter((name) => !names.includes(name));
  assert.deepEqual({ strange, missing }, { strange: [], missing: [] }, event);
}
