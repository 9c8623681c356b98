/**
 * Time in the memory of the policy (bans, greylist, buckets): steady, so that a clock that is set neither frees nor locks
 * out anybody, and the same for all processes of the host. It begins at a fixed day, as what is kept there may be older
 * than the machine's last start, and seconds tell themselves from counts. Files, people and other nodes have the time of
 * day; what goes there is converted.
 */
import { steadyMs, timeOfDayMs } from '../base/steady.ts';

/** 2004: no time that is kept falls below FIRST_TIME_S. */
const BEGIN_MS = 1_100_000_000_000;
/** From here on a number of seconds is a time; below, the greylist has counts. */
export const FIRST_TIME_S = 1_000_000_000;

export const policyTimeOf = (steady: number): number => BEGIN_MS + steady;
export const policyMs = (): number => policyTimeOf(steadyMs());

/** What is to be added to make a time of day of it, as far as clocks say now; whole seconds, as the tables have. */
export const policyToDayMs = (): number => Math.round(timeOfDayMs(-BEGIN_MS) / 1000) * 1000;
