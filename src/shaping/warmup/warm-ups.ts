/**
 * The warm-ups of a relay process: one for each source at each site that a plan is for and mail goes to. Messages are reserved
 * in blocks: a block counts as sent in the file before its first message may go. So whatever ends the process, the file never says less
 * than was sent; an orderly end gives back what is left of the block. Bounded: of sites beyond 10,000 the one unused longest is forgotten.
 */
import { ordersMark, readOrders, type WarmUpOrder } from './orders.ts';
import {
  WarmUp,
  type WarmUpLimit,
  type WarmUpPlan,
  type WarmUpRecord,
  type WarmUpState,
  type WarmUpStep,
} from './warm-up.ts';
import { type KeptWarmUp, readWarmUps, writeWarmUps, writeWarmUpsSync } from './warm-up-file.ts';

const MAX_SITES = 10_000;
/** A block is what goes in this time; the next one is reserved when less than half of it is left. */
const BLOCK_S = 30;
/** A block is at least this, and what one message more than the rate allows takes of it. */
const LEAST_BLOCK = 4;
/** How long a site waits for its block to be in the file before it is looked at again. */
const WAIT_MS = 1000;

export interface WarmUpChange {
  source: string;
  site: string;
  cause: WarmUpStep | 'block' | WarmUpOrder['action'];
  /** A reply, or an operator's reason; else ''. */
  reason: string;
  before: Readonly<WarmUpRecord>;
  now: Readonly<WarmUpRecord>;
  /** Of the present day; Infinity: no limit. */
  planned: number;
}

export interface WarmUpStanding {
  state: WarmUpState;
  /** From 1. */
  step: number;
  /** The sending day; '' before the first. */
  day: string;
  /** Messages of the day; Infinity: no limit. */
  planned: number;
  used: number;
  /** Why it is paused; ''. */
  paused: string;
  /** What the plan is for. */
  provider: string;
}

export interface WarmUpsPorts {
  path: string;
  ordersPath: string;
  /** Time of day. */
  now(): number;
  /** Messages that were taken at the key since `begins`; null: nobody uses it now. */
  taken(source: string, site: string): number | null;
  /** What holds from now on; times are those of the day. Null: no plan is for it any more. */
  limit(source: string, site: string, limit: WarmUpLimit | null): void;
  changed(change: WarmUpChange): void;
  /** The file cannot be read or written: without it nothing is sent that needs a block. */
  failed(error: unknown): void;
}

interface Site {
  source: string;
  site: string;
  provider: string;
  warmUp: WarmUp;
  /** Messages of the day that have gone. */
  used: number;
  /** What `taken` said last. */
  seen: number;
  /** What the file has reserved. */
  durable: number;
}

const keyOf = (source: string, site: string): string => `${source}\t${site}`;

export class WarmUps {
  readonly #ports: WarmUpsPorts;
  #plans = new Map<string, Map<string, WarmUpPlan>>();
  readonly #sites = new Map<string, Site>();
  /** Records for which there is no site as yet, or no plan. */
  readonly #kept = new Map<string, KeptWarmUp>();
  #orders: WarmUpOrder[] = [];
  #mark: string | null = null;
  #isDirty = false;
  #writing: Promise<void> | null = null;

  constructor(ports: WarmUpsPorts) {
    this.#ports = ports;
  }

  /** Whether there is any plan. */
  get active(): boolean {
    return this.#plans.size > 0;
  }

