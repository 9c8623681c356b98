/** The lock on a server that a relay process holds as long as it lives (node-claim.ts), and which processes lost it. */
import { createHash } from 'node:crypto';
import type { Connection } from 'mariadb';

/** Name of the lock. Locks belong to the whole server, and their names have 64 characters at most. */
export function nodeLockName(database: string, node: string): string {
  return `protorelay-${createHash('sha256').update(`${database}\n${node}`).digest('hex').slice(0, 40)}`;
}

/**
 * Which of these lives ('node#life') died: their lock is free, and they did not sign off. A life that hangs or is cut
 * off keeps its lock for half a lease longer than its rows.
 */
export async function livesThatDied(
  connection: Connection,
  database: string,
  nodes: ReadonlySet<string>,
): Promise<string[]> {
  const died: string[] = [];
  for (const node of nodes) {
    const [found] = await connection.query<{ life: string; free: number | null }[]>(
      'SELECT life, IS_FREE_LOCK(?) AS free FROM relay_lives WHERE node = ?',
      [nodeLockName(database, node), node],
    );
    if (found !== undefined && Number(found.free) === 1) died.push(found.life);
  }
  return died;
}
