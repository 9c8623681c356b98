/** What operators do to rows of the outbox. */

/**
 * Waiting recipients that are meant get another destination. fail: one at which they end, with a report that has this text; reroute:
 * the key of a next hop, or null for what the config says.
 */
export type Move = { fail: string } | { reroute: string | null };

/**
 * flush: due now; hold: waits for release; release: due now. These are done to whole rows. delete: the waiting recipients
 * that are meant are removed, and the row with the last of them.
 */
export type OperateAction = 'flush' | 'hold' | 'release' | 'delete' | Move;

export type ActionName = Extract<OperateAction, string> | 'fail' | 'reroute';

export function nameOf(action: OperateAction): ActionName {
  if (typeof action === 'string') return action;
  return 'fail' in action ? 'fail' : 'reroute';
}
