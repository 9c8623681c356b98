/**
 * What a relay that ends waits for: commits of the mail that came in last, commits of the results of deliveries, and
 * the drain of the journal. It waits only a moment for a server that is away, because nothing is lost then: results go
 * into a file (Unsettled), and mail is in the journal. Part of the composition root.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { steadyMs } from '../base/steady.ts';
import { within } from '../base/within.ts';
import type { ShardedDatabase } from '../database/sharded-database.ts';
import type { ShardedCommits } from '../persistence/sharded-commits.ts';
import type { Intake } from './intake.ts';
import type { RelayJournal } from './journal.ts';

export interface LastWork {
  commits: Pick<ShardedCommits, 'drain' | 'busy' | 'holdsMail'>;
  journal: Pick<RelayJournal, 'settled' | 'drained' | 'busy'> | null;
  intake: Pick<Intake, 'retrying'>;
  /** null with sqlite. */
  shards: Pick<ShardedDatabase, 'isUp'> | null;
}

/** How long a server that is away is waited for: long enough for a quick restart or promotion. */
const AWAY_PATIENCE_MS = 2000;
const LOOK_MS = 100;

/** Resolves when nothing waits for a commit any more, not even what the database refused at first. */
export async function commitAll({ commits, journal, intake }: LastWork): Promise<void> {
  await journal?.settled();
  await commits.drain();
  while (intake.retrying > 0) {
    await delay(LOOK_MS);
    await commits.drain();
  }
}

/**
 * Waits for all commits, and at most `journalMs` for the journal; gives up servers that are away for AWAY_PATIENCE_MS.
 */
export async function finishWork(work: LastWork, journalMs: number): Promise<void> {
  const { journal, commits } = work;
  await journal?.settled();
  const last = unlessAway(work, commitAll(work), () => commits.busy());
  if (journal === null) return last;
  const drained = unlessAway(work, journal.drained(), () => journal.busy());
  await Promise.all([last, within(journalMs, drained)]);
}

/** Resolves with `work`, or when only shards that are away keep it waiting. @param busy shards that it waits for. */
async function unlessAway(
  { shards, intake, commits }: LastWork,
  work: Promise<void>,
  busy: () => readonly number[],
): Promise<void> {
  if (shards === null) return work;
  let done = false;
  const all = work.then(() => {
    done = true;
  });
  for (let sinceMs = steadyMs(); !done; ) {
    await within(LOOK_MS, all);
    // Mail that after_enqueue acknowledged exists nowhere else, so it is waited for.
    const holdsMail = intake.retrying > 0 || commits.holdsMail;
    const isAway = !holdsMail && busy().every((shard) => !shards.isUp(shard));
    if (!isAway) sinceMs = steadyMs();
    else if (steadyMs() - sinceMs >= AWAY_PATIENCE_MS) return;
  }
}