  /** Reads the file. @returns how many lines of it are damaged. */
  open(plans: readonly WarmUpPlan[]): number {
    const { records: kept, bad } = readWarmUps(this.#ports.path);
    for (const one of kept) this.#kept.set(keyOf(one.source, one.site), one);
    this.reconfigure(plans);
    return bad;
  }

  reconfigure(plans: readonly WarmUpPlan[]): void {
    this.#plans = new Map();
    for (const plan of plans) {
      const ofSource = this.#plans.get(plan.source) ?? new Map<string, WarmUpPlan>();
      // Of two plans for the same the first one counts; the config refuses that.
      if (!ofSource.has(plan.provider)) ofSource.set(plan.provider, plan);
      this.#plans.set(plan.source, ofSource);
    }
    for (const [key, one] of this.#sites) {
      const plan = this.#planOf(one.source, one.site, one.provider);
      if (plan !== null) {
        one.warmUp = new WarmUp(plan, one.warmUp.record);
        this.#look(one);
        continue;
      }
      this.#sites.delete(key);
      this.#kept.set(key, { source: one.source, site: one.site, record: one.warmUp.record });
      this.#ports.limit(one.source, one.site, null);
    }
    this.#write();
  }

  /** Mail begins to go to a site, counted from 0. */
  begins(source: string, site: string, provider: string): void {
    const plan = this.#planOf(source, site, provider);
    if (plan === null) return;
    const key = keyOf(source, site);
    const known = this.#sites.get(key);
    if (known !== undefined) known.seen = 0;
    const one = known ?? this.#newSite(key, plan, { source, site, provider });
    this.#look(one);
    this.#write();
  }

  #newSite(key: string, plan: WarmUpPlan, of: Pick<Site, 'source' | 'site' | 'provider'>): Site {
    if (this.#sites.size >= MAX_SITES) this.#forget();
    const record = this.#kept.get(key)?.record;
    this.#kept.delete(key);
    const warmUp = new WarmUp(plan, record);
    // What an earlier life had reserved it may have sent.
    const sent = record?.sent ?? 0;
    const one: Site = { ...of, warmUp, used: sent, seen: 0, durable: sent };
    this.#sites.set(key, one);
    this.#follow(one);
    return one;
  }

  /** To be called each second or so. */
  tick(): void {
    if (!this.active) return;
    this.#readOrders();
    for (const one of this.#sites.values()) this.#look(one);
    this.#write();
  }

  /** What came of messages. */
  came(source: string, site: string, of: Parameters<WarmUp['came']>[0], messages: number): void {
    this.#sites.get(keyOf(source, site))?.warmUp.came(of, messages);
  }

  /** The peer blocks the source for its reputation. */
  blocked(source: string, site: string, reply: string): void {
    const one = this.#sites.get(keyOf(source, site));
    if (one === undefined || one.warmUp.state !== 'running') return;
    this.#change(one, 'block', reply, () => one.warmUp.pause(reply, true));
    this.#look(one);
    this.#write();
  }

  /** Writes what was sent, exactly. */
  async close(): Promise<void> {
    await this.#writing;
    for (const one of this.#sites.values()) {
      this.#count(one);
      one.warmUp.giveBack(Math.max(0, one.warmUp.record.sent - one.used));
    }
    if (this.#sites.size === 0 && !this.#isDirty) return;
    try {
      writeWarmUpsSync(this.#ports.path, this.#records());
    } catch (error) {
      this.#ports.failed(error);
    }
  }

  /** How far a site is; null: no plan is for it, or nothing has gone there. */
  standing(source: string, site: string): WarmUpStanding | null {
    const one = this.#sites.get(keyOf(source, site));
    if (one === undefined) return null;
    const { state, record, planned, plan } = one.warmUp;
    return {
      state,
      step: record.step + 1,
      day: record.day,
      planned,
      used: one.used,
      paused: record.paused,
      provider: plan.provider,
    };
  }

  #planOf(source: string, site: string, provider: string): WarmUpPlan | null {
    const plans = this.#plans.get(source);
    return plans?.get(provider) ?? plans?.get(site) ?? plans?.get('*') ?? null;
  }

  #look(one: Site): void {
    const nowMs = this.#ports.now();
    const { warmUp } = one;
    this.#count(one);
    const { day } = warmUp.record;
    const before = { ...warmUp.record };
    const step = warmUp.tick(nowMs);
    if (warmUp.record.day !== day) {
      one.used = one.durable = 0;
      this.#isDirty = true;
    }
    if (step !== null) this.#told(one, step, '', before);
    const limit = warmUp.limit(nowMs, one.used);
    if (warmUp.state === 'running' && limit.closedUntilMs === 0) {
      this.#reserve(one, limit.messagesPerS);
      if (one.used >= one.durable) limit.closedUntilMs = nowMs + WAIT_MS;
    }
    this.#ports.limit(one.source, one.site, limit);
  }

  /** Counts what has gone since the last look. */
  #count(one: Site): void {
    const taken = this.#ports.taken(one.source, one.site);
    if (taken === null) return;
    const more = taken - one.seen;
    one.seen = taken;
    if (more <= 0) return;
    one.used += more;
    const { sent } = one.warmUp.record;
    // Without a limit nothing is reserved; else no more can go than was.
    if (one.used > sent) one.warmUp.reserve(one.used - sent);
  }

  #reserve(one: Site, perS: number): void {
    const block = Math.ceil(perS * BLOCK_S) + LEAST_BLOCK;
    const { sent } = one.warmUp.record;
    if (sent - one.used > block / 2) return;
    if (one.warmUp.reserve(one.used + block - sent) > 0) this.#isDirty = true;
  }

