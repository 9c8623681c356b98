/**
 * Names of event files: `<UTC date>-<n>.jsonl` of relay process 0, `….p1.jsonl` of process 1, and `.zst` behind it once
 * the file is complete and compressed.
 */

export interface EventFileName {
  name: string;
  day: string;
  number: number;
  process: number;
  compressed: boolean;
}

const NAME = /^(\d{4}-\d\d-\d\d)-(\d{4,9})(?:\.p(\d{1,3}))?\.jsonl(\.zst)?$/;
export const COMPRESSED = '.zst';
/** Behind the name of a file that is being compressed. */
export const PART = '.part';

export function eventFileName(day: string, number: number, process: number): string {
  return `${day}-${String(number).padStart(4, '0')}${process === 0 ? '' : `.p${process}`}.jsonl`;
}

/** The event files among these names, the oldest first. Of a file that is there in both forms the plain one counts. */
export function eventFiles(names: readonly string[]): EventFileName[] {
  const files: EventFileName[] = [];
  const there = new Set(names);
  for (const name of names) {
    const match = NAME.exec(name);
    if (match === null) continue;
    const [, day = '', number, process = '0', compressed] = match;
    if (compressed !== undefined && there.has(name.slice(0, -COMPRESSED.length))) continue;
    files.push({
      name,
      day,
      number: Number(number),
      process: Number(process),
      compressed: compressed !== undefined,
    });
  }
  return files.sort(byAge);
}

function byAge(a: EventFileName, b: EventFileName): number {
  if (a.day !== b.day) return a.day < b.day ? -1 : 1;
  return a.number - b.number || a.process - b.process;
}
