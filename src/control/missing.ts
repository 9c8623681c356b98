/** What answers leave out, since a part of the queue cannot be seen. */
import type { Missing } from '../database/database.ts';
import { shardOfQueueId } from '../mail/queue-id.ts';

/** Of what is missing that which messages with these ids may lie in. */
export function concerning(missing: readonly Missing[], queueIds: readonly string[]): Missing[] {
  const shards = new Set(queueIds.map(shardOfQueueId));
  return missing.filter(({ shard }) => shard === undefined || shards.has(shard));
}

/** Each part once. */
export function union(parts: readonly (readonly Missing[])[]): Missing[] {
  const all = new Map<string, Missing>();
  for (const one of parts.flat()) all.set(`${one.kind} ${one.name}`, one);
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
