/** What a storage provider tells the operator: a line that the main thread logs. */
import type { LogEvent, LogLine } from '../base/log.ts';

export type StorageNote = LogLine<Extract<LogEvent, `storage.${string}`>>;

/** After these events, content that could not be read may be readable again. */
export const RETURNED: ReadonlySet<StorageNote['event']> = new Set([
  'storage.root_returned',
  'storage.reachable',
] as const);

export type SayNote = (note: StorageNote) => void;
