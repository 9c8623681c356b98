/** What a changed config file changes at once, and what waits for a restart. */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { type Config, configSchema } from './schema.ts';
import { isLive, shapeOf } from './shape.ts';

export interface Reload {
  /** The config to run with from now: live keys new, the others as they were. */
  config: Config;
  /** Keys that changed and apply now. */
  applied: string[];
  /** Keys that changed and keep their old value until the relay starts again. */
  needsRestart: string[];
}

type Section = Record<string, unknown>;

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
    } else if (!isDeepStrictEqual(was, is) && isLive(below) && !needsJournal(prefix + key, was, is)) {
      applied.push(prefix + key);
      value = is;
    } else if (!isDeepStrictEqual(was, is)) {
      needsRestart.push(prefix + key);
    }
    if (value !== undefined) result[key] = value;
  }
  return result;
}

/** Whether the change begins or ends the use of a journal, which is opened and closed with the relay. */
const needsJournal = (key: string, was: unknown, is: unknown): boolean =>
  key === 'inbound_ack_mode' && (was === 'after_journal' || is === 'after_journal');

/** Whether the section changes key by key; not when all of it is one live value (a smarthost). */
function isSection(schema: z.ZodType, was: unknown, is: unknown): boolean {
  return shapeOf(schema) !== null && !isLive(schema) && typeof was === 'object' && typeof is === 'object';
}
