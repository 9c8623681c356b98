/** What codes a rule is about: "421", "45x", "5xx"; "4.7.28", "x.7.28", "5.7.606-649". Each is a range of numbers. */

export interface Range {
  from: number;
  to: number;
}

const CODE = /^([45])(?:([0-9])([0-9x])|xx)$/;
const ENHANCED = /^([45x])\.(\d{1,3})\.(\d{1,3})(?:-(\d{1,3}))?$/;

/** Null: not a code of a refusal. */
export function codeRange(code: string): Range | null {
  const match = CODE.exec(code);
  if (match === null) return null;
  const [, first, second = 'x', third = 'x'] = match;
  const end = (digit: string): string => `${first}${second}${third}`.replaceAll('x', digit);
  return { from: Number(end('0')), to: Number(end('9')) };
}

/** One range for each class that is meant; null: not an enhanced status code of a refusal. */
export function enhancedRanges(enhanced: string): Range[] | null {
  const match = ENHANCED.exec(enhanced);
  if (match === null) return null;
  const [, digit, subject, detail, last = detail] = match;
  if (Number(last) < Number(detail)) return null;
  return (digit === 'x' ? ['4', '5'] : [digit as string]).map((each) => ({
    from: enhancedNumber(Number(each), Number(subject), Number(detail)),
    to: enhancedNumber(Number(each), Number(subject), Number(last)),
  }));
}

export const enhancedNumber = (digit: number, subject: number, detail: number): number =>
  (digit * 1000 + subject) * 1000 + detail;

/** An empty list is no condition. */
export const within = (ranges: readonly Range[], value: number): boolean => {
  if (ranges.length === 0) return true;
  for (const { from, to } of ranges) if (value >= from && value <= to) return true;
  return false;
};

/** Whether every value that `ranges` admits is admitted by `others` too. */
export const covers = (others: readonly Range[], ranges: readonly Range[]): boolean =>
  others.length === 0 ||
  (ranges.length > 0 &&
    ranges.every(({ from, to }) => others.some((other) => other.from <= from && to <= other.to)));
