/** A ban in the words of docs/words.md, as `ban list --json` prints it. */
import type { Ban, BanKind } from '../policy/ban-table.ts';
import { timeOf } from './words.ts';

export interface BanAnswer {
  network: string;
  kind: BanKind;
  banned_at: string;
  /** null: when it is deleted. */
  ends_at: string | null;
  /** How often it was banned lately, this time included. */
  times: number;
}

/** Bans without an end have one that is further away. */
const FOREVER_YEAR = 2100;

export const banAnswer = ({ network, kind, sinceMs, untilMs, times }: Ban): BanAnswer => ({
  network,
  kind,
  banned_at: timeOf(sinceMs),
  ends_at: new Date(untilMs).getUTCFullYear() >= FOREVER_YEAR ? null : timeOf(untilMs),
  times,
});
