/**
 * The rate of one key, learned from what is refused. There is none until the first refusal. Each cut stops the key until one
 * message, the probe, was taken; then the rate climbs along a cubic curve: fast at first, flat around the rate that was refused
 * last (the plateau), and faster again beyond, to find what the peer allows by now. How long the plateau is follows from
 * how long the peer refused: one that shuts us out for minutes is tried rarely.
 *
 * Where several processes share the rate, each has its part of it and judges by that; what one of them finds out the others `hear`: a cut
 * and its probes have a number (the epoch and the stage), the higher one holds. One process probes, another only if nothing is heard of it.
 *
 * Pure: it has no timer, and knows the time only from what it is told. Promises to stay within floor and ceiling, not to take a
 * refusal for a new one that answers what was sent before the last cut, and not to grow where the clock jumps.
 */
import { Cut, type Offer } from './cut.ts';
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

/** The others probe if nothing is heard of the one whose turn it is for so long; each a while after the other. */
const PATIENCE_MS = 5000;
const TURN_MS = 1000;
const TURNS = 16;
/** A probe is under way: its answer can take so long. */
const ANSWER_MS = 60_000;
/** Stage of an epoch in which the probe was taken. */
const OPENED = 1_000_000;

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
  /** Of the cut before; 0 in files of before there were any. */
  epoch: number;
}

/** What one process tells the others of a rate. Times are from now on. */
export interface RateNews extends Omit<RateRecord, 'first_refusal_ms' | 'probe_ms'> {
  since_refusal_ms: number;
  to_probe_ms: number;
  stage: number;
  prober: string;
  /** The prober has sent its probe. */
  asks: boolean;
  factor: number;
  is_mean: boolean;
  offers: readonly Offer[];
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
  /** Number of the last cut or block: the time of day at which it was, at least one more than the one before. */
  #epoch = 0;
  /** Probes that were refused since; OPENED. */
  #stage = 0;
  /** Who probes. */
  #prober: string;
  /** Its probe is on its way, until then; 0: not that anybody knows. */
  #askedMs = 0;
  #cut = new Cut(0, false, []);
  readonly #part: () => number;

  /** @param accepted what was accepted of the key so far. @param part of the rate that this process has. */
  constructor(
    settings: AdaptiveSettings,
    bounds: () => Bounds,
    nowMs: number,
    accepted = new Tally(),
    part: () => number = () => 1,
  ) {
    this.#accepted = accepted;
    this.#part = part;
    this.#prober = settings.sharing.me;
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
    this.#stage = OPENED;
    this.#judge(nowMs);
    this.#accepted.restart(nowMs);
    this.#acceptedSince = accepted;
    return true;
  }

