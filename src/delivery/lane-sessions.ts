/** The established connections of a destination: which are at work, which wait for it, which are closing. */
import type { ClientSession } from './client/session.ts';

export class LaneSessions {
  readonly established = new Set<ClientSession>();
  readonly idle: ClientSession[] = [];
  /** Sessions that ended, but whose connection is not closed yet. */
  readonly closing = new Set<ClientSession>();

  get size(): number {
    return this.established.size + this.closing.size;
  }

  /** It gets work, or ends. */
  notIdle(session: ClientSession): void {
    const place = this.idle.indexOf(session);
    if (place !== -1) this.idle.splice(place, 1);
  }

  leave(session: ClientSession): void {
    this.established.delete(session);
    this.closing.add(session);
    this.notIdle(session);
  }

  /** Closes so many, those without work first; the others end after their present work. Those that end already count. */
  retireBeyond(most: number): void {
    let excess = -most;
    for (const { retiring } of this.established) if (!retiring) excess++;
    for (const session of this.idle.slice(0, Math.max(0, excess))) {
      session.quit();
      excess--;
    }
    for (const session of this.established) {
      if (excess <= 0) break;
      if (session.retiring) continue;
      session.retiring = true;
      excess--;
    }
  }

  /** All end after their present work. */
  retire(): void {
    for (const session of this.established) session.retiring = true;
    for (const session of [...this.idle]) session.quit();
  }
}
