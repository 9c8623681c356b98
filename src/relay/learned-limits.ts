/** Limits learned of how connections end, in one relay process: set, told, kept over a restart. Part of the composition root. */
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { EventLog } from '../report/events.ts';
import { KeptLines } from '../shaping/kept-lines.ts';
import { type LearnedChange, LearnedLimits, type LearnedName } from '../shaping/learned/learned-limits.ts';
import { LEARNED_LIMITS_FILE, readLearnedLimits } from '../shaping/learned/learned-limits-file.ts';
import { type LimitSign, limitKeyText } from '../shaping/limit-key.ts';
import type { Cap, LimitKeys } from '../shaping/limit-keys.ts';

export interface RelayLearnedLimitsSetup {
  config: Config;
  log: Log;
  events: Pick<EventLog, 'limitChanged'>;
  keys: Pick<LimitKeys, 'cap' | 'limitsOf'>;
}

const nowMs = (): number => timeOfDayMs(steadyMs());

export class RelayLearnedLimits {
  readonly #setup: RelayLearnedLimitsSetup;
  readonly #learned: LearnedLimits;
  readonly #file: KeptLines;
  #mode: Config['adaptive']['mode'];

  constructor(setup: RelayLearnedLimitsSetup) {
    const { config, log, keys } = setup;
    this.#setup = setup;
    this.#mode = config.adaptive.mode;
    this.#learned = new LearnedLimits({
      ceiling: (key, limit) => keys.limitsOf(key)[limit],
      changed: (change) => this.#changed(change),
    });
    const path = join(config.data_dir, LEARNED_LIMITS_FILE);
    this.#file = new KeptLines({
      path,
      lines: () => this.#learned.all(),
      now: steadyMs,
      setTimer: (ms, fire) => void setTimeout(fire, ms).unref(),
      failed: (error) => log.warn('limits.not_kept', { path, error }),
    });
    try {
      const { records, bad } = readLearnedLimits(path);
      if (bad > 0) log.warn('limits.damaged', { path, lines: bad });
      this.#learned.restore(records, nowMs());
    } catch (error) {
      log.warn('limits.not_kept', { path, error });
    }
    this.#setAll();
  }

  saw(sign: LimitSign): void {
    if (this.#mode !== 'off') this.#learned.saw(sign, nowMs(), steadyMs());
  }

  tick(): void {
    if (this.#learned.size > 0) this.#learned.tick(nowMs());
  }

  reconfigure({ adaptive: { mode } }: Config): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    if (mode === 'off') this.#learned.clear();
    else this.#setAll();
  }

  /** Where a limit comes from, since when and until when, in times of day. */
  says(
    source: string,
    site: string,
    limit: string,
  ): { setBy: string; sinceMs: number | null; untilMs: number | null } {
    const learned = this.#learned.of(site, source, limit as LearnedName);
    if (learned === null) return { setBy: 'learned', sinceMs: null, untilMs: null };
    const { cause, reply, since_ms: sinceMs, until_ms: untilMs } = learned;
    const until = new Date(untilMs).toISOString();
    return { setBy: `learned until ${until}, ${cause}${reply === '' ? '' : `: ${reply}`}`, sinceMs, untilMs };
  }

  async close(): Promise<void> {
    if (this.#learned.size > 0 || this.#file.written) await this.#file.close();
  }

  #setAll(): void {
    for (const { site, source } of [...this.#learned.all()]) this.#set(site, source);
  }

  #set(site: string, source: string): void {
    const cap: { -readonly [K in keyof Cap]: Cap[K] } = {};
    for (const limit of ['messages_per_connection', 'max_connections'] as const) {
      const learned = this.#learned.of(site, source, limit);
      if (learned !== null) cap[limit] = learned.value;
    }
    const isSet = this.#mode === 'on' && Object.keys(cap).length > 0;
    this.#setup.keys.cap(limitKeyText({ site, source, provider: '' }), 'learned', isSet ? cap : null);
  }

  #changed({ site, source, limit, before, now }: LearnedChange): void {
    const { events, log } = this.#setup;
    this.#file.changed();
    this.#set(site, source);
    const value = now?.value ?? null;
    const told = {
      by: 'learned' as const,
      cause: now?.cause ?? 'expired',
      scope: 'source',
      value: source,
      site,
      ...(now === null ? {} : { ends_at: new Date(now.until_ms).toISOString() }),
    };
    const reply = now?.reply ?? '';
    events.limitChanged({
      ...told,
      ...(limit === 'max_connections'
        ? { connections: value, connections_before: before }
        : { messages_per_connection: value, messages_per_connection_before: before }),
      reply,
      ...(this.#mode === 'observe' ? { observed: true } : {}),
    });
    log.info('limit.changed', { ...told, [limit]: value, messages_per_s: null, reply });
  }
}
