/**
 * Turns a finished attempt into its result: deferrals get their retry time or expire, DSNs are written. The only
 * place where an attempt ends; promises that a result with a DSN leaves only when the DSN has its content (I3).
 */
import type { Config } from '../config/schema.ts';
import { deferralStatus } from '../mail/deferral-status.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { ContentHandle } from '../mail/message.ts';
import type { Outcome, OutcomeGroup } from '../mail/outcome.ts';
import { type Arena, NO_CONTENT } from '../native.ts';
import type { DsnDraft, DsnWriter } from '../report/dsn.ts';
import type { nextAttempt, RetryDecision } from '../scheduler/retry.ts';
import type { Attempt } from './attempt.ts';
import { internalPauseMs } from './outcome.ts';

export interface SettlePorts {
  readonly config: Config;
  readonly arena: Arena;
  now(): number;
  random(): number;
  nextAttempt: typeof nextAttempt;
  dsn: DsnWriter;
  result(result: AttemptResult): void;
}

/** A result whose DSNs found no room in the arena. */
interface Waiting {
  result: AttemptResult;
  drafts: DsnDraft[];
}

/** Deferrals that are our own doing: they neither count as a failed try nor end the waiting. */
const OUR_OWN: ReadonlySet<string> = new Set([
  'shutdown',
  'hand-off-released',
  'lease-lapsed',
  'internal-error',
]);

export class Settler {
  readonly #ports: SettlePorts;
  #waiting: Waiting[] = [];

  constructor(ports: SettlePorts) {
    this.#ports = ports;
  }

  /** Results that wait for room in the arena. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes an attempt with an outcome for each recipient; releases its content. On an error the attempt has not ended. */
  finish(attempt: Attempt): void {
    const { job } = attempt;
    if (!attempt.done) throw new Error(`attempt of ${job.queueId} ended with recipients that met no outcome`);
    const nowMs = this.#ports.now();
    const result = this.#resultOf(attempt, nowMs);
    this.#schedule(attempt, result, nowMs);
    const drafts = this.#ports.dsn.draft(job, result, nowMs);
    if (drafts.length === 0) {
      attempt.ended = true;
      this.#ports.arena.release(job.content);
      this.#ports.result(result);
      return;
    }
    if (drafts.some((draft) => draft.delayed)) result.delayNotified = true;
    this.#writeDsns(attempt, result, drafts);
  }

  /**
   * Ends an attempt whose end met an error of ours: what was delivered is settled, what would need a report is as if it had
   * not been tried (I3), and waits.
   */
  finishPlainly(attempt: Attempt, outcome: Outcome): void {
    const { job } = attempt;
    const nowMs = this.#ports.now();
    attempt.ended = true;
    attempt.decideRest(outcome);
    const retryAtMs = nowMs + internalPauseMs(this.#ports.config);
    const result = this.#resultOf(attempt, nowMs);
    for (const group of result.groups) {
      if (group.outcome.kind === 'delivered') continue;
      const { reply } = group.outcome;
      group.outcome = { ...outcome, ...(reply === undefined ? {} : { reply }), retryAtMs } as Outcome;
    }
    this.#ports.arena.release(job.content);
    this.#ports.result(result);
  }

  #resultOf(attempt: Attempt, nowMs: number): AttemptResult {
    const { job } = attempt;
    return {
      queueId: job.queueId,
      destination: job.destination,
      fence: job.fence,
      attempts: job.attempts + (attempt.counted ? 1 : 0),
      reversePath: job.reversePath,
      receivedAtMs: job.receivedAtMs,
      sizeBytes: job.sizeBytes,
      groups: attempt.groups,
      recipients: job.recipients,
      times: timesOf(attempt, nowMs),
      ...(attempt.tls === null ? {} : { tls: attempt.tls }),
      dsns: [],
      delayNotified: job.delayNotified,
    };
  }

