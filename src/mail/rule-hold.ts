/** Recipients that a rule of `egress.routing` holds: the reason that is stored, and which rules an operator released them from. */

/** Reason of a row, and of its recipients. */
export const HELD_BY_RULE = 'held_by_rule';

/** What stands with the reason; several rules are joined by ', '. */
export const ruleText = (name: string): string => `rule ${name}`;

/** The names in such a text: of a row's detail, or of what it was released from. */
export const rulesIn = (text: string): string[] =>
  text.split(', ').flatMap((one) => (one.startsWith('rule ') ? [one.slice('rule '.length)] : []));

/** Most characters of the rules that an entry was released from: of those before, the oldest are forgotten. */
export const MAX_RELEASED = 255;
