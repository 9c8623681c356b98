/**
 * The rate of one key, learned from what is refused. There is none until the first refusal. Each cut stops the key until one
 * message, the probe, was taken; then the rate climbs along a cubic curve: fast at first, flat around the rate that was refused
 * last (the plateau), and faster again beyond, to find what the peer allows by now. How long the plateau is follows from
 * how long the peer refused: one that shuts us out for minutes is tried rarely.
 *
 * Pure: it has no timer, and knows the time only from what it is told. Promises to stay within floor and ceiling, not to take a
 * refusal for a new one that answers what was sent before the last cut, and not to grow where the clock jumps.
 */
import type { AdaptiveSettings, Bounds } from './settings.ts';
import { Tally } from './tally.ts';

/** What a rate is cut to: by the first refusal (of what was accepted), by one that comes early on the curve, by a later one. */
const FIRST_CUT = 0.7;
const EARLY_CUT = 0.7;
const LATE_CUT = 0.97;
/** A refusal in this part of the plateau is early: the peer takes much less than it did. */
const EARLY_PART = 0.25;
/** A rate that is not used says nothing of whether the peer would take it. */
const IN_USE = 0.8;
/** A plateau from this length on means that the peer shut us out for long: each try more costs much. */
const LONG_PLATEAU_MS = 600_000;
/** Below this part of the rate, what was offered is what was refused, and not the rate. */
const HARDLY_USED = 0.5;
const DOUBLING_MS = 10_000;
const PROBE_GROWTH = 1.5;
/** Use is judged over the time of so many messages, within these bounds. */
const JUDGED_MESSAGES = 5;
const MIN_JUDGED_MS = 1000;
const MAX_JUDGED_MS = 60_000;
/** A time between two looks that is longer than so many of those is a jump of the clock, or of what was to be sent. */
const LONGEST_STEP = 4;
/** Without a floor, what a rate is cut to at least: one message an hour, less is no rate. */
const LEAST_PER_S = 1 / 3600;
const BLOCK_MS = 1_800_000;
const MAX_BLOCK_MS = 21_600_000;

export type Phase = 'free' | 'doubling' | 'probing' | 'blocked' | 'climbing';

export interface RateLimit {
  phase: Phase;
  /** Infinity: none. While a probe is due: one message per wait. */
  perS: number;
  /** Nothing goes before; 0: it is open. */
  closedUntilMs: number;
}

/** As it is kept over a restart; times are of the wall clock. */
export interface RateRecord {
  phase: Phase;
  per_s: number;
  plateau_ms: number;
  grown_ms: number;
  first_refusal_ms: number;
  wait_ms: number;
  probe_ms: number;
  block_ms: number;
}

export class RateControl {
  phase: Phase;
  readonly #settings: AdaptiveSettings;
  readonly #boundsNow: () => Bounds;
  readonly #accepted: Tally;
  /** The rate at the plateau, or the one that doubling began with. */
  #top = Number.POSITIVE_INFINITY;
  #plateauMs: number;
  /** How long it has grown since the last cut: the time in which the rate was in use. */
  #grownMs = 0;
  #firstRefusalMs = 0;
  /** What was accepted since a probe opened the key. */
  #acceptedSince = 0;
  #cutMs = Number.NEGATIVE_INFINITY;
  /** Time between probes. */
  #waitMs: number;
  #probeMs = 0;
  /** What was answered since `#judgedMs`. */
  #offered = 0;
  #judgedMs: number;
  #blockMs = 0;
  /** The phase that a block interrupts. */
  #before: Phase = 'free';

  /** @param accepted what was accepted of the key so far. */
  constructor(settings: AdaptiveSettings, bounds: () => Bounds, nowMs: number, accepted = new Tally()) {
    this.#accepted = accepted;
    this.#settings = settings;
    this.#boundsNow = bounds;
    this.#plateauMs = settings.minPlateauMs;
    this.#waitMs = settings.firstProbeMs;
    this.#judgedMs = nowMs;
    const { startPerS } = bounds();
    const starts = Number.isFinite(startPerS);
    this.phase = starts ? 'doubling' : 'free';
    if (starts) this.#top = this.#within(startPerS);
  }

