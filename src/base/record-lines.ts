/** Files of records, one a line, that a process left for the next one. */
import { readRegularText } from './regular-file.ts';

/**
 * @param read null for a line that is no record.
 * @returns the records, none where there is no file, and how many lines are none.
 * @throws as readRegular.
 */
export function readRecordLines<T>(
  path: string,
  read: (line: string) => T | null,
  mostBytes?: number,
): { records: T[]; bad: number } {
  let text: string;
  try {
    text = readRegularText(path, mostBytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { records: [], bad: 0 };
    throw error;
  }
  const lines = text.split('\n').filter((line) => line !== '');
  const records = lines.flatMap((line) => read(line) ?? []);
  return { records, bad: lines.length - records.length };
}
