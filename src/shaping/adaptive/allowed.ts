/** The limit in whose slot messages pass at this rate in the long run: a slot lets a quarter of it go at once, and is slower for that. */
import { paceOf, SPANS } from '../rate.ts';

export function limitForRate(perS: number): number {
  const limit = perS < 8 ? perS : ((perS - 1) * 4) / 3;
  // What the pace makes of it differs by the fraction of a message.
  const { stepUs } = paceOf(limit, SPANS.messages_per_s);
  return limit * ((perS * stepUs) / 1_000_000);
}
