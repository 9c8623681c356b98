/** From limits as data to what a slot holds. */
import type { SlotLimits } from './limit-table.ts';
import type { Limits } from './limits.ts';
import { paceOf, RATE_NAMES, type RateName, SPANS } from './rate.ts';

/** So many messages one connection may carry at most (delivery.max_messages_per_connection is at most as high). */
const NO_LIMIT = 1_000_000;

/** @param share the part of the limits that this process may use, 0 … 1. */
export function slotLimits(limits: Limits, share: number): SlotLimits {
  const { max_connections = 0, messages_per_connection = NO_LIMIT } = limits;
  const pace = (name: RateName) => paceOf((limits[name] ?? 0) * share, SPANS[name]);
  return {
    maxConnections: max_connections === 0 ? 0 : Math.max(1, Math.floor(max_connections * share)),
    messagesPerConnection: messages_per_connection,
    paces: Object.fromEntries(RATE_NAMES.map((name) => [name, pace(name)])) as SlotLimits['paces'],
  };
}
