/** The memory that the policy shares over the threads and processes of a host: what lies where in it. */
import { BanTable, banTableBytes } from './ban-table.ts';
import { clearSketch, ConnectionSketch, sketchBytes } from './connection-sketch.ts';
import { type CounterStore, HostCounters } from './counters.ts';
import { SlotTable, slotTableBytes } from './slot-table.ts';

/** How much is kept of each; fixed while the host runs. */
export interface PolicySizes {
  processes: number;
  buckets: number;
  bans: number;
  greylist: number;
}

/** Sizes from the config, for as many processes. */
export function policySizes(
  { policy }: { policy: { max_counters: number; bans: { max_entries: number }; greylist: { max_entries: number } } },
  processes: number,
): PolicySizes {
  return {
    processes,
    buckets: policy.max_counters,
    bans: policy.bans.max_entries,
    greylist: policy.greylist.max_entries,
  };
}

/** Offsets, and where it ends. */
function layout({ processes, buckets, bans, greylist }: PolicySizes) {
  const page = (bytes: number): number => Math.ceil(bytes / 4096) * 4096;
  const bucketsAt = 0;
  const greylistAt = bucketsAt + page(slotTableBytes(buckets));
  const bansAt = greylistAt + page(slotTableBytes(greylist));
  const sketchAt = bansAt + page(banTableBytes(bans));
  return { bucketsAt, greylistAt, bansAt, sketchAt, bytes: sketchAt + page(sketchBytes(processes)) };
}

export const policyMemoryBytes = (sizes: PolicySizes): number => layout(sizes).bytes;

/** Once, before anybody else looks at it. @param seed of the hashes: random. */
export function initializePolicyMemory(memory: ArrayBufferLike, sizes: PolicySizes, seed: number): void {
  const { bucketsAt, greylistAt } = layout(sizes);
  SlotTable.initialize(memory, bucketsAt, seed);
  SlotTable.initialize(memory, greylistAt, ~seed);
}

export class PolicyMemory {
  readonly counters: CounterStore;
  readonly greylist: SlotTable;
  readonly bans: BanTable;
  readonly connections: ConnectionSketch;
  /** The greylist as it is written to a file and read from it, its seed included. */
  readonly greylistBytes: Uint8Array;
  readonly #clear: (process: number) => void;

  /** @param process whose connections this thread counts. */
  constructor(memory: ArrayBufferLike, sizes: PolicySizes, process: number) {
    const { bucketsAt, greylistAt, bansAt, sketchAt } = layout(sizes);
    this.counters = new HostCounters(memory, bucketsAt, sizes.buckets);
    this.greylist = new SlotTable(memory, greylistAt, sizes.greylist);
    this.greylistBytes = new Uint8Array(memory, greylistAt, slotTableBytes(sizes.greylist));
    this.bans = new BanTable(memory, bansAt, sizes.bans);
    this.connections = new ConnectionSketch(memory, sketchAt, sizes.processes, process);
    this.#clear = (number) => clearSketch(memory, sketchAt, number);
  }

  /** Gives back the connections of a process that died. */
  clearProcess(process: number): void {
    this.#clear(process);
  }
}
