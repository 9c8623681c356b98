/**
 * A config with faulty values is still looked at, so that one pass finds all that is wrong: values that are faulty are
 * taken out, and whoever asks for one of them is stopped, because what it would say could follow from that fault only.
 */
import type { z } from 'zod';

type Path = readonly PropertyKey[];
type Container = Record<PropertyKey, unknown>;

/** Thrown where somebody reads a value that is faulty. */
class Unsound extends Error {}

const isContainer = (value: unknown): value is Container => typeof value === 'object' && value !== null;

function containerAt(root: unknown, path: Path): unknown {
  return path.reduce((at, step) => (isContainer(at) ? at[step] : undefined), root);
}

/**
 * What the schema makes of the value without what it refuses; null when nothing is left.
 * @returns also the paths of what was taken out, unknown keys apart.
 */
export function withoutFaults<T>(schema: z.ZodType<T>, value: unknown): { value: T | null; faulty: Path[] } {
  const faulty: Path[] = [];
  for (;;) {
    const result = schema.safeParse(value);
    if (result.success) return { value: result.data, faulty };
    const gone: Path[] = [];
    for (const issue of result.error.issues) {
      if (gone.some((path) => path.every((step, i) => step === issue.path[i]))) continue;
      if (issue.code === 'unrecognized_keys')
        for (const key of issue.keys) delete (containerAt(value, issue.path) as Container | undefined)?.[key];
      else {
        const taken = takeOut(value, issue.path);
        if (taken === null) return { value: null, faulty };
        gone.push(taken);
      }
    }
    faulty.push(...gone);
  }
}

/** Deletes the value at the path, or what is around it where that is not there or part of a list. Null: all of it. */
function takeOut(root: unknown, path: Path): Path | null {
  for (let at = path; at.length > 0; at = at.slice(0, -1)) {
    const parent = containerAt(root, at.slice(0, -1));
    const key = at.at(-1) as PropertyKey;
    if (!isContainer(parent) || Array.isArray(parent) || !(key in parent)) continue;
    delete parent[key];
    return at;
  }
  return null;
}

/** Makes reading these values throw, for `ifSound`. */
export function markFaulty(config: object, faulty: readonly Path[]): void {
  for (const path of faulty) {
    for (let at = path; at.length > 0; at = at.slice(0, -1)) {
      const parent = containerAt(config, at.slice(0, -1));
      if (!isContainer(parent)) continue;
      Object.defineProperty(parent, at.at(-1) as PropertyKey, {
        enumerable: true,
        configurable: true,
        get() {
          throw new Unsound();
        },
      });
      break;
    }
  }
}

/** Runs a check as far as it meets no faulty value. */
export async function ifSound(check: () => void | Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
  }
}

/** The same, of a check that waits for nothing. */
export function ifSoundNow(check: () => void): void {
  try {
    check();
  } catch (error) {
    if (!(error instanceof Unsound)) throw error;
  }
}
