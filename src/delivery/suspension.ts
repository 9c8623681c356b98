/** Whether a destination is left alone: after connections that failed one after another, longer each time. */
import type { Config } from '../config/schema.ts';

export interface SuspensionPorts {
  readonly config: Config;
  now(): number;
}

export class Suspension {
  readonly #ports: SuspensionPorts;
  /** Connections that failed one after another. */
  #failures = 0;
  #lastsMs = 0;
  untilMs = 0;

  constructor(ports: SuspensionPorts) {
    this.#ports = ports;
  }

  get active(): boolean {
    return this.untilMs > this.#ports.now();
  }

  /** Failures need not be remembered any more. */
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

  /** The peer serves us. True: it was suspended before. */
  end(): boolean {
    this.#failures = 0;
    this.#lastsMs = 0;
    if (this.untilMs === 0) return false;
    this.untilMs = 0;
    return true;
  }

  /** One try ahead of time: when it fails too, the next one lasts longer. */
  lift(): void {
    this.untilMs = 0;
  }
}
