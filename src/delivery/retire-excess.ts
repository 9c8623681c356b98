/** Closes connections beyond those granted, idle ones first. Those being opened are closed once they are established. */
import type { ClientSession } from './client/session.ts';

export function retireExcess(
  sessions: Iterable<ClientSession>,
  idle: readonly ClientSession[],
  allowed: number,
): void {
  let excess = -allowed;
  for (const { retiring } of sessions) if (!retiring) excess++;
  for (const session of idle.slice(0, Math.max(0, excess))) {
    session.quit();
    excess--;
  }
  for (const session of sessions) {
    if (excess <= 0) break;
    if (session.retiring) continue;
    session.retiring = true;
    excess--;
  }
}
