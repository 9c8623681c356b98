/** What those that learn limits, or have plans and rules, may do with the limits of sites. */
import type { Gate } from '../shaping/message-gates.ts';

/** `netblock`: what is learned of the block of addresses that a source is in. */
export type LimitSetter = 'adaptive' | 'netblock' | 'warmup' | 'operator';

/** A source at a site that mail goes to now. */
export interface LiveKey {
  site: string;
  /** '' where it belongs to none. */
  provider: string;
  source: string;
  /** Messages taken since it began; wraps around. */
  taken: number;
  open: number;
  /** By the data, for all processes; Infinity: no limit. */
  maxConnections: number;
}

export interface LimitAccess {
  keys(): Iterable<LiveKey>;
  key(source: string, site: string): LiveKey | null;
  /**
   * Sets what the source may send to the site from this process; Infinity: as much as else.
   * @param closedUntilMs steady time; 0: it is open. @param isShared the limit is of all processes that share limits.
   */
  set(
    source: string,
    site: string,
    by: LimitSetter,
    limit: { messagesPerS: number; connections: number; closedUntilMs: number; isShared?: boolean },
  ): void;
  /** Sets all gates of this setter, in place of those it set before. Rates are those of the process. */
  gates(by: LimitSetter, gates: readonly Gate[]): void;
  /** What of a limit of all processes this one has, 0 … 1; without a source, or where nothing goes: an equal part. */
  part(source: string | null, site: string): number;
}

export const OPEN = {
  messagesPerS: Number.POSITIVE_INFINITY,
  connections: Number.POSITIVE_INFINITY,
  closedUntilMs: 0,
} as const;
