/** What docs/words.md says of names, as a check. */
export const SNAKE_CASE = /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/;
/** Of a table by numbers, as `recipients_by_age_min`. */
const NUMBER = /^\d+$/;

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** `since` and `until` are those of a cause of `queue why`, as the specification of it has them. */
const NAMES_TIME = /(^time|_at|^since|^until)$/;
/** Their values are words of ours. */
const OF_WORDS = new Set(['state', 'fate', 'class', 'kind', 'action', 'severity']);
/** Milliseconds since 1970 are more, and nothing else of a test relay is. */
const MOST = 1e12;

/** The names in an answer, and the values, that break the rules; each with its place. */
export function wrongWords(value: unknown, place = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((one, i) => wrongWords(one, `${place}[${i}]`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, one]) => {
    const here = `${place}.${key}`;
    const isTime = typeof one === 'string' && TIME.test(one);
    const faults: [fault: boolean, what: string][] = [
      [!SNAKE_CASE.test(key) && !NUMBER.test(key), 'is not snake_case'],
      [NAMES_TIME.test(key) && one !== null && !isTime, 'is no time'],
      [isTime && !NAMES_TIME.test(key), 'is a time, and its name does not say so'],
      [typeof one === 'number' && one >= MOST, 'looks like milliseconds since 1970'],
      [OF_WORDS.has(key) && typeof one === 'string' && !SNAKE_CASE.test(one), `is "${one}"`],
    ];
    return [
      ...faults.flatMap(([fault, what]) => (fault ? [`${here} ${what}`] : [])),
      ...wrongWords(one, here),
    ];
  });
}
