/**
 * Turns a finished attempt into its result: deferrals get their retry time or expire, DSNs are written. This is the
 * only place where an attempt ends. Promises that a result with a DSN leaves only when the DSN has its content (I3).
 */
import type { Config } from '../config/schema.ts';
import { DEFERRALS, deferralStatus } from '../mail/deferrals.ts';
import type { AttemptResult } from '../mail/job.ts';
import { DEADLINE_PASSED, type Outcome, type OutcomeGroup } from '../mail/outcome.ts';
import { type Arena, NO_CONTENT } from '../native.ts';
import type { DsnDraft, DsnWriter } from '../report/dsn.ts';
import type { nextAttempt, RetryDecision } from '../scheduler/retry.ts';
import type { Attempt } from './attempt.ts';
import { deadlineText } from './outcome.ts';

export interface SettlePorts {
  readonly config: Config;
  readonly arena: Arena;
  /** `wall` is the time of day, `now` the steady time in which attempts are measured (base/steady.ts). */
  wall(): number;
  now(): number;
  random(): number;
  nextAttempt: typeof nextAttempt;
  dsn: DsnWriter;
  result(result: AttemptResult): void;
  /** Domains whose signatures a message carries. */
  signers(attempt: Attempt): readonly string[];
}

/** A result whose DSNs found no room in the arena. */
interface Waiting {
  result: AttemptResult;
  drafts: DsnDraft[];
}

/** The pause after a trouble that is over in a moment. */
const MOMENT_MS = 1000;

export class Settler {
  readonly #ports: SettlePorts;
  #waiting: Waiting[] = [];

  constructor(ports: SettlePorts) {
    this.#ports = ports;
  }

