/** Tells the command line what the journal of a relay that does not run still holds. */
import type { JournalMark, Missing } from '../database/database.ts';
import { holdsRecords, type Share, scanSegments } from './segments.ts';
import { isPassed, NO_MARK, readState } from './state-file.ts';

/** Asks a shard how far it is; null when it cannot be asked. */
export type AskMark = (shard: number, journal: string) => Promise<JournalMark | null>;

/** Messages in the journal that are not in the queue. Changes nothing. */
export async function journalLeft(folder: string, askMark: AskMark): Promise<Missing[]> {
  if (!holdsRecords(folder)) return [];
  const state = readState(folder);
  const { segments, journal, withdrawn } = scanSegments(folder, state?.journal ?? null);
  const held = new Set(segments.flatMap(({ shares }) => [...shares.keys()]));
  const shards: number[] = [];
  let messages = 0;
  for (const shard of held) {
    const stored = state?.marks[String(shard)] ?? NO_MARK;
    const mark = (journal === null ? null : await askMark(shard, journal)) ?? stored;
    const ofShard = segments.reduce((sum, { shares }) => sum + leftOf(shares.get(shard), mark), 0);
    if (ofShard > 0) shards.push(shard);
    messages += ofShard;
  }
  const left = messages - withdrawn.size;
  if (left <= 0) return [];
  const detail = `holds about ${left} messages that are not in the queue: they go over when the relay is started`;
  return [{ kind: 'journal', name: folder, detail, shards }];
}

/** How many messages a shard has not taken over. If it has a part of them, all records count as messages. */
function leftOf(share: Share | undefined, mark: JournalMark): number {
  if (share === undefined) return 0;
  const { firstSeq, lastSeq, messages } = share;
  const pending = mark.pending.filter((seq) => seq >= firstSeq && seq <= lastSeq).length;
  if (isPassed(mark, lastSeq)) return pending;
  if (firstSeq > mark.seq) return messages;
  return Math.min(messages, lastSeq - mark.seq) + pending;
}
