/**
 * What a journal stores beside its segments: its name, the queues that its mail went to, and how far each is. The
 * shards know these marks better; here they tell that nothing waits for a shard that is gone.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import type { JournalMark as Mark } from '../database/database.ts';
import { ID_BYTES, JOURNAL_VERSION } from './format.ts';

export const NO_MARK: Mark = { seq: 0, pending: [] };

export interface JournalState {
  version: number;
  /** Name of the journal, hexadecimal. */
  journal: string;
  /** The number of this process among all that share the queue, and when it was last known to be ours. */
  slot: { number: number; seenAtMs: number } | null;
  /** The name of each shard's queue, by number of the shard. */
  queues: Record<string, string>;
  marks: Record<string, Mark>;
}

export const STATE_FILE = 'journal.json';

export const newState = (): JournalState => ({
  version: JOURNAL_VERSION,
  journal: randomBytes(ID_BYTES).toString('hex'),
  slot: null,
  queues: {},
  marks: {},
});

/** null when there is no such file. @throws RelayError when another version wrote it. */
export function readState(folder: string): JournalState | null {
  const path = join(folder, STATE_FILE);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  let state: JournalState;
  try {
    state = JSON.parse(text) as JournalState;
  } catch (error) {
    throw new RelayError('data_dir_unusable', `${path} is damaged: ${(error as Error).message}`, error);
  }
  if (state.version !== JOURNAL_VERSION) throw unknownVersion(path, state.version);
  return state;
}

export function unknownVersion(path: string, version: number): RelayError {
  return new RelayError(
    'schema_unknown',
    `${path} is of journal version ${version}, this relay knows version ${JOURNAL_VERSION}: run the relay that wrote it until its journal is empty`,
  );
}

/** Whether a shard has the record already. */
export const isPassed = (mark: Mark | undefined, seq: number): boolean =>
  mark !== undefined && seq <= mark.seq && !mark.pending.includes(seq);