  #schedule(attempt: Attempt, result: AttemptResult, nowMs: number): void {
    let decision: RetryDecision | null = null;
    for (const group of result.groups) {
      const { outcome } = group;
      if (outcome.kind !== 'deferred') continue;
      if (OUR_OWN.has(outcome.reason)) {
        const pauseMs = outcome.reason === 'internal-error' ? internalPauseMs(this.#ports.config) : 0;
        outcome.retryAtMs = Math.max(nowMs + pauseMs, attempt.notBeforeMs);
        continue;
      }
      decision ??= this.#ports.nextAttempt(
        this.#ports.config.retry,
        result.attempts,
        result.receivedAtMs,
        nowMs,
        attempt.notBeforeMs,
        this.#ports.random(),
      );
      if (decision.kind === 'retry') outcome.retryAtMs = decision.atMs;
      else group.outcome = givenUp(outcome, decision, result, nowMs);
    }
  }

  #writeDsns(attempt: Attempt, result: AttemptResult, drafts: DsnDraft[]): void {
    const { content } = attempt.job;
    let stored = false;
    try {
      stored = this.#store(result, drafts);
      // No room beside the content they report on: keep only its header section, and make room.
      if (!stored) for (const draft of drafts) draft.shorten();
    } catch (error) {
      for (const { content: dsn } of result.dsns) this.#ports.arena.release(dsn);
      throw error;
    }
    attempt.ended = true;
    this.#ports.arena.release(content);
    if (!stored && !this.#store(result, drafts)) this.#waiting.push({ result, drafts });
  }

  /** Stores what fits, in order; true when the result could go. */
  #store(result: AttemptResult, drafts: DsnDraft[]): boolean {
    while (drafts.length > 0) {
      const draft = drafts[0] as DsnDraft;
      const bytes = draft.bytes();
      const content = this.#ports.arena.store(bytes);
      if (content === NO_CONTENT) return false;
      drafts.shift();
      result.dsns.push(draft.message(content, bytes.length));
    }
    this.#ports.result(result);
    return true;
  }

  /** Tries again to store the DSNs that wait. */
  retryWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (this.#waiting.length > 0 || !this.#store(one.result, one.drafts)) this.#waiting.push(one);
    }
  }

  /**
   * At the end of a drain: what still waits for room goes without DSNs, so the recipients these would report as
   * failed stay in the queue and fail again later (I3).
   */
  giveUpWaiting(): void {
    const nowMs = this.#ports.now();
    for (const { result } of this.#waiting.splice(0)) {
      for (const message of result.dsns) this.#ports.arena.release(message.content);
      result.dsns = [];
      result.delayNotified = false;
      for (const group of result.groups) {
        if (group.outcome.kind !== 'bounced') continue;
        const detail = `no memory for its DSN before the relay shut down: ${group.outcome.detail}`;
        group.outcome = { kind: 'deferred', reason: 'shutdown', detail, retryAtMs: nowMs };
      }
      this.#ports.result(result);
    }
  }
}

function timesOf(attempt: Attempt, nowMs: number): AttemptResult['times'] {
  const { job, startedAtMs, connectMs } = attempt;
  const transferMs = startedAtMs === 0 ? 0 : Math.max(0, nowMs - startedAtMs);
  return { queueMs: Math.max(0, nowMs - transferMs - connectMs - job.receivedAtMs), connectMs, transferMs };
}

function givenUp(
  outcome: Outcome & { kind: 'deferred' },
  decision: RetryDecision,
  result: AttemptResult,
  nowMs: number,
): OutcomeGroup['outcome'] {
  const { reply, reason, detail } = outcome;
  const last = `last: ${reason}, ${detail}`;
  const base = { kind: 'bounced' as const, ...(reply === undefined ? {} : { reply }) };
  if (decision.kind === 'disabled') {
    const status = reply?.enhanced ? reply.enhanced.replace(/^4/, '5') : deferralStatus(reason, true);
    return { ...base, reason: 'retry-disabled', status, detail: `not tried again (retry.enabled); ${last}` };
  }
  const hours = ((nowMs - result.receivedAtMs) / 3_600_000).toFixed(1);
  const tries = `${result.attempts} attempt${result.attempts === 1 ? '' : 's'} in ${hours} hours`;
  return { ...base, reason: 'expired', status: '5.4.7', detail: `gave up after ${tries}; ${last}` };
}
