/** From limits as data to what a slot holds. */
import { NO_CONNECTION, type SlotLimits } from './limit-table.ts';
import type { Limits } from './limits.ts';
import { paceOf, RATE_NAMES, type RateName, SPANS } from './rate.ts';

/** So many messages one connection may carry at most (delivery.max_messages_per_connection is at most as high). */
const NO_LIMIT = 1_000_000;

/** What this process may use of limits that it shares with others. */
export interface Share {
  /** The part of each limit, 0 … 1. */
  part: number;
  /** So many connections, instead of that part of them; null: that part. */
  connections: number | null;
  /** It may change soon. */
  isLease: boolean;
}

export const ALL: Share = { part: 1, connections: null, isLease: false };

/**
 * @param limits of all that share them.
 * @param own what holds for this process alone besides.
 */
export function slotLimits(limits: Limits, own: Limits, { part, connections, isLease }: Share): SlotLimits {
  const { max_connections: shared = 0 } = limits;
  const least = (one: number, other = 0): number => (one === 0 || (other !== 0 && other < one) ? other : one);
  const may = connections ?? (shared === 0 ? 0 : Math.max(1, Math.floor(shared * part)));
  const pace = (name: RateName) => paceOf(least((limits[name] ?? 0) * part, own[name]), SPANS[name]);
  return {
    maxConnections: connections === 0 ? NO_CONNECTION : least(may, own.max_connections),
    messagesPerConnection: Math.min(
      limits.messages_per_connection ?? NO_LIMIT,
      own.messages_per_connection ?? NO_LIMIT,
    ),
    isShare: isLease,
    paces: Object.fromEntries(RATE_NAMES.map((name) => [name, pace(name)])) as SlotLimits['paces'],
  };
}