  /** Whether it holds nothing back, and there is nothing to remember. */
  get isFree(): boolean {
    return this.phase === 'free' && this.#blockMs === 0;
  }

  get plateauMs(): number {
    return this.#plateauMs;
  }

  /**
   * Messages that the peer answered without a word about their number.
   * @param accepted how many of them it took. @param sentMs when the last of those began.
   * @returns whether a probe among them opened the key.
   */
  answered(messages: number, accepted: number, sentMs: number, nowMs: number): boolean {
    if (accepted > 0) this.#accepted.add(accepted, nowMs);
    if (this.phase === 'free') return false;
    this.#offered += messages;
    this.#acceptedSince += accepted;
    if (accepted === 0 || !this.#isHeld() || sentMs < this.#probeMs) return false;
    if (this.phase === 'probing')
      this.#plateauMs = clamp(
        (nowMs - this.#firstRefusalMs) / this.#settings.probeCostRatio,
        this.#settings.minPlateauMs,
        this.#settings.maxPlateauMs,
      );
    this.phase = this.phase === 'blocked' ? this.#before : 'climbing';
    this.#judge(nowMs);
    this.#accepted.restart(nowMs);
    this.#acceptedSince = accepted;
    return true;
  }

  /**
   * The peer refused for the number of messages.
   * @param elsewherePerS what is accepted of a wider key, where this one was not counted so far; NaN: not known.
   * @returns whether that changed anything.
   */
  refused(sentMs: number, nowMs: number, elsewherePerS = Number.NaN): boolean {
    this.#offered++;
    if (this.#isHeld()) return this.#probeRefused(sentMs, nowMs);
    if (sentMs < this.#cutMs) return false;
    this.tick(nowMs);
    const base = this.#refusedRate(nowMs, elsewherePerS);
    this.#top = this.#within(base);
    this.#grownMs = 0;
    this.#firstRefusalMs = nowMs;
    this.phase = 'probing';
    this.#wait(this.#settings.firstProbeMs, nowMs);
    return true;
  }

  /** The peer wants nothing of us for now: nothing goes for half an hour, longer each time. @returns as refused. */
  blocked(sentMs: number, nowMs: number): boolean {
    this.#offered++;
    if (this.phase === 'blocked' ? sentMs < this.#probeMs : sentMs < this.#cutMs) return false;
    // One that comes soon after the last was over means that it was too short.
    const again = this.#blockMs > 0 && nowMs - this.#probeMs < this.#blockMs;
    this.#blockMs = again ? Math.min(MAX_BLOCK_MS, this.#blockMs * 2) : BLOCK_MS;
    if (this.phase !== 'blocked') this.#before = this.phase === 'probing' ? 'climbing' : this.phase;
    this.phase = 'blocked';
    this.#wait(this.#blockMs, nowMs);
    return true;
  }

  /** Grows, if the rate is in use. To be called now and then; how often makes no difference. */
  tick(nowMs: number): void {
    const spentMs = nowMs - this.#judgedMs;
    if (spentMs < 0) this.#judge(nowMs);
    if (this.phase !== 'climbing' && this.phase !== 'doubling') {
      if (this.#blockMs > 0 && this.phase !== 'blocked' && nowMs - this.#probeMs > this.#blockMs)
        this.#blockMs = 0;
      return;
    }
    const perS = this.perS;
    const judgedMs = clamp((JUDGED_MESSAGES * 1000) / perS, MIN_JUDGED_MS, MAX_JUDGED_MS);
    if (spentMs < judgedMs) return;
    const isUsed = this.#offered * 1000 >= IN_USE * perS * spentMs;
    if (isUsed && perS < this.#boundsNow().ceilingPerS)
      this.#grownMs += Math.min(spentMs, LONGEST_STEP * judgedMs);
    this.#judge(nowMs);
  }

  /** The rate of the curve, whether or not the key is open. */
  get perS(): number {
    if (this.phase === 'free') return this.#boundsNow().ceilingPerS;
    if (this.phase === 'doubling') return this.#within(this.#top * 2 ** (this.#grownMs / DOUBLING_MS));
    const left = 1 - this.#grownMs / this.#plateauMs;
    return this.#within(this.#top * (1 - (1 - this.#settings.betaRatio) * left ** 3));
  }

  limit(): RateLimit {
    if (!this.#isHeld()) return { phase: this.phase, perS: this.perS, closedUntilMs: 0 };
    return { phase: this.phase, perS: 1000 / this.#waitMs, closedUntilMs: this.#probeMs };
  }

  /** @param aheadMs what the wall clock is ahead of the one that this is told. */
  save(aheadMs: number): RateRecord {
    return {
      phase: this.phase,
      per_s: Number.isFinite(this.#top) ? this.#top : -1,
      plateau_ms: this.#plateauMs,
      grown_ms: this.#grownMs,
      first_refusal_ms: this.#firstRefusalMs + aheadMs,
      wait_ms: this.#waitMs,
      probe_ms: this.#probeMs + aheadMs,
      block_ms: this.#blockMs,
    };
  }

  /** @param aheadMs as in save. */
  restore(record: RateRecord, aheadMs: number, nowMs: number): void {
    this.phase = record.phase;
    this.#top = record.per_s < 0 ? Number.POSITIVE_INFINITY : this.#within(record.per_s);
    this.#plateauMs = clamp(record.plateau_ms, this.#settings.minPlateauMs, this.#settings.maxPlateauMs);
    this.#grownMs = Math.max(0, record.grown_ms);
    this.#firstRefusalMs = Math.min(nowMs, record.first_refusal_ms - aheadMs);
    this.#blockMs = Math.min(MAX_BLOCK_MS, record.block_ms);
    this.#waitMs = clamp(record.wait_ms, this.#settings.firstProbeMs, MAX_BLOCK_MS);
    // A clock that was set back must not keep it closed for longer than it waits.
    this.#probeMs = Math.min(record.probe_ms - aheadMs, nowMs + this.#waitMs);
    this.#before = Number.isFinite(this.#top) ? 'climbing' : 'free';
    this.#cutMs = nowMs;
    this.#judge(nowMs);
  }

  #isHeld(): boolean {
    return this.phase === 'probing' || this.phase === 'blocked';
  }

  #probeRefused(sentMs: number, nowMs: number): boolean {
    if (sentMs < this.#probeMs) return false;
    if (this.phase === 'blocked') {
      this.#top = this.#within(Number.isFinite(this.#top) ? this.#top : this.#refusedRate(nowMs, Number.NaN));
      this.phase = 'probing';
      this.#firstRefusalMs = nowMs;
      this.#wait(this.#settings.firstProbeMs, nowMs);
    } else this.#wait(Math.min(this.#settings.maxProbeMs, this.#waitMs * PROBE_GROWTH), nowMs);
    return true;
  }

  #refusedRate(nowMs: number, elsewherePerS: number): number {
    const accepted = this.#accepted.perS(nowMs);
    const known = Number.isNaN(accepted) ? elsewherePerS : accepted;
    if (this.phase === 'free' || this.phase === 'blocked')
      return FIRST_CUT * (Number.isNaN(known) ? LEAST_PER_S : known);
    const { perS } = this;
    const isUsed = !(accepted < HARDLY_USED * perS);
    const offered = isUsed ? perS : Math.max(accepted, perS * HARDLY_USED * 0.2);
    const isEarly = this.phase === 'climbing' && this.#grownMs < EARLY_PART * this.#plateauMs;
    if (!isEarly) return LATE_CUT * offered;
    if (this.#plateauMs < LONG_PLATEAU_MS) return EARLY_CUT * offered;
    // It allows less than this rate, and at least what it took since the last cut, refusals included: the middle of these.
    const sustained = (this.#acceptedSince * 1000) / Math.max(1000, nowMs - this.#cutMs);
    return Math.min(EARLY_CUT * offered, Math.sqrt(offered * sustained));
  }

  #wait(ms: number, nowMs: number): void {
    this.#waitMs = Math.ceil(ms);
    this.#probeMs = nowMs + this.#waitMs;
    this.#cutMs = nowMs;
    this.#judge(nowMs);
  }

  #judge(nowMs: number): void {
    this.#judgedMs = nowMs;
    this.#offered = 0;
  }

  #within(perS: number): number {
    const { floorPerS, ceilingPerS } = this.#boundsNow();
    return Math.min(ceilingPerS, Math.max(floorPerS, LEAST_PER_S, perS));
  }
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
