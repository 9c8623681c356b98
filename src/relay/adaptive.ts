/** The adaptive control of one relay process: told of results, sets limits, kept over a restart, says what it does. Part of the composition root. */
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import { AdaptiveController, type LearnedLimit, type LimitChange } from '../shaping/adaptive/controller.ts';
import { AdaptiveFeed } from '../shaping/adaptive/feed.ts';
import { keyText, type LimitKey } from '../shaping/adaptive/keys.ts';
import { LEARNED_FILE, readLearned } from '../shaping/adaptive/learned-file.ts';
import { settingsOf } from '../shaping/adaptive/settings.ts';
import { KeptLines } from '../shaping/kept-lines.ts';
import type { Gate, GateKind } from '../shaping/message-gates.ts';
import type { LimitAccess } from './limit-access.ts';

export interface RelayAdaptiveSetup {
  config: Config;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  limits: LimitAccess;
}

/** A rate that changed by less is not set anew. */
const LEAST_CHANGE = 0.01;

export class RelayAdaptive {
  readonly #setup: RelayAdaptiveSetup;
  readonly #controller: AdaptiveController;
  readonly #feed: AdaptiveFeed;
  readonly #file: KeptLines;
  #config: Config;
  /** What is set now, by key. */
  readonly #set = new Map<string, LearnedLimit>();
  readonly #gates = new Map<string, Gate>();
  #gatesChanged = false;
  /** What changed limits last, by key; times of day. */
  readonly #changes = new Map<string, { cause: string; atMs: number }>();

