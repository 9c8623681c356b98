/** A shard in the words of docs/words.md, as `db shards --json` prints it. */
import type { ShardReport } from '../database/shard-setup.ts';
import { textOrNull, timeOrNull } from './words.ts';

export interface ShardAnswer {
  id: number;
  name: string;
  weight: number;
  up: boolean;
  /** Since when it is down. */
  down_at: string | null;
  errors: number;
  last_error: string | null;
  latency_ms: number | null;
  free_connections: number;
  /** null while it is down. */
  messages: number | null;
  waiting_entries: number | null;
}

export const shardAnswer = (shard: ShardReport): ShardAnswer => ({
  id: shard.id,
  name: shard.name,
  weight: shard.weight,
  up: shard.up,
  down_at: timeOrNull(shard.downSinceMs),
  errors: shard.errors,
  last_error: textOrNull(shard.lastError),
  latency_ms: shard.latencyMs,
  free_connections: shard.freeConnections,
  messages: shard.mails,
  waiting_entries: shard.waitingRows,
});
