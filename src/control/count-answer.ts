/** `queue count` in the words of docs/words.md, as --json prints it. */
import type { OutboxState } from '../mail/outbox-state.ts';
import type { Counted, CountKey, Group, Sums } from '../mail/queue-counts.ts';
import { stateWord } from './words.ts';

export interface SumsAnswer {
  entries: number;
  messages: number;
  recipients: number;
  size_bytes: number;
}

export interface CountAnswer extends SumsAnswer {
  /** Present where groups were asked for. */
  by?: CountKey;
  /** The largest; each has its value under the name that `by` says. */
  groups?: (SumsAnswer & Partial<Record<CountKey, string>>)[];
  more_groups?: number;
  /** false: values were forgotten, so that groups may be larger, and more. */
  exact?: boolean;
}

/** So many groups are told. */
export const MOST_GROUPS = 50;

const sumsAnswer = ({ entries, messages, recipients, bytes }: Sums): SumsAnswer => ({
  entries,
  messages,
  recipients,
  size_bytes: bytes,
});

export function countAnswer(counted: Counted, by: CountKey | null): CountAnswer {
  if (by === null) return sumsAnswer(counted);
  const groups = counted.groups.slice(0, MOST_GROUPS);
  return {
    ...sumsAnswer(counted),
    by,
    groups: groups.map((group) => ({ [by]: groupWord(by, group), ...sumsAnswer(group) })),
    more_groups: counted.groups.length - groups.length + counted.moreGroups,
    exact: !counted.forgotten,
  };
}

export const groupWord = (by: CountKey, { key }: Pick<Group, 'key'>): string =>
  by === 'state' ? stateWord(key as OutboxState) : key;
