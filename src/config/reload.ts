/** What a changed config file changes at once, and what waits for a restart. */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { keyPath } from './key-path.ts';
import { type Config, configSchema } from './schema.ts';
import { entryOf, isLive, shapeOf } from './shape.ts';

export interface Reload {
  /** The config to run with from now: live keys new, the others as they were. */
  config: Config;
  /** Keys that changed and apply now. */
  applied: string[];
  /** Keys that changed and keep their old value until the relay starts again. */
  needsRestart: string[];
}

type Section = Record<string, unknown>;
type Sections = Record<string, Section>;

export function planReload(current: Config, next: Config): Reload {
  const applied: string[] = [];
  const needsRestart: string[] = [];
  const config = merge(configSchema, current, next, '', applied, needsRestart) as Config;
  return { config, applied, needsRestart };
}

function merge(
  schema: z.ZodType,
  current: Section,
  next: Section,
  prefix: string,
  applied: string[],
  needsRestart: string[],
): Section {
  const result: Section = {};
  for (const [key, below] of Object.entries(shapeOf(schema) ?? {})) {
    const [was, is] = [current[key], next[key]];
    let value = was;
    if (isSection(below, was, is)) {
      value = merge(below, was as Section, is as Section, `${prefix}${key}.`, applied, needsRestart);
    } else if (isRecord(below, was, is)) {
      const entry = entryOf(below) as z.ZodType;
      const merged = (name: string): Section => {
        const at = `${prefix}${key}${keyPath(['_', name]).slice(1)}.`;
        return merge(
          entry,
          (was as Sections)[name] as Section,
          (is as Sections)[name] as Section,
          at,
          applied,
          needsRestart,
        );
      };
      value = Object.fromEntries(Object.keys(was as Sections).map((name) => [name, merged(name)]));
    } else if (!isDeepStrictEqual(was, is) && isLive(below) && !beginsWithRelay(prefix + key, was, is)) {
      applied.push(prefix + key);
      value = is;
    } else if (!isDeepStrictEqual(was, is)) {
      needsRestart.push(prefix + key);
    }
    if (value !== undefined) result[key] = value;
  }
  return result;
}

/** Values from and to which there is no way while the relay runs: a journal, and the keeping of messages, begin with it. */
const AT_START: Record<string, unknown> = {
  inbound_ack_mode: 'after_journal',
  'queue.keep_failed_messages': 0,
  'queue.keep_failed_mb': 0,
};

const beginsWithRelay = (key: string, was: unknown, is: unknown): boolean =>
  Object.hasOwn(AT_START, key) && (was === AT_START[key] || is === AT_START[key]);

/** Whether both are objects of objects with the same names, of which each changes key by key (routes). */
function isRecord(schema: z.ZodType, was: unknown, is: unknown): boolean {
  const entry = entryOf(schema);
  if (entry === null || shapeOf(entry) === null || isLive(schema)) return false;
  const names = (value: unknown): string[] => Object.keys(value as Sections).sort();
  return isDeepStrictEqual(names(was), names(is));
}

/** Whether the section changes key by key; not when all of it is one live value (a smarthost). */
function isSection(schema: z.ZodType, was: unknown, is: unknown): boolean {
  return shapeOf(schema) !== null && !isLive(schema) && typeof was === 'object' && typeof is === 'object';
}
