/**
 * What is remembered of hosts for a while. It is bounded, and the oldest is forgotten first. Times are steady
 * (base/steady.ts), so that a clock that is set back prolongs nothing.
 */
import type { Host } from './route.ts';

/** Each port of an address counts as another host: a relay at 587 says nothing of the exchanger at 25. */
export type Place = Pick<Host, 'address' | 'port'>;

/** Most hosts remembered by one RememberedHosts. */
const MAX_HOSTS = 10_000;
/** Most failed hosts remembered of one destination. */
const MAX_FAILED = 64;

class Marks<Mark> {
  readonly #marks = new Map<string, Mark>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  get(address: string): Mark | undefined {
    return this.#marks.get(address);
  }

  set(address: string, mark: Mark): void {
    this.#marks.delete(address);
    this.#marks.set(address, mark);
    if (this.#marks.size <= this.#most) return;
    for (const oldest of this.#marks.keys()) {
      this.#marks.delete(oldest);
      break;
    }
  }

  delete(address: string): void {
    this.#marks.delete(address);
  }

  values(): Iterable<Mark> {
    return this.#marks.values();
  }
}

/** Hosts of which one fact is remembered until a time, as that TLS failed, or that they lose commands sent ahead. */
export class RememberedHosts {
  readonly #until = new Marks<number>(MAX_HOSTS);

  add(host: Place, untilMs: number): void {
    this.#until.set(keyOf(host), untilMs);
  }

  has(host: Place, nowMs: number): boolean {
    const key = keyOf(host);
    const untilMs = this.#until.get(key);
    if (untilMs === undefined) return false;
    if (untilMs > nowMs) return true;
    this.#until.delete(key);
    return false;
  }

  delete(host: Place): void {
    this.#until.delete(keyOf(host));
  }
}

const keyOf = ({ address, port }: Place): string => `${address} ${port}`;

/** The hosts of one destination that failed lately, by address; they are tried after the others. All have the same port. */
export class FailedHosts {
  readonly #failed = new Marks<{ untilMs: number; unreachableUntilMs: number }>(MAX_FAILED);

  /** The host was reached, but did not take what it was given. */
  failed(address: string, untilMs: number): void {
    const unreachableUntilMs = this.#failed.get(address)?.unreachableUntilMs ?? 0;
    this.#failed.set(address, { untilMs, unreachableUntilMs });
  }

  /** The host gave no session. */
  unreachable(address: string, untilMs: number, unreachableUntilMs: number): void {
    this.#failed.set(address, { untilMs, unreachableUntilMs });
  }

  /** The host gave a session; whether it takes mail remains to be seen. */
  reached(address: string): void {
    const mark = this.#failed.get(address);
    if (mark !== undefined) mark.unreachableUntilMs = 0;
  }

  /** The host took a message. */
  works(address: string): void {
    this.#failed.delete(address);
  }

  has(address: string, nowMs: number): boolean {
    return (this.#failed.get(address)?.untilMs ?? 0) > nowMs;
  }

  isUnreachable(address: string, nowMs: number): boolean {
    return (this.#failed.get(address)?.unreachableUntilMs ?? 0) > nowMs;
  }

  /** Whether anything is still remembered. */
  any(nowMs: number): boolean {
    for (const { untilMs } of this.#failed.values()) if (untilMs > nowMs) return true;
    return false;
  }
}
