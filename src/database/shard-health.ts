/**
 * Whether one shard can be used. It counts as down when an operation fails as unavailable, or gets no answer for too
 * long. From then on the shard is asked nothing, until a probe, after a growing pause, finds that it answers again.
 * So a shard that is away costs others nothing, and is not hammered when it comes back.
 */
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

export interface HealthOptions {
  name: string;
  /** An operation that takes longer is a sign that the shard hangs. */
  silenceMs: number;
  retryDelayMs: number;
  maxRetryDelayMs: number;
  log: Log;
  /** A steady clock. */
  now: () => number;
  /** The time of day, for display. */
  wall: () => number;
  /** Asks the shard for an answer, and does what a shard needs that came back. */
  probe(): Promise<void>;
  changed(): void;
}

interface Operation {
  sinceMs: number;
}

/** Weight of the newest measurement in the mean latency. */
const LATENCY_SHARE = 0.1;

export class ShardHealth {
  readonly #options: HealthOptions;
  #operations = new Set<Operation>();
  #down = false;
  #probing = false;
  #retryAtMs = 0;
  #retryDelayMs: number;
  #downSinceMs: number | null = null;
  #downAtMs = 0;
  #errors = 0;
  #lastError = '';
  #latencyMs: number | null = null;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#retryDelayMs = options.retryDelayMs;
  }

  get usable(): boolean {
    return !this.#down;
  }

  stats(): {
    up: boolean;
    downSinceMs: number | null;
    errors: number;
    lastError: string;
    latencyMs: number | null;
  } {
    return {
      up: !this.#down,
      downSinceMs: this.#downSinceMs,
      errors: this.#errors,
      lastError: this.#lastError,
      latencyMs: this.#latencyMs === null ? null : Math.round(this.#latencyMs * 10) / 10,
    };
  }

  /**
   * Does the work, unless the shard is down.
   * @param long the work may take its time (a look at the whole queue): that is no sign that the shard hangs.
   * @throws RelayError 'database_unavailable' at once when the shard is down; else what the work throws.
   */
  async watch<T>(work: () => Promise<T>, long = false): Promise<T> {
    if (this.#down)
      throw new RelayError('database_unavailable', `shard ${this.#options.name} is down: ${this.#lastError}`);
    const operation = { sinceMs: this.#options.now() };
    if (!long) this.#operations.add(operation);
    try {
      const value = await work();
      if (!long) this.#measured(this.#options.now() - operation.sinceMs);
      return value;
    } catch (error) {
      if (error instanceof RelayError && error.code === 'database_unavailable') this.#fail(error.message);
      else this.#errors++;
      throw error;
    } finally {
      this.#operations.delete(operation);
    }
  }

  #measured(tookMs: number): void {
    const before = this.#latencyMs;
    this.#latencyMs = before === null ? tookMs : before + (tookMs - before) * LATENCY_SHARE;
  }

  #fail(message: string): void {
    this.#errors++;
    this.#lastError = message;
    if (this.#down) return;
    const nowMs = this.#options.now();
    this.#down = true;
    this.#downSinceMs = this.#options.wall();
    this.#downAtMs = nowMs;
    this.#retryAtMs = nowMs + this.#retryDelayMs;
    // Operations still under way will say nothing about the shard once it is back.
    this.#operations = new Set();
    this.#options.log.warn('shard.down', { shard: this.#options.name, error: message });
    this.#options.changed();
  }

  /** Finds out that the shard is silent; probes it, when it is down, after each pause. Called a few times a second. */
  look(): void {
    const nowMs = this.#options.now();
    if (!this.#down) {
      for (const { sinceMs } of this.#operations)
        if (nowMs - sinceMs > this.#options.silenceMs) {
          this.#fail(`no answer for ${nowMs - sinceMs} ms`);
          return;
        }
      return;
    }
    if (!this.#probing && nowMs >= this.#retryAtMs) void this.#probe();
  }

  async #probe(): Promise<void> {
    this.#probing = true;
    try {
      await this.#options.probe();
      this.#down = false;
      this.#downSinceMs = null;
      this.#retryDelayMs = this.#options.retryDelayMs;
      this.#options.log.info('shard.up', {
        shard: this.#options.name,
        down_ms: this.#options.now() - this.#downAtMs,
      });
      this.#options.changed();
    } catch (error) {
      this.#lastError = (error as Error).message;
      this.#retryDelayMs = Math.min(this.#retryDelayMs * 2, this.#options.maxRetryDelayMs);
      this.#retryAtMs = this.#options.now() + this.#retryDelayMs;
    } finally {
      this.#probing = false;
    }
  }

  /** Makes the shard count as down from the start, because it has not answered yet. */
  startDown(message: string): void {
    this.#fail(message);
  }
}
