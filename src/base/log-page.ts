/** Generates docs/log.md from the tables of events and fields. */
import type { EventRow, LogLevel } from './log-events/event.ts';
import { HTTP_EVENTS } from './log-events/http.ts';
import { LIMIT_EVENTS } from './log-events/limits.ts';
import { MAIL_EVENTS } from './log-events/mail.ts';
import { PROCESS_EVENTS } from './log-events/process.ts';
import { RETURN_PATH_EVENTS } from './log-events/return-paths.ts';
import { SERVER_EVENTS } from './log-events/servers.ts';
import { SESSION_EVENTS } from './log-events/session.ts';
import { LOG_FIELDS, type LogField } from './log-fields.ts';

const INTRODUCTION = `# The log

Generated from \`src/base/log-events/\` by \`protorelay config reference --write\`; do not edit.

Every line is one event. As JSON it is an object with \`level\`, \`time\`, \`event\` and the fields of the event; as text
(\`log.format\`) it is \`TIME LEVEL event field=value …\`, values with blanks in quotes, lists as JSON, of an object each value (\`error.code=…\`). With several relay
processes a line has \`process\`, and a line of a thread \`thread\`. Names follow [docs/words.md](words.md): times end in \`_at\`
and are RFC 3339 in UTC, units stand last, keys of the config are written as a path.

Fields in *italics* are not in every line of the event. A field that is not known is \`null\` or absent.
`;

const ROOMS = [
  ['The program, its processes, those who operate it', PROCESS_EVENTS],
  ['Clients and their sessions', SESSION_EVENTS],
  ['Mail in the queue, delivery, reports', MAIL_EVENTS],
  ['Limits that are learned, and those of warm-ups and rules', LIMIT_EVENTS],
  ['Return paths', RETURN_PATH_EVENTS],
  ['What the relay stands on', SERVER_EVENTS],
  ['The HTTP plane', HTTP_EVENTS],
] as const;

export function logPage(): string {
  const parts = [INTRODUCTION];
  for (const [title, events] of ROOMS)
    parts.push(
      `## ${title}\n\n| Event | Level | Means | What to do | Fields |\n|---|---|---|---|---|\n${rowsOf(events)}\n`,
    );
  const fields = Object.entries(LOG_FIELDS).map(
    ([name, [is, means]]) => `| \`${name}\` | ${is} | ${means} |`,
  );
  parts.push(`## Fields\n\n| Field | Is a | Means |\n|---|---|---|\n${fields.join('\n')}\n`);
  return parts.join('\n');
}

function rowsOf(events: Record<string, EventRow<LogLevel, LogField | `${LogField}?`>>): string {
  return Object.entries(events)
    .map(
      ([name, { levels, means, act, fields }]) =>
        `| \`${name}\` | ${levels.join(', ')} | ${means} | ${act} | ${fields.map(shown).join(' ')} |`,
    )
    .join('\n');
}

const shown = (field: string): string =>
  field.endsWith('?') ? `*\`${field.slice(0, -1)}\`*` : `\`${field}\``;
