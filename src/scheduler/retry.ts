/**
 * The retry schedule: when a deferred recipient is attempted again, and when it has waited long enough. Pure:
 * clock and randomness come in as arguments.
 */

export interface RetryRules {
  enabled: boolean;
  max_attempts: number;
  initial_delay_ms: number;
  max_delay_ms: number;
  backoff_multiplier: number;
  jitter_ratio: number;
  max_age_ms: number;
}

export type RetryDecision =
  | { kind: 'retry'; atMs: number }
  | { kind: 'expired'; by: 'attempts' | 'age' | 'deadline' }
  | { kind: 'disabled' };

/**
 * Delay in milliseconds after the `attempts`-th attempt (1 is the first). Grows by the multiplier up to the
 * longest delay; the jitter is applied last, so that a bulk deferral spreads out even at the cap.
 * @param random 0 ≤ random < 1.
 */
export function retryDelayMs(rules: RetryRules, attempts: number, random: number): number {
  // The power may be Infinity; `min` bounds it.
  const grown = rules.initial_delay_ms * rules.backoff_multiplier ** (Math.max(1, attempts) - 1);
  const delay = Math.min(grown, rules.max_delay_ms);
  return Math.max(1, Math.round(delay * (1 + rules.jitter_ratio * (2 * random - 1))));
}

/** Whether a message is so old that it must not be attempted again. */
export function isTooOld(rules: RetryRules, receivedAtMs: number, nowMs: number): boolean {
  return nowMs - receivedAtMs >= rules.max_age_ms;
}

/**
 * What follows a deferral: a retry, or the end.
 * @param attempts attempts made, this one included; attempts that never reached a peer do not count.
 * @param notBeforeMs no retry before this (a suspended destination), unless age or deadline runs out first.
 * @param deadlineMs no attempt after this; Infinity: the message has none.
 */
export function nextAttempt(
  rules: RetryRules,
  attempts: number,
  receivedAtMs: number,
  nowMs: number,
  notBeforeMs: number,
  random: number,
  deadlineMs = Number.POSITIVE_INFINITY,
): RetryDecision {
  if (!rules.enabled) return { kind: 'disabled' };
  if (attempts >= rules.max_attempts) return { kind: 'expired', by: 'attempts' };
  if (isTooOld(rules, receivedAtMs, nowMs)) return { kind: 'expired', by: 'age' };
  if (nowMs >= deadlineMs) return { kind: 'expired', by: 'deadline' };
  const atMs = Math.max(nowMs + retryDelayMs(rules, attempts, random), notBeforeMs);
  // At the latest when the message expires, so that the sender hears of it in time.
  return { kind: 'retry', atMs: Math.min(atMs, receivedAtMs + rules.max_age_ms, deadlineMs) };
}
