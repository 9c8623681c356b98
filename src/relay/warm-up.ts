/** The warm-ups of one relay process: plans of the config, limits, events. Part of the composition root. */
import { dirname, join } from 'node:path';
import type { Log } from '../base/log.ts';
import { mostRecent } from '../base/most-recent.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { sourceWarmUps } from '../config/source-warm-ups.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import type { Gate } from '../shaping/message-gates.ts';
import { ORDERS_FILE } from '../shaping/warmup/orders.ts';
import { plansOf } from '../shaping/warmup/plans.ts';
import type { WarmUpLimit } from '../shaping/warmup/warm-up.ts';
import { WARM_UP_FILE } from '../shaping/warmup/warm-up-file.ts';
import { type WarmUpChange, WarmUps } from '../shaping/warmup/warm-ups.ts';
import { type LimitAccess, OPEN } from './limit-access.ts';
import type { ProcessPlace } from './place.ts';

export interface RelayWarmUpSetup {
  config: Config;
  place: Pick<ProcessPlace, 'eventsDir'>;
  /** Relay processes of the host: each has its part of a plan. */
  processes: number;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  limits: LimitAccess;
}

/** Messages whose source and site are remembered, for complaints about them. */
const MAX_REMEMBERED = 50_000;

const BLOCKS: readonly (string | undefined)[] = ['reputation_block', 'dnsbl_block'];

export class RelayWarmUp {
  readonly #setup: RelayWarmUpSetup;
  readonly #warmUps: WarmUps;
  /** By source and site: who goes first today. */
  readonly #turns = new Map<string, { gate: Gate; toMs: number }>();
  #turnsChanged = false;
  /** By queue id: source and site of messages that warm-ups sent, since the start. */
  readonly #sent = mostRecent<readonly [source: string, site: string]>(MAX_REMEMBERED);

  constructor(setup: RelayWarmUpSetup) {
    const { config, place, limits, log } = setup;
    this.#setup = setup;
    const path = join(config.data_dir, WARM_UP_FILE);
    this.#warmUps = new WarmUps({
      path,
      ordersPath: join(dirname(place.eventsDir), ORDERS_FILE),
      now: () => timeOfDayMs(steadyMs()),
      taken: (source, site) => limits.key(source, site)?.taken ?? null,
      limit: (source, site, limit) => this.#limit(source, site, limit),
      changed: (change) => this.#changed(change),
      failed: (error) => log.warn('limits.not_kept', { path, error }),
    });
    try {
      const bad = this.#warmUps.open(plansOf(sourceWarmUps(config), setup.processes));
      if (bad > 0) log.warn('limits.damaged', { path, lines: bad });
    } catch (error) {
      log.warn('limits.not_kept', { path, error });
    }
  }

  begins(source: string, site: string, provider: string): void {
    if (!this.#warmUps.active) return;
    this.#warmUps.begins(source, site, provider);
    this.#postTurns();
  }

  tick(): void {
    this.#warmUps.tick();
    this.#postTurns();
  }

  take(results: readonly AttemptResult[]): void {
    if (!this.#warmUps.active) return;
    for (const result of results) this.#one(result);
  }

  reconfigure(config: Config): void {
    this.#warmUps.reconfigure(plansOf(sourceWarmUps(config), this.#setup.processes));
    for (const { source, site, provider } of this.#setup.limits.keys()) this.begins(source, site, provider);
  }

  /** Where its limit comes from, with what the day allows and what has gone. */
  says(source: string, site: string): { setBy: string; limit: number | null; used: number | null } {
    const one = this.#warmUps.standing(source, site);
    if (one === null) return { setBy: 'warmup', limit: null, used: null };
    const plan = `warmup of ${one.provider}, step ${one.step}`;
    return {
      setBy: one.paused === '' ? `${plan}, ${one.state}` : `${plan}, paused: ${one.paused}`,
      limit: Number.isFinite(one.planned) ? one.planned : null,
      used: one.used,
    };
  }

  /** By which source, and to which site, a message went; null: not by a warm-up, or too long ago. */
  sentBy(queueId: string): readonly [source: string, site: string] | null {
    return this.#sent.get(queueId) ?? null;
  }

  /** A recipient complains of mail from the source. */
  complained(source: string, site: string): void {
    this.#warmUps.came(source, site, 'complained', 1);
  }

  close(): Promise<void> {
    return this.#warmUps.close();
  }

  #one(result: AttemptResult): void {
    const { site, source = '' } = result;
    if (site === undefined) return;
    for (const { outcome, seqs } of result.groups) {
      if (outcome.kind === 'delivered') {
        this.#warmUps.came(source, site, 'delivered', seqs.length);
        if (this.#warmUps.standing(source, site) !== null) this.#sent.set(result.queueId, [source, site]);
        continue;
      }
      if (outcome.reply === undefined) continue;
      const kind = outcome.verdict?.class;
      if (BLOCKS.includes(kind))
        this.#warmUps.blocked(source, site, `${outcome.reply.code} ${outcome.reply.text}`.slice(0, 300));
      if (outcome.kind === 'bounced') this.#warmUps.came(source, site, 'bounced', seqs.length);
      else if (kind === 'rate_limit') this.#warmUps.came(source, site, 'deferred', seqs.length);
    }
  }

  #limit(source: string, site: string, limit: WarmUpLimit | null): void {
    const { messagesPerS, closedUntilMs } = limit ?? OPEN;
    this.#setTurns(source, site, limit?.turns);
    // The plan goes by the time of day, limits by steady time.
    const steadyUntilMs = closedUntilMs === 0 ? 0 : closedUntilMs - timeOfDayMs(0);
    this.#setup.limits.set(source, site, 'warmup', {
      messagesPerS,
      connections: Number.POSITIVE_INFINITY,
      closedUntilMs: steadyUntilMs,
    });
  }

  /** Told to delivery threads only where they change: once a day. */
  #setTurns(source: string, site: string, turns: WarmUpLimit['turns']): void {
    const key = `${source}\t${site}`;
    const before = this.#turns.get(key);
    if (turns === undefined || turns.toMs <= timeOfDayMs(steadyMs())) {
      if (!this.#turns.delete(key)) return;
    } else {
      if (before?.toMs === turns.toMs) return;
      const [fromMs, toMs] = [turns.fromMs - timeOfDayMs(0), turns.toMs - timeOfDayMs(0)];
      const gate: Gate = {
        kind: 'source',
        value: source,
        site,
        messagesPerS: 0,
        closedUntilMs: 0,
        by: 'warmup',
        turns: { fromMs, toMs },
      };
      this.#turns.set(key, { gate, toMs: turns.toMs });
    }
    this.#turnsChanged = true;
  }

  #postTurns(): void {
    if (!this.#turnsChanged) return;
    this.#turnsChanged = false;
    this.#setup.limits.gates(
      'warmup',
      [...this.#turns.values()].map(({ gate }) => gate),
    );
  }

  #changed({ source: value, site, cause, reason, now, planned }: WarmUpChange): void {
    const { events, log, processes } = this.#setup;
    const told = { by: 'warmup' as const, cause, scope: 'source', value, site };
    const day = Number.isFinite(planned) ? planned * processes : null;
    events.limitChanged({
      ...told,
      messages_per_day: day,
      step: now.step + 1,
      ...(reason === '' ? {} : { reply: reason }),
    });
    log.info('limit.changed', { ...told, messages_per_s: null, reply: reason });
  }
}
