/** Parts of the queue that cannot be seen, and so are missing from answers. */
import type { Missing } from '../database/database.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';

/** The missing parts in which messages with these ids may lie. */
export function concerning(missing: readonly Missing[], queueIds: readonly string[]): Missing[] {
  if (queueIds.length === 0) return [];
  const shards = new Set(queueIds.map(shardOfQueueId));
  return missing.filter((one) => one.shards?.some((shard) => shards.has(shard)) ?? true);
}

/**
 * The missing parts that matter when the queue was asked for messages by id. Those found lie in a part that answered: what
 * it says of them can be wrong only where results of deliveries are not in the queue yet.
 */
export function concerningNamed(
  missing: readonly Missing[],
  found: readonly string[],
  notFound: readonly string[],
): Missing[] {
  const results = missing.filter(({ kind }) => kind === 'results');
  return union([concerning(missing, notFound), concerning(results, found)]);
}

/** All parts, each once. */
export function union(parts: readonly (readonly Missing[])[]): Missing[] {
  const all = new Map<string, Missing>();
  for (const one of parts.flat()) {
    const key = `${one.kind} ${one.name}`;
    const { shards } = all.get(key) ?? one;
    // Without `shards` a part may have any message: then so does the union.
    const { shards: also, ...rest } = one;
    if (shards === undefined || also === undefined) all.set(key, rest);
    else all.set(key, { ...rest, shards: [...new Set([...shards, ...also])].sort((a, b) => a - b) });
  }
  return [...all.values()];
}

const WORDS: Record<Missing['kind'], string> = {
  shard: 'shard',
  process: 'relay process',
  journal: 'journal',
  results: 'file',
};

/** 'shard s1 is down: …' */
export const missingText = ({ kind, name, detail }: Missing): string => `${WORDS[kind]} ${name} ${detail}`;
