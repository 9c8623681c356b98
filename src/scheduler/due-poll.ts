/**
 * Learns of due work that this process did not put into the queue itself: rows of other nodes, and rows whose lease
 * ended without a word from its owner. It asks the queue one cheap question now and then, for at most a tenth of the
 * time.
 */
import type { DestinationBacklog } from '../database/database.ts';

export interface DuePollPorts {
  due(nowMs: number): Promise<DestinationBacklog[]>;
  discovered(found: DestinationBacklog[]): void;
  onError(error: unknown): void;
  /** The time of day. */
  now(): number;
  /** Steady time; default: `now`. */
  steady?(): number;
}

const REST_FACTOR = 10;

export class DuePoll {
  readonly #ports: DuePollPorts;
  readonly #intervalMs: () => number;
  #timer: NodeJS.Timeout | null = null;
  #running = false;
  #again = false;

  /** @param intervalMs asked before each pause. */
  constructor(ports: DuePollPorts, intervalMs: () => number) {
    this.#ports = ports;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#running = true;
    this.#later(this.#intervalMs());
  }

  /** The interval became shorter: shortens the pause under way as well. */
  hurry(): void {
    if (!this.#running || this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#later(this.#intervalMs());
  }

  /** Asks at once; where it is asking already, right after that. */
  askNow(): void {
    if (!this.#running) return;
    if (this.#timer === null) this.#again = true;
    else {
      clearTimeout(this.#timer);
      this.#later(0);
    }
  }

  stop(): void {
    this.#running = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #later(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#ask();
    }, delayMs).unref();
  }

  #steady(): number {
    return this.#ports.steady?.() ?? this.#ports.now();
  }

  async #ask(): Promise<void> {
    const sinceMs = this.#steady();
    try {
      const found = await this.#ports.due(this.#ports.now());
      if (this.#running && found.length > 0) this.#ports.discovered(found);
    } catch (error) {
      this.#ports.onError(error);
    }
    const tookMs = Math.max(0, this.#steady() - sinceMs);
    // At most ten intervals, however long the answer took: the process, or a server, may have stood still.
    const intervalMs = this.#intervalMs();
    const restMs = Math.min(tookMs, intervalMs) * REST_FACTOR;
    if (this.#running) this.#later(this.#again ? 0 : Math.max(intervalMs, restMs));
    this.#again = false;
  }
}
