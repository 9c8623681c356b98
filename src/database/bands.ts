/**
 * How an action goes through the queue that changes entries one by one, where each change costs a page of the index by
 * destination: the entries of neighbouring messages have theirs all over it. So a band of messages is taken part by part, each
 * the entries of neighbouring destinations.
 */

/** Where in a band of messages the next slice begins. */
export interface Band {
  /** The last message of the band. */
  until: string;
  /** What is left lies between these destinations: the parts are after one of them, up to the next. */
  cuts: string[];
}

/** More parts write the pages of messages more often, fewer those of the index. */
export const PARTS = 3;
/** Before and after every destination. */
const [FIRST, LAST] = ['', '\u{10ffff}'];

/**
 * Cuts a band into parts of about `most` entries, and into PARTS at most. What has one destination stays together: it lies
 * together in the index, too. @param counts of entries by destination, in ascending order.
 */
export function cutsOf(counts: readonly { destination: string; n: number }[], most: number): string[] {
  const all = counts.reduce((sum, { n }) => sum + n, 0);
  if (all === 0) return [FIRST, FIRST];
  const size = Math.max(most, Math.ceil(all / PARTS));
  const cuts = [FIRST];
  let sum = 0;
  for (const { destination, n } of counts) {
    sum += n;
    if (sum < size) continue;
    cuts.push(destination);
    sum = 0;
  }
  if (sum === 0) cuts.pop();
  cuts.push(LAST);
  return cuts;
}
