/** Jobs that end without an attempt. */
import type { Config } from '../config/schema.ts';
import type { Job } from '../mail/job.ts';
import { isFailKey } from '../mail/operator-keys.ts';
import { FAILED_BY_OPERATOR, type Outcome } from '../mail/outcome.ts';
import type { isTooOld } from '../scheduler/retry.ts';
import type { Attempt } from './attempt.ts';
import { bounced, pastDeadline } from './outcome.ts';

/** Ends the recipients that are on the suppression list; the others go on. */
export function endSuppressed(attempt: Attempt): void {
  const { suppressed, recipients } = attempt.job;
  for (const { seq, detail } of suppressed ?? []) {
    const position = recipients.findIndex((recipient) => recipient.seq === seq);
    if (position >= 0) attempt.withdraw([position], bounced('suppressed', '5.7.1', detail));
  }
}

/** The outcome of a job that an operator ends, or whose message is too old or has passed its deadline; null for one that is to be sent. */
export function unbegun(
  job: Job,
  retry: Config['retry'],
  tooOld: typeof isTooOld,
  wallMs: number,
): Outcome | null {
  if (isFailKey(job.destination))
    return bounced(FAILED_BY_OPERATOR, '5.7.0', job.operatorText ?? 'given up by the operator');
  const late = pastDeadline(job, () => wallMs);
  if (late !== null) return late;
  if (!tooOld(retry, job.receivedAtMs, wallMs)) return null;
  return bounced('expired', '5.4.7', `too old after ${job.attempts} attempts (retry.max_age_ms)`);
}
