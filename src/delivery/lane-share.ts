/**
 * What a lane (a destination and the source its mail leaves from) may take of the limits of its site. The site is known once
 * the route is; a domain that moves to other MX hosts takes its limits from then on there.
 */
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { Site } from '../shaping/sites.ts';
import type { Attempt } from './attempt.ts';
import type { Host } from './route.ts';

export interface LaneSharePorts {
  now(): number;
  /** Takes the limits of a site, for the lane's source. */
  enter(site: Site, hosts: readonly Host[]): Promise<LaneLimits>;
  release(limits: LaneLimits): void;
  /** Calls `due`, and then `pump`, at this time. */
  at(atMs: number): void;
}

/** A limit that lets mail through sooner than this is waited for; else the mail goes back to the queue meanwhile. */
const SOON_MS = 3000;

export class LaneShare {
  readonly #ports: LaneSharePorts;
  limits: LaneLimits | null = null;
  #limitedUntilMs = 0;
  #limitedBy = '';
  /** A timer runs that calls `pump`. */
  #waits = false;

  constructor(ports: LaneSharePorts) {
    this.#ports = ports;
  }

  /** @param site undefined where the operator chose the hosts: such mail has no limits but those of the config. */
  async routed(site: Site | undefined, hosts: readonly Host[]): Promise<void> {
    const before = this.limits;
    if (site === undefined) this.limits = null;
    else this.limits = await this.#ports.enter(site, hosts);
    if (before !== null) this.#ports.release(before);
  }

  leave(): void {
    if (this.limits !== null) this.#ports.release(this.limits);
    this.limits = null;
  }

  /** Whether a message may go now; if not, `at` is called when one may, or soon, and then `isClosed`. */
  takesMessage(): boolean {
    if (this.limits === null) return true;
    const atMs = this.limits.takeMessage(this.#ports.now());
    if (atMs === 0) return true;
    this.limited(atMs);
    return false;
  }

  /** A limit lets nothing through before then. */
  limited(atMs: number): void {
    const nowMs = this.#ports.now();
    const isLong = atMs - nowMs > SOON_MS;
    if (isLong) {
      this.#limitedUntilMs = atMs;
      this.#limitedBy = this.limits?.refusal ?? '';
    }
    if (this.#waits) return;
    this.#waits = true;
    this.#ports.at(isLong ? nowMs : atMs);
  }

  /** The time that `at` was given has come. */
  due(): void {
    this.#waits = false;
  }

  /** Whether messages wait for their time, so that neither sessions nor more connections are of use. */
  get holdsBack(): boolean {
    return this.#waits;
  }

  /** Whether mail is to wait in the queue. */
  get isClosed(): boolean {
    return this.#limitedUntilMs > this.#ports.now();
  }

  get closedUntilMs(): number {
    return this.#limitedUntilMs;
  }

  get closedBy(): string {
    return this.#limitedBy;
  }

  /** Notes on an attempt its site, and what the site says of retries. */
  mark(attempt: Attempt): void {
    attempt.retryDelaysMs = this.limits?.fixed.retry?.delays_ms ?? null;
    attempt.site = this.limits?.site.key ?? '';
  }
}
