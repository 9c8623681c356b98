/** What a storage provider tells the operator: a line that the main thread logs. */
export interface StorageNote {
  level: 'info' | 'warn';
  event:
    | 'storage.root-aside'
    | 'storage.root-returned'
    | 'storage.replica-repaired'
    | 'storage.replica-damaged'
    | 'storage.content-damaged'
    | 'storage.scrubbed'
    | 'storage.endpoint-changed'
    | 'storage.unreachable'
    | 'storage.reachable';
  fields: Record<string, unknown>;
}

/** After these events, content that could not be read may be readable again. */
export const RETURNED: ReadonlySet<StorageNote['event']> = new Set([
  'storage.root-returned',
  'storage.reachable',
]);

export type SayNote = (note: StorageNote) => void;