  /**
   * The peer refused for the number of messages.
   * @param elsewherePerS what is accepted of a wider key, where this one was not counted so far; NaN: not known.
   * @param timeOfDayMs names the cut, where others are to know it. @returns whether that changed anything.
   */
  refused(sentMs: number, nowMs: number, elsewherePerS = Number.NaN, timeOfDayMs = nowMs): boolean {
    this.#offered++;
    if (this.#isHeld()) return this.#probeRefused(sentMs, nowMs, timeOfDayMs);
    if (sentMs < this.#cutMs) return false;
    this.tick(nowMs);
    this.#newCut(nowMs, elsewherePerS, timeOfDayMs);
    this.#grownMs = 0;
    this.#firstRefusalMs = nowMs;
    this.phase = 'probing';
    this.#wait(this.#settings.firstProbeMs, nowMs);
    return true;
  }

  /** The peer wants nothing of us for now: nothing goes for half an hour, longer each time. @returns as refused. */
  blocked(sentMs: number, nowMs: number, timeOfDayMs = nowMs): boolean {
    this.#offered++;
    if (this.phase === 'blocked' ? sentMs < this.#probeMs : sentMs < this.#cutMs) return false;
    // One that comes soon after the last was over means that it was too short.
    const again = this.#blockMs > 0 && nowMs - this.#probeMs < this.#blockMs;
    this.#blockMs = again ? Math.min(MAX_BLOCK_MS, this.#blockMs * 2) : BLOCK_MS;
    if (this.phase !== 'blocked') this.#before = this.phase === 'probing' ? 'climbing' : this.phase;
    this.phase = 'blocked';
    this.#newEpoch(timeOfDayMs);
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
    const perS = this.perS * this.#part();
    const judgedMs = clamp((JUDGED_MESSAGES * 1000) / perS, MIN_JUDGED_MS, MAX_JUDGED_MS);
    if (spentMs < judgedMs) return;
    const isUsed = this.#offered * 1000 >= IN_USE * perS * spentMs;
    if (isUsed && this.perS < this.#boundsNow().ceilingPerS)
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
    return { phase: this.phase, perS: 1000 / this.#waitMs, closedUntilMs: this.#turnMs() };
  }

  /** When this process may probe. */
  #turnMs(): number {
    const { me } = this.#settings.sharing;
    if (this.#prober === me) return this.#probeMs;
    if (this.#askedMs > 0) return this.#askedMs;
    return this.#probeMs + PATIENCE_MS + TURN_MS * turnOf(`${me}${this.#epoch}`);
  }

  /** This process has sent its probe. @returns whether the others are to know: it may be that it was another's turn. */
  asks(nowMs: number): boolean {
    if (!this.#isHeld() || nowMs < this.#turnMs() || this.#askedMs > nowMs) return false;
    this.#prober = this.#settings.sharing.me;
    this.#askedMs = nowMs + ANSWER_MS;
    return true;
  }

  /** Nobody else is heard any more: this one probes. */
  alone(): void {
    this.#prober = this.#settings.sharing.me;
    this.#askedMs = 0;
  }

  /** What others are to know of it. */
  news(nowMs: number): RateNews {
    const { first_refusal_ms, probe_ms, ...record } = this.save(0);
    return {
      ...record,
      since_refusal_ms: nowMs - first_refusal_ms,
      to_probe_ms: probe_ms - nowMs,
      stage: this.#stage,
      prober: this.#prober,
      asks: this.#askedMs > nowMs,
      factor: this.#cut.factor,
      is_mean: this.#cut.isMean,
      offers: this.#cut.offers,
    };
  }

  /**
   * Takes what another process found out.
   * @returns `told`: this one knows more, or adds to it, and the others are to know that; `taken`: it has another limit now.
   */
  hear(news: RateNews, nowMs: number, elsewherePerS = Number.NaN): 'told' | 'taken' | null {
    if (news.epoch < this.#epoch) return 'told';
    const isNewer = news.epoch > this.#epoch || news.stage > this.#stage;
    if (news.epoch > this.#epoch) return this.#hearCut(news, nowMs, elsewherePerS);
    if (this.#cut.join(news.factor, news.is_mean, news.offers)) this.#top = this.#within(this.#cut.perS);
    if (isNewer) this.#take(news, nowMs);
    else if (news.stage === this.#stage) {
      if (this.#isHeld()) this.#hearProbe(news, nowMs);
      if (this.#settings.sharing.isLeased) this.#grownMs = Math.max(this.#grownMs, news.grown_ms);
    } else return 'told';
    return 'taken';
  }

  #hearProbe({ prober, asks }: RateNews, nowMs: number): void {
    const { me } = this.#settings.sharing;
    // Of two that think it is their turn all take the same one.
    if (!asks) this.#prober = prober < this.#prober ? prober : this.#prober;
    if (!asks || prober === me) return;
    this.#prober = prober;
    this.#askedMs = nowMs + ANSWER_MS + TURN_MS * turnOf(`${me}${this.#epoch}`);
  }

  #hearCut(news: RateNews, nowMs: number, elsewherePerS: number): 'told' | 'taken' {
    const { me } = this.#settings.sharing;
    // What was under way here when another one was refused; after a cut of our own a moment ago, what that was.
    const own = (this.#isHeld() && this.#cut.of(me)) || this.#offer(nowMs, elsewherePerS);
    const adds =
      news.phase === 'probing' &&
      news.offers.length > 0 &&
      own[1] > 0 &&
      !news.offers.some(([process]) => process === me);
    this.#cut = new Cut(news.factor, news.is_mean, adds ? [...news.offers, own] : news.offers);
    const top = news.offers.length > 0 && news.factor > 0 ? this.#cut.perS : news.per_s;
    this.#top = top < 0 ? Number.POSITIVE_INFINITY : this.#within(top);
    this.#epoch = news.epoch;
    this.#grownMs = news.grown_ms;
    if (news.phase === 'blocked' && this.phase !== 'blocked')
      this.#before = Number.isFinite(this.#top) ? 'climbing' : 'free';
    this.#take(news, nowMs);
    return adds ? 'told' : 'taken';
  }

  #take(news: RateNews, nowMs: number): void {
    this.phase = news.phase;
    this.#stage = news.stage;
    this.#prober = news.prober;
    this.#askedMs = 0;
    this.#plateauMs = clamp(news.plateau_ms, this.#settings.minPlateauMs, this.#settings.maxPlateauMs);
    this.#firstRefusalMs = nowMs - Math.max(0, news.since_refusal_ms);
    this.#blockMs = clamp(news.block_ms, 0, MAX_BLOCK_MS);
    this.#waitMs = clamp(news.wait_ms, this.#settings.firstProbeMs, MAX_BLOCK_MS);
    this.#probeMs = nowMs + Math.min(news.to_probe_ms, this.#waitMs);
    this.#cutMs = nowMs;
    if (news.stage === OPENED) {
      this.#accepted.restart(nowMs);
      this.#acceptedSince = 0;
    } else if (news.asks) this.#hearProbe(news, nowMs);
    this.#judge(nowMs);
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
      epoch: this.#epoch,
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
    this.#epoch = Math.max(0, record.epoch);
    this.#stage = this.#isHeld() ? 0 : OPENED;
    this.#judge(nowMs);
  }

  #isHeld(): boolean {
    return this.phase === 'probing' || this.phase === 'blocked';
  }

  #probeRefused(sentMs: number, nowMs: number, timeOfDayMs: number): boolean {
    if (sentMs < this.#probeMs) return false;
    if (this.phase === 'blocked') {
      if (Number.isFinite(this.#top)) this.#newEpoch(timeOfDayMs);
      else this.#newCut(nowMs, Number.NaN, timeOfDayMs);
      this.phase = 'probing';
      this.#firstRefusalMs = nowMs;
      this.#wait(this.#settings.firstProbeMs, nowMs);
      return true;
    }
    this.#stage++;
    this.#prober = this.#settings.sharing.me;
    this.#wait(Math.min(this.#settings.maxProbeMs, this.#waitMs * PROBE_GROWTH), nowMs);
    return true;
  }

  #newEpoch(timeOfDayMs: number): void {
    this.#epoch = Math.max(this.#epoch + 1, Math.floor(timeOfDayMs));
    this.#stage = 0;
    this.#prober = this.#settings.sharing.me;
    this.#cut = new Cut(0, false, []);
  }

  #newCut(nowMs: number, elsewherePerS: number, timeOfDayMs: number): void {
    this.#newEpoch(timeOfDayMs);
    const offer = this.#offer(nowMs, elsewherePerS);
    if (this.phase === 'free' || this.phase === 'blocked') this.#cut = new Cut(FIRST_CUT, false, [offer]);
    else {
      const isEarly = this.phase === 'climbing' && this.#grownMs < EARLY_PART * this.#plateauMs;
      // It allows less than this rate, and at least what it took since the last cut, refusals included: the middle of these.
      const isMean = isEarly && this.#plateauMs >= LONG_PLATEAU_MS;
      this.#cut = new Cut(isEarly ? EARLY_CUT : LATE_CUT, isMean, [offer]);
    }
    this.#top = this.#within(this.#cut.perS);
  }

  /** What this process sends now, and what was accepted of it since the last cut. */
  #offer(nowMs: number, elsewherePerS: number): Offer {
    const { me } = this.#settings.sharing;
    const accepted = this.#accepted.perS(nowMs);
    if (this.phase === 'free' || this.phase === 'blocked') {
      const known = Number.isNaN(accepted) ? elsewherePerS : accepted;
      return [me, Number.isNaN(known) ? 0 : known, 0];
    }
    const perS = this.perS * this.#part();
    const isUsed = !(accepted < HARDLY_USED * perS);
    const offered = isUsed ? perS : Math.max(accepted, perS * HARDLY_USED * 0.2);
    const sustained = (this.#acceptedSince * 1000) / Math.max(1000, nowMs - this.#cutMs);
    return [me, offered, sustained];
  }

  #wait(ms: number, nowMs: number): void {
    this.#waitMs = Math.ceil(ms);
    this.#askedMs = 0;
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

/** The turn of a process among those that would probe: any that is not always the same. */
function turnOf(text: string): number {
  let sum = 0;
  for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) >>> 0;
  return sum % TURNS;
}
