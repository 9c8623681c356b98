/** Whether a destination is suspended: after several connections in a row failed, each time for longer. */
import type { Config } from '../config/schema.ts';

export interface SuspensionPorts {
  readonly config: Config;
  now(): number;
}

export class Suspension {
  readonly #ports: SuspensionPorts;
  /** How many connections failed one after another. */
  #failures = 0;
  #lastsMs = 0;
  untilMs = 0;

  constructor(ports: SuspensionPorts) {
    this.#ports = ports;
  }

  get active(): boolean {
    return this.untilMs > this.#ports.now();
  }

  /** Whether its failures need not be remembered any more. */
  get forgettable(): boolean {
    const { suspend_ms } = this.#ports.config.delivery;
    return this.#failures === 0 || this.untilMs + suspend_ms <= this.#ports.now();
  }

  /** A connection failed. */
  count(): void {
    this.#failures++;
  }

  get due(): boolean {
    return this.#failures >= this.#ports.config.delivery.suspend_after_failures;
  }

  begin(): void {
    const { delivery, retry } = this.#ports.config;
    const longest = Math.max(delivery.suspend_ms, retry.max_delay_ms);
    this.#lastsMs = Math.min(this.#lastsMs === 0 ? delivery.suspend_ms : this.#lastsMs * 2, longest);
    this.untilMs = this.#ports.now() + this.#lastsMs;
  }

  /** The peer serves us. @returns whether it was suspended before. */
  end(): boolean {
    this.#failures = 0;
    this.#lastsMs = 0;
    if (this.untilMs === 0) return false;
    this.untilMs = 0;
    return true;
  }

  /** Allows one try ahead of time. If that fails, too, the next suspension lasts longer. */
  lift(): void {
    this.untilMs = 0;
  }
}