  #write(): void {
    if (!this.#isDirty || this.#writing !== null) return;
    this.#isDirty = false;
    const reserved = [...this.#sites.values()].map(
      (one) => [one, one.warmUp.record.day, one.warmUp.record.sent] as const,
    );
    this.#writing = writeWarmUps(this.#ports.path, this.#records())
      .then(() => {
        for (const [one, day, sent] of reserved) {
          if (one.warmUp.record.day !== day) continue;
          one.durable = sent;
        }
      })
      .catch((error: unknown) => {
        this.#isDirty = true;
        this.#ports.failed(error);
      })
      .finally(() => {
        this.#writing = null;
        for (const [one] of reserved) if (one.warmUp.state === 'running') this.#look(one);
      });
  }

  *#records(): Generator<KeptWarmUp> {
    yield* this.#kept.values();
    for (const { source, site, warmUp } of this.#sites.values())
      yield { source, site, record: warmUp.record };
  }

  #readOrders(): void {
    const { ordersPath, failed } = this.#ports;
    const mark = ordersMark(ordersPath);
    if (mark === this.#mark) return;
    this.#mark = mark;
    try {
      this.#orders = readOrders(ordersPath);
    } catch (error) {
      failed(error);
    }
    for (const one of this.#sites.values()) this.#follow(one);
  }

  #follow(one: Site): void {
    if (this.#mark === null) this.#readOrders();
    for (const order of this.#orders) {
      if (order.at_ms <= one.warmUp.record.ordered_ms || order.source !== one.source) continue;
      if (!['*', one.site, one.provider].includes(order.provider)) continue;
      this.#change(one, order.action, order.reason, () => {
        if (order.action === 'set') one.warmUp.set(order.step);
        else if (order.action === 'pause') one.warmUp.pause(order.reason || 'an operator', false);
        else one.warmUp.resume();
        one.warmUp.ordered(order.at_ms);
      });
    }
  }

  #change(one: Site, cause: WarmUpChange['cause'], reason: string, change: () => void): void {
    const before = { ...one.warmUp.record };
    change();
    this.#isDirty = true;
    this.#told(one, cause, reason, before);
  }

  #told(one: Site, cause: WarmUpChange['cause'], reason: string, before: Readonly<WarmUpRecord>): void {
    const { source, site, warmUp } = one;
    this.#ports.changed({
      source,
      site,
      cause,
      reason,
      before,
      now: { ...warmUp.record },
      planned: warmUp.planned,
    });
  }

  #forget(): void {
    let oldest: [string, Site] | null = null;
    for (const entry of this.#sites) {
      const [, { source, site, warmUp }] = entry;
      if (this.#ports.taken(source, site) !== null) continue;
      if (oldest === null || warmUp.record.last_day < oldest[1].warmUp.record.last_day) oldest = entry;
    }
    if (oldest !== null) this.#sites.delete(oldest[0]);
  }
}
