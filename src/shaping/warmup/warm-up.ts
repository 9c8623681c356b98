/**
 * The warm-up of one source at one provider: so many messages each sending day, more on the next if nothing speaks against it. Pure:
 * it knows the time from what it is told, and days from `SendingDays`. What was sent is counted before it can be sent:
 * `reserve` moves the count on, in the record that is to be durable first, so that no crash makes it less than what was sent.
 */
import { daysBetween } from '../../base/time-zone.ts';
import type { SendingDays } from './sending-days.ts';

export interface WarmUpPlan {
  source: string;
  /** A provider, or '*' for all that have no plan of their own. */
  provider: string;
  messagesPerDay: readonly number[];
  /** '' or the first day: nothing is sent before. */
  startDate: string;
  days: SendingDays;
  /** Processes that have a part of it each; complaints are told to all of them. */
  sharers: number;
  gates: {
    minDeliveries: number;
    maxBounceRatio: number;
    maxComplaintRatio: number;
    maxDeferralRatio: number;
  };
}

export type WarmUpState = 'waiting' | 'running' | 'paused' | 'done';

export interface WarmUpRecord {
  /** Of the plan; as many as it has when it is done. */
  step: number;
  /** The sending day that is counted; '' before the first. */
  day: string;
  /** Messages of that day that were sent, or may have been. */
  sent: number;
  /** The last day on which something was sent. */
  last_day: string;
  /** Why it is paused; '' it is not. */
  paused: string;
  /** The pause is over with this sending day; false: when an operator says so. */
  for_day: boolean;
  /** What came of messages since the gates were looked at last. */
  delivered: number;
  bounced: number;
  complained: number;
  deferred: number;
  /** When the last order was made that it follows. */
  ordered_ms: number;
}

export const NEW_WARM_UP: WarmUpRecord = {
  step: 0,
  day: '',
  sent: 0,
  last_day: '',
  paused: '',
  for_day: false,
  delivered: 0,
  bounced: 0,
  complained: 0,
  deferred: 0,
  ordered_ms: 0,
};

export interface WarmUpLimit {
  state: WarmUpState;
  /** Infinity: no limit. */
  messagesPerS: number;
  /** 0: it is open. */
  closedUntilMs: number;
  /** The first half of the window: who wants mail more goes first in it. */
  turns?: { fromMs: number; toMs: number };
}

export type WarmUpStep = 'advance' | 'repeat' | 'too_few' | 'back' | 'silent';

/** A day with less than this part of its plan says nothing of the next step. */
const ENOUGH_OF_DAY = 0.5;
/** Beyond these it goes back. */
const BACK_BOUNCE_RATIO = 0.05;
const BACK_COMPLAINT_RATIO = 0.003;
const SILENT_DAYS = 30;
/** What part of the volume before them it starts again with. */
const AFTER_SILENCE = 0.25;
/** Mail that comes late in the day goes at most so many times as fast as the plan spread over the whole window. */
const CATCH_UP = 2;
/** In this part of the window mail waits for its turn: what is left is enough for the whole plan at that pace. */
const TURNS_PART = 0.5;

export class WarmUp {
  readonly plan: WarmUpPlan;
  #record: WarmUpRecord;

  constructor(plan: WarmUpPlan, record: WarmUpRecord = NEW_WARM_UP) {
    this.plan = plan;
    this.#record = { ...record, step: Math.min(record.step, plan.messagesPerDay.length) };
  }

  get record(): Readonly<WarmUpRecord> {
    return this.#record;
  }

