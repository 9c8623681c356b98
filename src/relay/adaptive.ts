/** The adaptive control of one relay process: told of results, sets limits, kept over a restart, says what it does. Part of the composition root. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { EventLog } from '../report/events.ts';
import type { SharedNews } from '../scheduler/shared-news.ts';
import { AdaptiveController, type LearnedLimit, type LimitChange } from '../shaping/adaptive/controller.ts';
import { AdaptiveFeed } from '../shaping/adaptive/feed.ts';
import { keyOf, keyText, type LimitKey } from '../shaping/adaptive/keys.ts';
import { LEARNED_FILE, readLearned } from '../shaping/adaptive/learned-file.ts';
import type { KeyNews } from '../shaping/adaptive/news.ts';
import { type Sharing, settingsOf } from '../shaping/adaptive/settings.ts';
import { KeptLines } from '../shaping/kept-lines.ts';
import type { Gate, GateKind } from '../shaping/message-gates.ts';
import { SourceBlocks } from '../shaping/source-blocks.ts';
import { LearnedNews } from './learned-news.ts';
import { type LimitAccess, OPEN } from './limit-access.ts';
import type { ProcessPlace } from './place.ts';

export interface RelayAdaptiveSetup {
  config: Config;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  limits: LimitAccess;
  place: Pick<ProcessPlace, 'others'>;
  nodes: SharedNews | null;
  /** Takes a line that another process said and that is no limit; false: it knows nothing of it. */
  other(line: string): boolean;
}

/** A rate that changed by less is not set anew. */
const LEAST_CHANGE = 0.01;

export class RelayAdaptive {
  readonly #setup: RelayAdaptiveSetup;
  readonly #controller: AdaptiveController;
  readonly #feed: AdaptiveFeed;
  readonly #news: LearnedNews;
  readonly #file: KeptLines;
  #config: Config;
  #blocks: SourceBlocks;
  /** What is set now, by key. */
  readonly #set = new Map<string, LearnedLimit>();
  /** Messages taken by keys of sources, as of the last look. */
  readonly #taken = new Map<string, number>();
  readonly #gates = new Map<string, Gate>();
  #gatesChanged = false;
  /** What changed limits last, by key; times of day. */
  readonly #changes = new Map<string, { cause: string; atMs: number }>();

