/**
 * Counters that session threads and the main thread share, so that admission is decided where the command is,
 * without a message between threads: an Int32Array over a SharedArrayBuffer, moved with Atomics only.
 */
export const GAUGE = {
  /** Messages between end of data (or MAIL, which reserves) and their commit. */
  inflightMails: 0,
  /** PRESSURE code the main thread measured last (0: none): memory, disk, database. */
  pressure: 1,
  /** 1 while the relay drains: new transactions get 421 4.3.2. */
  draining: 2,
  /** 1 while pressure was sustained for overload_hold_ms: new connections get 421 4.3.2. */
  overloaded: 3,
} as const;

export const PRESSURE = { none: 0, memory: 1, disk: 2, database: 3, contentMemory: 4, messages: 5 } as const;

export type Gauges = Int32Array<SharedArrayBuffer>;
export const createGauges = (): Gauges => new Int32Array(new SharedArrayBuffer(64));
