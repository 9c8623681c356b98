/** What connections that end, or do not come about, say of the limits of a peer, told to who learns them (docs/shaping.md). */
import type { LaneLimits } from '../shaping/lane-limits.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import { textOf } from './client/used-up.ts';

type Limits = Pick<LaneLimits, 'usedUp' | 'refused'> | null;

/** Reasons for which a peer that has as many connections as it wants may take no further one. Silence may be the network's. */
const TAKES_NO_MORE: ReadonlySet<string> = new Set([
  'connect_failed',
  'connection_lost',
  'peer_4xx',
  'peer_refused',
]);

/** The session has ended. */
export function tellUsedUp(limits: Limits, { usedUp, accepted, startedAtMs }: ClientSession): void {
  if (usedUp !== null) limits?.usedUp(accepted, usedUp.isSaid, usedUp.reply, startedAtMs);
}

/** A reply says that there are too many connections, this one among them. */
export function tellRefused(limits: Limits, { served, transactions, startedAtMs }: ClientSession): void {
  // Where it was not ready yet, the next host may take us: `tellNoSession`.
  if (served && transactions <= 1) limits?.refused(1, true, '', startedAtMs);
}

/** No host gave a session. @param begunMs when the first was asked. */
export function tellNoSession(limits: Limits, { reason, reply, verdict }: Fault, begunMs: number): void {
  if (!TAKES_NO_MORE.has(reason)) return;
  const kind = verdict?.class ?? 'unknown';
  if (kind !== 'connection_limit' && kind !== 'unknown') return;
  limits?.refused(0, kind === 'connection_limit', reply === null ? '' : textOf(reply), begunMs);
}
