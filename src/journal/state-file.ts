/**
 * What a journal remembers beside its segments: its name, which queues its mail went to, and how far. The marks are a
 * shortcut (the shards know better): they tell, where a shard is gone, that nothing of it waits.
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
  /** The number of this process among all that share the queue, and when it surely was ours. */
  slot: { number: number; seenAtMs: number } | null;
  /** By number of the shard: the name its queue has. */
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

/** null when there is none. @throws RelayError when it is of another make. */
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
    throw new RelayError('data-dir-unusable', `${path} is damaged: ${(error as Error).message}`, error);
  }
  if (state.version !== JOURNAL_VERSION) throw unknownVersion(path, state.version);
  return state;
}

export function unknownVersion(path: string, version: number): RelayError {
  return new RelayError(
    'schema-unknown',
    `${path} is of journal version ${version}, this relay knows version ${JOURNAL_VERSION}: run the relay that wrote it until its journal is empty`,
  );
}

/** Whether a shard has the record already. */
export const isPassed = (mark: Mark | undefined, seq: number): boolean =>
  mark !== undefined && seq <= mark.seq && !mark.pending.includes(seq);
