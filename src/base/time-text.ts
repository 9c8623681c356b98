/**
 * Times as people and programs write them: RFC 3339, strictly. Date.parse alone takes February 30 for March 2, and this hour for
 * the next one.
 */

const FORM =
  /^(\d{4})-(\d\d)-(\d\d)(?:([Tt ])(\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,9})?)?([Zz]|[+-](\d\d):(\d\d))?)?$/;

/** RFC 3339 §5.6, seconds may be missing. @returns milliseconds since 1970; NaN when it is none, or there is no such day or hour. */
export function timeIn(text: string): number {
  const parts = FORM.exec(text);
  return parts !== null && (parts[4] ?? ' ') !== ' ' && parts[8] !== undefined && exists(parts)
    ? Date.parse(text.toUpperCase())
    : Number.NaN;
}

/** The same; also a date alone (UTC), a space for the T, and without a zone the time of this machine. */
export function looseTimeIn(text: string): number {
  const parts = FORM.exec(text);
  return parts !== null && exists(parts) ? Date.parse(text.toUpperCase()) : Number.NaN;
}

/** Whether it is a day that there is, as 2026-12-31. */
export const isDay = (text: string): boolean => text.length === 10 && !Number.isNaN(looseTimeIn(text));

function exists(parts: RegExpExecArray): boolean {
  const [year = 0, month = 0, day = 0, , hour = 0, minute = 0, second = 0, , offsetH = 0, offsetM = 0] = parts
    .slice(1)
    .map((part) => Number(part ?? 0));
  if (hour > 23 || minute > 59 || second > 59 || offsetH > 23 || offsetM > 59) return false;
  return month >= 1 && month <= 12 && day >= 1 && day <= daysOf(year, month);
}

function daysOf(year: number, month: number): number {
  if (month !== 2) return [4, 6, 9, 11].includes(month) ? 30 : 31;
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
}