  constructor(setup: RelayAdaptiveSetup) {
    const { config, limits, log } = setup;
    this.#setup = setup;
    this.#config = config;
    this.#blocks = new SourceBlocks(config);
    const path = join(config.data_dir, LEARNED_FILE);
    this.#news = new LearnedNews({
      host: setup.place.others ?? null,
      nodes: setup.nodes,
      hear: (news) => this.#hear(news),
      tellAll: () => this.#controller.shareAll(steadyMs()),
      other: (line) => setup.other(line),
      alone: () => this.#controller.alone(steadyMs()),
    });
    const sharing: Sharing = {
      me: `${config.node_id}/${randomBytes(6).toString('hex')}`,
      part: ({ scope, value, site }) => limits.part(scope === 'source' ? value : null, site),
      isLeased: setup.nodes !== null,
    };
    this.#controller = new AdaptiveController(
      settingsOf(() => this.#config.adaptive, sharing),
      {
        ...(this.#news.isShared ? { news: (news) => this.#news.tell(news) } : {}),
        timeOfDay: timeOfDayMs,
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
      netblockOf: (source) => this.#blocks.of(source),
      sourcesIn: (netblock) => this.#blocks.in(netblock),
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
    this.#news.start();
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
    if (!this.#controller.hasNarrow) return;
    const block: LimitKey = { scope: 'netblock', value: this.#blocks.of(source), site };
    this.#close([source], site, this.#controller.limitOf(block).closedUntilMs);
  }

  tick(): void {
    if (this.#config.adaptive.mode === 'off' || this.#controller.limited === 0) return;
    const nowMs = steadyMs();
    if (this.#news.isShared) this.#lookForProbes(nowMs);
    this.#controller.tick(nowMs);
    this.#postGates();
  }

  /** Says a line to all other processes. */
  say(line: string): void {
    if (this.#news.isShared) this.#news.say(line);
  }

  /** What other processes said. */
  heard(lines: readonly string[]): void {
    this.#news.take(lines);
    this.#postGates();
  }

  #hear(news: KeyNews): void {
    if (this.#config.adaptive.mode === 'off') return;
    const key = keyOf(news.key);
    if (key === null) return;
    // A key that is no source is counted by what it was sent itself.
    const isSource = key.scope === 'source';
    const open = isSource ? (this.#setup.limits.key(key.value, key.site)?.open ?? 0) : 0;
    this.#controller.hear(news, { within: isSource ? [key] : [], open }, steadyMs());
    this.#changes.set(news.key, { cause: 'told by another process', atMs: timeOfDayMs(steadyMs()) });
    this.#file.changed();
  }

  /** Tells the others of probes that have gone out: of sources, whose messages are counted. */
  #lookForProbes(nowMs: number): void {
    for (const { key, limit } of this.#controller.limits()) {
      if (key.scope !== 'source') continue;
      const text = keyText(key);
      const taken = this.#setup.limits.key(key.value, key.site)?.taken ?? 0;
      if (limit.probing && this.#taken.has(text) && this.#taken.get(text) !== taken)
        this.#controller.sent(key, nowMs);
      this.#taken.set(text, taken);
    }
  }

  reconfigure(config: Config): void {
    const before = this.#config.adaptive.mode;
    this.#config = config;
    this.#blocks = new SourceBlocks(config);
    if (before === config.adaptive.mode) return;
    // What was set is taken back; what is to be set comes with the next tick.
    for (const { key } of this.#controller.limits())
      if (key.scope === 'source') this.#apply(key.value, key.site, null);
      else if (key.scope === 'netblock') this.#close(this.#blocks.in(key.value), key.site, 0);
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

  /** The same of the block of addresses that a source is in. */
  saysOfBlock(source: string, site: string): { setBy: string; sinceMs: number | null } {
    return this.says('netblock', this.#blocks.of(source), site);
  }

  async close(): Promise<void> {
    this.#news.stop();
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
    // Where it is closed, mail is to leave by sources elsewhere; its rate is one for all of its sources, and a gate.
    if (key.scope === 'netblock') this.#close(this.#blocks.in(key.value), key.site, limit.closedUntilMs);
  }

  #close(sources: readonly string[], site: string, closedUntilMs: number): void {
    if (this.#config.adaptive.mode !== 'on' && closedUntilMs > 0) return;
    for (const source of sources)
      this.#setup.limits.set(source, site, 'netblock', { ...OPEN, closedUntilMs });
  }

  #apply(source: string, site: string, limit: LearnedLimit | null): void {
    const {
      messagesPerS = Number.POSITIVE_INFINITY,
      connections = Number.POSITIVE_INFINITY,
      closedUntilMs = 0,
      probing = false,
    } = limit ?? {};
    if (this.#config.adaptive.mode !== 'on' && limit !== null) return;
    this.#setup.limits.set(source, site, 'adaptive', {
      messagesPerS,
      connections,
      closedUntilMs,
      // A probe is one message, whoever sends it.
      isShared: !probing,
    });
  }

  #gate(
    text: string,
    { scope, value, site }: LimitKey,
    { phase, messagesPerS, closedUntilMs, probing }: LearnedLimit,
  ): void {
    this.#gatesChanged = true;
    if (phase === 'free') this.#gates.delete(text);
    else
      this.#gates.set(text, {
        kind: scope as GateKind,
        value,
        site,
        messagesPerS: messagesPerS * (probing ? 1 : this.#setup.limits.part(null, site)),
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