  /** Number of results that wait for room in the arena. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Ends an attempt that has an outcome for each recipient, and releases its content. If this throws, the attempt has
   * not ended.
   */
  finish(attempt: Attempt): void {
    const { job } = attempt;
    if (!attempt.done) throw new Error(`attempt of ${job.queueId} ended with recipients that met no outcome`);
    const nowMs = this.#ports.wall();
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
   * Ends an attempt after `finish` met a program error: recipients that were delivered are settled; those that would
   * need a report wait, as if they had not been tried (I3).
   */
  finishPlainly(attempt: Attempt, outcome: Outcome): void {
    const { job } = attempt;
    const nowMs = this.#ports.wall();
    attempt.ended = true;
    attempt.decideRest(outcome);
    const retryAtMs = nowMs + this.#pauseMs('age', nowMs - job.receivedAtMs);
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
    const result: AttemptResult = {
      queueId: job.queueId,
      destination: job.destination,
      fence: job.fence,
      attempts: job.attempts + (attempt.counted && attempt.groups.some(isPeers) ? 1 : 0),
      reversePath: job.reversePath,
      receivedAtMs: job.receivedAtMs,
      sizeBytes: job.sizeBytes,
      groups: attempt.groups,
      recipients: job.recipients,
      times: timesOf(attempt, nowMs, this.#ports.now()),
      dsns: [],
      delayNotified: job.delayNotified,
    };
    if (attempt.site !== '') result.site = attempt.site;
    if (attempt.source !== '') result.source = attempt.source;
    if (job.messageId !== undefined) result.messageId = job.messageId;
    if (job.user !== undefined) result.user = job.user;
    if (attempt.class !== '' && attempt.class !== job.attributes?.class)
      result.attributes = { ...job.attributes, class: attempt.class };
    else if (job.attributes !== undefined) result.attributes = job.attributes;
    if (job.envid !== undefined) result.envid = job.envid;
    if (attempt.tls !== null) result.tls = attempt.tls;
    if (attempt.groups.some(isOfSignature)) attempt.dkimDomains ??= this.#ports.signers(attempt);
    if (attempt.dkimDomains !== null) result.dkimDomains = attempt.dkimDomains;
    return result;
  }

  #schedule(attempt: Attempt, result: AttemptResult, nowMs: number): void {
    let decision: RetryDecision | null = null;
    const { notBeforeMs: steadyMs } = attempt;
    const deadlineMs = attempt.job.attributes?.deadlineMs ?? Number.POSITIVE_INFINITY;
    const notBeforeMs = steadyMs === 0 ? 0 : nowMs + Math.max(0, steadyMs - this.#ports.now());
    for (const group of result.groups) {
      const { outcome } = group;
      if (outcome.kind !== 'deferred') continue;
      const { whose, pause } = DEFERRALS[outcome.reason];
      if (whose === 'ours') {
        const atMs = Math.max(nowMs + this.#pauseMs(pause, nowMs - result.receivedAtMs), notBeforeMs);
        outcome.retryAtMs = Math.min(atMs, Math.max(nowMs, deadlineMs));
        continue;
      }
      decision ??= this.#ports.nextAttempt(
        this.#rulesOf(attempt, result.attempts),
        result.attempts,
        result.receivedAtMs,
        nowMs,
        notBeforeMs,
        this.#ports.random(),
        deadlineMs,
      );
      if (decision.kind === 'retry') outcome.retryAtMs = decision.atMs;
      else group.outcome = givenUp(outcome, decision, result, nowMs);
    }
  }

  /** The rules of retries, with the site's own delay after this attempt where it has one. */
  #rulesOf({ retryDelaysMs: own }: Attempt, attempts: number): Config['retry'] {
    const { retry } = this.#ports.config;
    const delayMs = own?.[Math.min(Math.max(1, attempts), own.length) - 1];
    if (delayMs === undefined) return retry;
    return { ...retry, initial_delay_ms: delayMs, max_delay_ms: delayMs, backoff_multiplier: 1 };
  }

  /** The pause before the next try, after a trouble of our own. */
  #pauseMs(pause: 'schedule' | 'none' | 'moment' | 'age', ageMs: number): number {
    const { initial_delay_ms, max_delay_ms, jitter_ratio } = this.#ports.config.retry;
    if (pause === 'none') return 0;
    if (pause === 'moment') return Math.min(MOMENT_MS, initial_delay_ms);
    const delayMs = Math.min(Math.max(ageMs, initial_delay_ms), Math.max(initial_delay_ms, max_delay_ms));
    return Math.round(delayMs * (1 + jitter_ratio * (2 * this.#ports.random() - 1)));
  }

  #writeDsns(attempt: Attempt, result: AttemptResult, drafts: DsnDraft[]): void {
    const { content } = attempt.job;
    let stored = false;
    try {
      stored = this.#store(result, drafts);
      // There is no room for the DSNs beside the content they report on: keep only its header section, which makes
      // room.
      if (!stored) for (const draft of drafts) draft.shorten();
    } catch (error) {
      for (const { content: dsn } of result.dsns.splice(0)) this.#ports.arena.release(dsn);
      throw error;
    }
    attempt.ended = true;
    this.#ports.arena.release(content);
    if (!stored) this.#storeLater({ result, drafts });
  }

  /** Stores the DSNs now, or when there is room. On an error the result goes without its DSNs, and the error is rethrown. */
  #storeLater(one: Waiting): void {
    try {
      if (!this.#store(one.result, one.drafts)) this.#waiting.push(one);
    } catch (error) {
      this.#withoutDsns(one.result, 'internal_error', 'its DSN met an error within the relay');
      throw error;
    }
  }

  /** Stores the DSNs that fit, in order. @returns true when the result could go. */
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
    const errors: unknown[] = [];
    for (const one of waiting) {
      try {
        if (this.#waiting.length > 0) this.#waiting.push(one);
        else this.#storeLater(one);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /**
   * Called at the end of a drain: results that still wait for room go without DSNs. The recipients that these would
   * report as failed stay in the queue, and fail again later (I3).
   */
  giveUpWaiting(): void {
    for (const { result } of this.#waiting.splice(0))
      this.#withoutDsns(result, 'shutdown', 'no memory for its DSN before the relay shut down');
  }

  #withoutDsns(result: AttemptResult, reason: 'shutdown' | 'internal_error', why: string): void {
    const nowMs = this.#ports.wall();
    const retryAtMs = nowMs + this.#pauseMs(DEFERRALS[reason].pause, nowMs - result.receivedAtMs);
    for (const message of result.dsns) this.#ports.arena.release(message.content);
    result.dsns = [];
    result.delayNotified = false;
    for (const group of result.groups) {
      if (group.outcome.kind !== 'bounced') continue;
      const detail = `${why}: ${group.outcome.detail}`;
      group.outcome = { kind: 'deferred', reason, detail, retryAtMs };
    }
    this.#ports.result(result);
  }
}

/** Whether the outcome is the peer's doing: our own troubles do not count as attempts. */
const isPeers = ({ outcome }: OutcomeGroup): boolean =>
  outcome.kind !== 'deferred' || DEFERRALS[outcome.reason].whose === 'peer';

/** Whether the peer said something of who signs its mail. */
const isOfSignature = ({ outcome }: OutcomeGroup): boolean =>
  outcome.kind !== 'delivered' && outcome.verdict?.scope === 'dkim_domain';

function timesOf(attempt: Attempt, wallMs: number, nowMs: number): AttemptResult['times'] {
  const { job, startedAtMs, connectMs } = attempt;
  const transferMs = startedAtMs === 0 ? 0 : Math.max(0, nowMs - startedAtMs);
  return { queueMs: Math.max(0, wallMs - transferMs - connectMs - job.receivedAtMs), connectMs, transferMs };
}

function givenUp(
  outcome: Outcome & { kind: 'deferred' },
  decision: RetryDecision,
  result: AttemptResult,
  nowMs: number,
): OutcomeGroup['outcome'] {
  const { reply, peer, reason, detail, verdict } = outcome;
  const last = `last: ${reason}, ${detail}`;
  const base = {
    kind: 'bounced' as const,
    ...(reply === undefined ? {} : { reply }),
    ...(peer === undefined ? {} : { peer }),
    ...(verdict === undefined ? {} : { verdict: { ...verdict, move: 'bounce' as const } }),
  };
  const isDeadline = decision.kind === 'expired' && decision.by === 'deadline';
  if (reason === 'peer_5xx' && !isDeadline) {
    // The code was permanent all along.
    const end = decision.kind === 'disabled' ? 'not tried again (retry.enabled)' : gaveUp(result, nowMs);
    return { ...base, reason, status: reply?.enhanced || '5.0.0', detail: `${end}; ${last}` };
  }
  if (decision.kind === 'disabled') {
    const status = reply?.enhanced ? reply.enhanced.replace(/^4/, '5') : deferralStatus(reason, true);
    return { ...base, reason: 'retry_disabled', status, detail: `not tried again (retry.enabled); ${last}` };
  }
  if (isDeadline) {
    const detail = `${deadlineText(result.attributes?.deadlineMs ?? nowMs)}; ${last}`;
    return { ...base, reason: DEADLINE_PASSED, status: '5.4.7', detail };
  }
  return { ...base, reason: 'expired', status: '5.4.7', detail: `${gaveUp(result, nowMs)}; ${last}` };
}

function gaveUp({ attempts, receivedAtMs }: AttemptResult, nowMs: number): string {
  const hours = ((nowMs - receivedAtMs) / 3_600_000).toFixed(1);
  return `gave up after ${attempts} attempt${attempts === 1 ? '' : 's'} in ${hours} hours`;
}
