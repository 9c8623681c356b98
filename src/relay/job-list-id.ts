/** The list that the mail of a job is of. Part of the composition root. */
import { isOfSystem, RelayError } from '../base/errors.ts';
import type { Job } from '../mail/job.ts';
import { listIdOf } from '../mail/suppression-scope.ts';
import type { Arena } from '../native.ts';
import { fieldsIn } from '../protocol/header-section.ts';

const NAMES: ReadonlySet<string> = new Set(['list-id']);
const IN_TRACE = /^list-id[ \t]*:(.*)/im;

/** The List-Id that we added, or that the message brought; null: it has none, or cannot be read. */
export function listIdOfJob({ trace, content }: Job, arena: Pick<Arena, 'head'>): string | null {
  const added = IN_TRACE.exec(trace)?.[1];
  if (added !== undefined) return listIdOf(added);
  try {
    const [field] = fieldsIn(arena, content, NAMES) ?? [];
    return field === undefined ? null : listIdOf(field.value);
  } catch (error) {
    // A spill file: then it cannot be sent either, and waits for that.
    if (isOfSystem(error) || error instanceof RelayError) return null;
    throw error;
  }
}
