/** What a storage provider tells the operator: a line of the log, said on the main thread. */
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

export type SayNote = (note: StorageNote) => void;
