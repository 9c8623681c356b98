/**
 * What a relay that ends waits for: what came in last and what deliveries came to, and that the journal is drained. A
 * server that is away is waited for a moment only, as nothing is lost by it: results go into a file (Unsettled), mail is
 * in the journal. Part of the composition root.
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

/** A restart of a server, or its promotion, may be over by then. */
const AWAY_MS = 2000;
const LOOK_MS = 100;

/** Resolves when nothing waits for a commit, what the database refused so far included. */
export async function commitAll({ commits, journal, intake }: LastWork): Promise<void> {
  await journal?.settled();
  await commits.drain();
  while (intake.retrying > 0) {
    await delay(LOOK_MS);
    await commits.drain();
  }
}

/** Waits for all commits, and at most so long for the journal; not for servers that are away for longer than AWAY_MS. */
export async function finishWork(work: LastWork, journalMs: number): Promise<void> {
  const { journal, commits } = work;
  await journal?.settled();
  const last = unlessAway(work, commitAll(work), () => commits.busy());
  if (journal === null) return last;
  const drained = unlessAway(work, journal.drained(), () => journal.busy());
  await Promise.all([last, within(journalMs, drained)]);
}

/** @param busy shards that it waits for. */
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
    // What after_enqueue has acknowledged is nowhere else.
    const holdsMail = intake.retrying > 0 || commits.holdsMail;
    const isAway = !holdsMail && busy().every((shard) => !shards.isUp(shard));
    if (!isAway) sinceMs = steadyMs();
    else if (steadyMs() - sinceMs >= AWAY_MS) return;
  }
}
