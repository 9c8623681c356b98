/** Whether the relay lives, and whether new mail may be brought to it. Asked by anybody, so the answer is good for a second. */
import type { HostStatus, Impairment } from '../control/status.ts';
import { impairments } from '../control/status.ts';
import type { RelayLink } from './relay-link.ts';

/** A loop that does not turn within this time is stuck. */
const TURN_MS = 5000;
const GOOD_MS = 1000;

/** What keeps new mail out. With the rest of what impairs a relay, it takes mail still. */
const NOT_READY: readonly Impairment['cause'][] = [
  'pressure',
  'overloaded',
  'draining',
  'database_away',
  'storage_fault',
];

export interface Health {
  live: boolean;
  ready: boolean;
  /** Why it is not ready. */
  reasons: string[];
  /** What is wrong, and keeps no new mail out. */
  degraded: string[];
}

export class HealthWatch {
  readonly #link: RelayLink;
  readonly #steadyMs: () => number;
  #latest: Promise<Health> | null = null;
  #goodUntilMs = 0;

  constructor(link: RelayLink, steadyMs: () => number) {
    this.#link = link;
    this.#steadyMs = steadyMs;
  }

  read(): Promise<Health> {
    if (this.#latest === null || this.#steadyMs() >= this.#goodUntilMs) {
      this.#goodUntilMs = Number.POSITIVE_INFINITY;
      this.#latest = this.#look().finally(() => {
        this.#goodUntilMs = this.#steadyMs() + GOOD_MS;
      });
    }
    return this.#latest;
  }

  async #look(): Promise<Health> {
    try {
      return healthOf(await this.#link.ask((client) => client.status(), TURN_MS));
    } catch (error) {
      const silent = (error as { code?: string }).code === 'control_silent';
      return { live: false, ready: false, reasons: [silent ? 'silent' : 'starting'], degraded: [] };
    }
  }
}

export function healthOf(status: HostStatus): Health {
  const causes = [...new Set(impairments(status).map(({ cause }) => cause))];
  const reasons: string[] = causes.filter((cause) => NOT_READY.includes(cause));
  const { processes, listeners } = status;
  if (processes.length > 0 && !processes.some(({ state }) => state === 'ready')) reasons.push('starting');
  if (listeners.length === 0) reasons.push('no_listener');
  return {
    live: true,
    ready: reasons.length === 0,
    reasons,
    degraded: causes.filter((cause) => !NOT_READY.includes(cause)),
  };
}
