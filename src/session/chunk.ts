/** Between the chunks of a content (RFC 3030): answers each chunk, and sees to it that the next one comes in time. */
import { REPLY } from '../protocol/reply.ts';
import { contentRefusal } from './content-refusal.ts';
import type { Session } from './session.ts';
import type { SessionSettings } from './settings.ts';
import { READY, type SessionState } from './state.ts';

/** A chunk that is not the last was read. */
export function chunkRead(
  session: Session,
  state: Extract<SessionState, { phase: 'chunk' }>,
  flags: number,
  detail: number,
): void {
  const { transaction, octets, chunkOctets, sinceMs } = state;
  const { settings, clock, port } = session.context;
  const refusal = contentRefusal(settings, transaction.envelope.body, flags, detail);
  if (refusal !== null) {
    // RFC 3030 §2: a failed chunk ends the transaction; chunks that still come are refused.
    port.dropContent(session.connection);
    session.offerRefused = true;
    session.reply(refusal);
    session.proceed(READY);
  } else if (isTooSlow(settings, octets, clock.steadyMs - sinceMs)) {
    session.reply(REPLY.too_slow.with(settings.hostname));
  } else {
    if (chunkOctets > 0) session.movedOn();
    session.reply(REPLY.chunk_ok.with(chunkOctets));
    const untilMs = clock.steadyMs + settings.dataTimeoutMs;
    session.proceed({ phase: 'chunks', transaction, octets, sinceMs, untilMs });
  }
}

/** Whether the content's mean rate, time between its chunks included, is too low. Never before the grace is over. */
function isTooSlow(settings: SessionSettings, octets: number, elapsedMs: number): boolean {
  const { minRateBytesPerSecond: least, minRateGraceMs } = settings;
  return elapsedMs > minRateGraceMs && octets * 1000 < least * elapsedMs;
}

/**
 * How long the next command may take. A content that has begun, and an envelope, which takes of the memory that all
 * clients share, have a deadline of their own: commands in between do not prolong it.
 */
export function commandTimeMs({ state, context, forwardMs }: Session): number {
  const { settings, clock } = context;
  const ms = settings.commandTimeoutMs;
  if (state.phase === 'envelope') return Math.max(1, Math.min(ms, forwardMs + ms - clock.steadyMs));
  return state.phase === 'chunks' ? Math.max(1, Math.min(ms, state.untilMs - clock.steadyMs)) : ms;
}
