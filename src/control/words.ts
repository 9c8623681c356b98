/** The words of docs/words.md for what this program keeps in another form. */
import { isoTime } from '../base/iso-time.ts';
import type { RecipientStatus } from '../database/database.ts';
import type { OutboxState } from '../mail/outbox-state.ts';
import { isExpiry } from '../mail/outcome.ts';

/** States of an entry, as operators read and type them. */
export const STATES = {
  pending: 'PENDING',
  sending: 'SENDING',
  deferred: 'RETRY',
  held: 'HELD',
  failed: 'DEAD',
  delivered: 'SENT',
} as const satisfies Record<string, OutboxState>;

export type EntryState = keyof typeof STATES;

const WORDS = Object.fromEntries(Object.entries(STATES).map(([word, state]) => [state, word])) as Readonly<
  Record<OutboxState, EntryState>
>;

export const stateWord = (state: OutboxState): EntryState => WORDS[state];

/** What became of a recipient. */
export type Fate = RecipientStatus | 'expired' | 'suppressed' | 'discarded';

export const fateOf = ({ status, reason }: { status: RecipientStatus; reason: string }): Fate => {
  if (status !== 'bounced') return status;
  if (isExpiry(reason)) return 'expired';
  return reason === 'suppressed' || reason === 'discarded' ? reason : status;
};

/** RFC 3339, in UTC with milliseconds. */
export const timeOf = isoTime;

export const timeOrNull = (ms: number | null): string | null => (ms === null ? null : timeOf(ms));

/** Text that is empty where nothing is known. */
export const textOrNull = (text: string): string | null => (text === '' ? null : text);
