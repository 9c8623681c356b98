/**
 * Time in the memory of the policy (bans, greylist, buckets). It is steady, so that setting the clock neither frees nor
 * locks out anybody, and the same for all processes of the host. It begins on a fixed day, not with 0, because what is
 * kept may be older than the machine's last start, and so that times can be told from counts. What goes to files, people
 * and other nodes is converted to the time of day.
 */
import { steadyMs, timeOfDayMs } from '../base/steady.ts';

/** In 2004, so late that no time that is kept falls below FIRST_TIME_S. */
const BEGIN_MS = 1_100_000_000_000;
/** A word of the greylist is a time in seconds from here on, and a count below. */
export const FIRST_TIME_S = 1_000_000_000;

export const policyTimeOf = (steady: number): number => BEGIN_MS + steady;
export const policyMs = (): number => policyTimeOf(steadyMs());

/** What is to be added to policyMs to make it a time of day, by the clock as it is now; whole seconds, as in the tables. */
export const policyToDayMs = (): number => Math.round(timeOfDayMs(-BEGIN_MS) / 1000) * 1000;