  /** Messages of the present day; Infinity: as many as there are. */
  get planned(): number {
    return this.plan.messagesPerDay[this.#record.step] ?? Number.POSITIVE_INFINITY;
  }

  get state(): WarmUpState {
    if (this.#record.paused !== '') return 'paused';
    if (this.planned === Number.POSITIVE_INFINITY) return 'done';
    return this.#record.day === '' ? 'waiting' : 'running';
  }

  /** Goes on to the day of this time. @returns what came of the day before, when it is over. */
  tick(nowMs: number): WarmUpStep | null {
    const { startDate, days } = this.plan;
    const now = days.at(nowMs);
    if (startDate !== '' && now.day < startDate) return null;
    const record = this.#record;
    // Before its window opens, and after the clock was set back, the day before is still the one that counts.
    if (now.day <= record.day || nowMs < now.fromMs) return null;
    const step = record.day === '' ? null : this.#judge(now.day);
    record.day = now.day;
    record.sent = 0;
    if (record.for_day) Object.assign(record, { paused: '', for_day: false });
    return step;
  }

  /** @param sent messages of the day that have gone; what was reserved beyond them has not. */
  limit(nowMs: number, sent = this.#record.sent): WarmUpLimit {
    const { state, planned } = this;
    const { day } = this.#record;
    if (state === 'done') return { state, messagesPerS: Number.POSITIVE_INFINITY, closedUntilMs: 0 };
    const { startDate, days } = this.plan;
    const now = startDate === '' ? days.at(nowMs) : later(days.at(nowMs), days.from(startDate));
    const windowMs = now.toMs - now.fromMs;
    const even = (planned * 1000) / windowMs;
    if (state === 'paused') return { state, messagesPerS: even, closedUntilMs: now.toMs };
    if (nowMs < now.fromMs) return { state, messagesPerS: even, closedUntilMs: now.fromMs };
    if (now.day === day && sent >= planned)
      return { state, messagesPerS: even, closedUntilMs: days.at(now.toMs).fromMs };
    const left = (planned - (now.day === day ? sent : 0)) / Math.max(1, now.toMs - nowMs);
    const turns = { fromMs: now.fromMs, toMs: now.fromMs + windowMs * TURNS_PART };
    return { state, messagesPerS: Math.min(left * 1000, even * CATCH_UP), closedUntilMs: 0, turns };
  }

  /** Counts messages that are about to be sent. @returns how many may be. */
  reserve(wanted: number): number {
    const granted = Math.max(0, Math.min(wanted, this.planned - this.#record.sent));
    if (granted > 0) {
      this.#record.sent += granted;
      this.#record.last_day = this.#record.day;
    }
    return granted;
  }

  /** Takes back what was reserved and cannot have been sent: at an orderly end only. */
  giveBack(count: number): void {
    this.#record.sent = Math.max(0, this.#record.sent - count);
  }

  came(of: 'delivered' | 'bounced' | 'complained' | 'deferred', messages: number): void {
    this.#record[of] += messages;
  }

  /** @param forDay it goes on with the next sending day, one step back; else when it is set. */
  pause(reason: string, forDay: boolean): void {
    if (forDay && this.#record.paused !== '') return;
    if (forDay)
      this.#record.step = Math.max(0, Math.min(this.#record.step, this.plan.messagesPerDay.length) - 1);
    Object.assign(this.#record, { paused: reason, for_day: forDay });
  }

  /** An operator sets the step; a pause is over. What was sent today stays counted. */
  set(step: number): void {
    const { length } = this.plan.messagesPerDay;
    Object.assign(this.#record, { step: Math.min(step, length), paused: '', for_day: false });
    this.#forget();
  }

  resume(): void {
    Object.assign(this.#record, { paused: '', for_day: false });
  }

  /** Notes that it follows orders up to this time. */
  ordered(atMs: number): void {
    this.#record.ordered_ms = atMs;
  }

  #judge(day: string): WarmUpStep {
    const record = this.#record;
    if (record.last_day !== '' && daysBetween(record.last_day, day) > SILENT_DAYS) {
      const before = this.plan.messagesPerDay[
        Math.min(record.step, this.plan.messagesPerDay.length - 1)
      ] as number;
      record.step = Math.max(
        0,
        this.plan.messagesPerDay.findLastIndex((count) => count <= before * AFTER_SILENCE),
      );
      record.last_day = '';
      this.#forget();
      return 'silent';
    }
    if (record.paused !== '' || this.planned === Number.POSITIVE_INFINITY) return 'repeat';
    const answered = record.delivered + record.bounced;
    const { minDeliveries, maxBounceRatio, maxComplaintRatio, maxDeferralRatio } = this.plan.gates;
    // With fewer than that, what would be too much even if all that is missing went well is too much.
    const of = Math.max(answered, minDeliveries);
    const isKnown = answered >= minDeliveries;
    const { bounced, deferred } = record;
    // Whoever hears of a complaint tells all: each has its part of the messages, and all complaints.
    const complained = record.complained / this.plan.sharers;
    if (bounced > BACK_BOUNCE_RATIO * of || complained > BACK_COMPLAINT_RATIO * of) {
      record.step = Math.max(0, record.step - 1);
      this.#forget();
      return 'back';
    }
    const isGood =
      bounced < maxBounceRatio * of &&
      complained < maxComplaintRatio * of &&
      deferred < maxDeferralRatio * (of + deferred);
    const isEnough = record.sent >= ENOUGH_OF_DAY * this.planned;
    if (isKnown && !(isGood && !isEnough)) this.#forget();
    if (!isGood) return 'repeat';
    if (!isEnough) return 'too_few';
    record.step++;
    return 'advance';
  }

  #forget(): void {
    Object.assign(this.#record, { delivered: 0, bounced: 0, complained: 0, deferred: 0 });
  }
}

const later = <T extends { fromMs: number }>(a: T, b: T): T => (a.fromMs >= b.fromMs ? a : b);
