/** The VERDICT that a session gets when its message did not commit. */
import { RelayError } from '../base/errors.ts';
import { VERDICT } from './messages.ts';

export function verdictOf(error: unknown): number {
  if (!(error instanceof RelayError)) return VERDICT.failed;
  if (error.code === 'database_full' || error.code === 'storage_full') return VERDICT.full;
  return error.temporary ? VERDICT.unavailable : VERDICT.failed;
}
