/** A claim from several shards as one. */
import type { ClaimRequest, ClaimResult, ShardDue } from './database.ts';
import { earlier } from './shard-merge.ts';

export interface ClaimPorts<Shard> {
  /** When to look again at a shard that could not be asked. */
  retryAtMs: number;
  /** Whether there are others, should a shard fail. */
  mayFail: boolean;
  isOpen(shard: Shard): boolean;
  claim(shard: Shard, request: ClaimRequest): Promise<ClaimResult>;
}

/** Asks shard after shard until there is enough. @throws the error of the only shard. */
export async function claimInTurn<Shard extends { id: number }>(
  shards: readonly Shard[],
  request: ClaimRequest,
  { retryAtMs, mayFail, isOpen, claim }: ClaimPorts<Shard>,
): Promise<ClaimResult> {
  const { nowMs } = request;
  const due: ShardDue[] = [];
  const result: ClaimResult = { jobs: [], nextDueMs: null, short: false, shards: due };
  let recipients = 0;
  let failure: unknown = null;
  for (const shard of shards) {
    const limit = request.limit - result.jobs.length;
    const maxRecipients = request.maxRecipients - recipients;
    // A shard that is not asked may have more, so look there again now.
    let nextDueMs: number | null = nowMs;
    if (!isOpen(shard)) {
      due.push({ shard: shard.id, nextDueMs: retryAtMs });
      continue;
    }
    if (limit > 0 && maxRecipients > 0 && !result.short) {
      try {
        const part = await claim(shard, { ...request, limit, maxRecipients });
        for (const job of part.jobs) {
          result.jobs.push(job);
          recipients += job.recipients.length;
        }
        result.short = part.short;
        nextDueMs = part.short ? nowMs : part.nextDueMs;
      } catch (error) {
        // Its rows wait, and are looked for when the shard may be back.
        failure = error;
        due.push({ shard: shard.id, nextDueMs: retryAtMs });
        continue;
      }
    }
    result.nextDueMs = earlier(result.nextDueMs, nextDueMs);
    due.push({ shard: shard.id, nextDueMs });
  }
  if (result.nextDueMs !== null && result.nextDueMs < nowMs) result.nextDueMs = nowMs;
  if (failure !== null && result.jobs.length === 0 && !mayFail) throw failure;
  return result;
}