  constructor(setup: RelayAdaptiveSetup) {
    const { config, limits, log } = setup;
    this.#setup = setup;
    this.#config = config;
    const path = join(config.data_dir, LEARNED_FILE);
    this.#controller = new AdaptiveController(
      settingsOf(() => this.#config.adaptive),
      {
        changed: (change) => this.#changed(change),
        limit: (key, limit) => this.#limit(key, limit),
      },
    );
    this.#feed = new AdaptiveFeed(this.#controller, {
      now: steadyMs,
      connections: ({ value, site }) => {
        const key = limits.key(value, site);
        return { open: key?.open ?? 0, most: key?.maxConnections ?? Number.POSITIVE_INFINITY };
      },
    });
    this.#file = new KeptLines({
      path,
      lines: () => this.#controller.save(timeOfDayMs(0)),
      now: steadyMs,
      setTimer: (ms, fire) => void setTimeout(fire, ms).unref(),
      failed: (error) => log.warn('limits.not_kept', { path, error }),
    });
    this.#restore(path);
  }

  #restore(path: string): void {
    const { log } = this.#setup;
    try {
      const { records, bad } = readLearned(path);
      if (bad > 0) log.warn('limits.damaged', { path, lines: bad });
      this.#controller.restore(records, timeOfDayMs(0), steadyMs());
    } catch (error) {
      log.warn('limits.not_kept', { path, error });
    }
  }

  /** What was learned before the start holds on. */
  start(): void {
    this.#postGates();
  }

  take(results: readonly AttemptResult[]): void {
    if (this.#config.adaptive.mode === 'off') return;
    this.#feed.take(results);
    this.#postGates();
  }

  /** Mail begins to go to a site. */
  begins(source: string, site: string): void {
    const limit = this.#controller.limitOf({ scope: 'source', value: source, site });
    if (limit.phase !== 'free' || Number.isFinite(limit.connections)) this.#apply(source, site, limit);
  }

  tick(): void {
    if (this.#config.adaptive.mode === 'off' || this.#controller.limited === 0) return;
    this.#controller.tick(steadyMs());
    this.#postGates();
  }

  reconfigure(config: Config): void {
    const before = this.#config.adaptive.mode;
    this.#config = config;
    if (before === config.adaptive.mode) return;
    // What was set is taken back; what is to be set comes with the next tick.
    for (const { key } of this.#controller.limits())
      if (key.scope === 'source') this.#apply(key.value, key.site, null);
    this.#set.clear();
    this.#gates.clear();
    this.#gatesChanged = true;
    this.#postGates();
  }

  /** Where a limit comes from. @param scope and value: of a gate, or `source` and its name. */
  says(scope: LimitKey['scope'], value: string, site: string): { setBy: string; sinceMs: number | null } {
    const key: LimitKey = { scope, value, site };
    const reply = this.#controller.replyOf(key);
    const { cause, atMs } = this.#changes.get(keyText(key)) ?? { cause: '', atMs: null };
    const how = cause === '' ? 'adaptive' : `adaptive, ${cause}`;
    return { setBy: reply === '' ? how : `${how}: ${reply}`, sinceMs: atMs };
  }

  async close(): Promise<void> {
    if (this.#controller.limited > 0 || this.#file.written) await this.#file.close();
  }

  #limit(key: LimitKey, limit: LearnedLimit): void {
    if (this.#config.adaptive.mode !== 'on') return;
    const text = keyText(key);
    const set = this.#set.get(text);
    if (set !== undefined && isNearly(set, limit)) return;
    if (limit.phase === 'free' && !Number.isFinite(limit.connections)) this.#set.delete(text);
    else this.#set.set(text, limit);
    if (key.scope === 'source') this.#apply(key.value, key.site, limit);
    else this.#gate(text, key, limit);
  }

  #apply(source: string, site: string, limit: LearnedLimit | null): void {
    const {
      messagesPerS = Number.POSITIVE_INFINITY,
      connections = Number.POSITIVE_INFINITY,
      closedUntilMs = 0,
    } = limit ?? {};
    if (this.#config.adaptive.mode !== 'on' && limit !== null) return;
    this.#setup.limits.set(source, site, 'adaptive', { messagesPerS, connections, closedUntilMs });
  }

  #gate(
    text: string,
    { scope, value, site }: LimitKey,
    { phase, messagesPerS, closedUntilMs }: LearnedLimit,
  ): void {
    this.#gatesChanged = true;
    if (phase === 'free') this.#gates.delete(text);
    else
      this.#gates.set(text, {
        kind: scope as GateKind,
        value,
        site,
        messagesPerS,
        closedUntilMs,
        by: 'adaptive',
      });
  }

  #postGates(): void {
    if (!this.#gatesChanged) return;
    this.#gatesChanged = false;
    this.#setup.limits.gates('adaptive', [...this.#gates.values()]);
  }

  #changed({ key, before, now, cause, reply, refusals }: LimitChange): void {
    this.#file.changed();
    const { scope, value, site } = key;
    if (cause === 'forgotten' || (now.phase === 'free' && !Number.isFinite(now.connections)))
      this.#changes.delete(keyText(key));
    else this.#changes.set(keyText(key), { cause, atMs: timeOfDayMs(steadyMs()) });
    const isObserved = this.#config.adaptive.mode === 'observe';
    const closedUntil =
      now.closedUntilMs > 0 ? new Date(timeOfDayMs(now.closedUntilMs)).toISOString() : undefined;
    const told = {
      by: 'adaptive' as const,
      cause,
      scope,
      value,
      site,
      messages_per_s: rateOf(now.messagesPerS),
    };
    this.#setup.events.limitChanged({
      ...told,
      messages_per_s_before: rateOf(before.messagesPerS),
      connections: rateOf(now.connections),
      connections_before: rateOf(before.connections),
      ...(closedUntil === undefined ? {} : { closed_until: closedUntil }),
      refusals,
      reply,
      ...(isObserved ? { observed: true } : {}),
    });
    this.#setup.log.info('limit.changed', {
      ...told,
      reply,
      ...(closedUntil === undefined ? {} : { ends_at: closedUntil }),
    });
  }
}

const rateOf = (rate: number): number | null =>
  Number.isFinite(rate) ? Math.round(rate * 10_000) / 10_000 : null;

function isNearly(a: LearnedLimit, b: LearnedLimit): boolean {
  const isSame =
    a.phase === b.phase && a.closedUntilMs === b.closedUntilMs && a.connections === b.connections;
  return isSame && !(Math.abs(a.messagesPerS - b.messagesPerS) > LEAST_CHANGE * a.messagesPerS);
}
