/** The fields of events as docs/events.md has them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LoggedEvent } from './event-tail.ts';

const EVERYWHERE = ['type', 'time', 'node'];
const PAGE = join(import.meta.dirname, '../../docs/events.md');

/** By type. A row whose meaning begins with types and a colon is for these alone. */
export function documentedFields(): Map<string, Set<string>> {
  const fields = new Map<string, Set<string>>();
  for (const section of readFileSync(PAGE, 'utf8').split(/^## /m).slice(1)) {
    const [title = '', ...lines] = section.split('\n');
    const types = title.split(', ').filter((type) => /^[a-z_]+$/.test(type));
    for (const type of types)
      fields.set(
        type,
        new Set(
          ['dropped', 'limit_changed', 'source_state'].includes(type)
            ? EVERYWHERE
            : [...EVERYWHERE, 'queue_id'],
        ),
      );
    for (const line of lines) {
      const [, names, meaning = ''] = /^\| (`.*?) \| (.*) \|$/.exec(line) ?? [];
      if (names === undefined) continue;
      const only = /^((?:[a-z]+(?:, )?)+):/.exec(meaning)?.[1]?.split(', ') ?? [];
      const of = only.every((type) => types.includes(type)) && only.length > 0 ? only : types;
      for (const type of of)
        for (const [, name] of names.matchAll(/`([a-z_]+)`/g)) fields.get(type)?.add(name as string);
    }
  }
  return fields;
}

/** Fields that stand in one of these events and not in the docs, as 'type.field'. */
export function undocumented(events: readonly LoggedEvent[]): string[] {
  const fields = documentedFields();
  const odd = events.flatMap((event) =>
    Object.keys(event).flatMap((name) =>
      fields.get(String(event.type))?.has(name) ? [] : [`${String(event.type)}.${name}`],
    ),
  );
  return [...new Set(odd)];
}
