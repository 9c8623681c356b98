/** The memory that the policy shares over the threads and processes of a host: what lies where in it. */
import { BanTable, banTableBytes } from './ban-table.ts';
import { ConnectionSketch, clearSketch, sketchBytes } from './connection-sketch.ts';
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
  {
    policy,
  }: { policy: { max_counters: number; bans: { max_entries: number }; greylist: { max_entries: number } } },
  processes: number,
): PolicySizes {
  return {
    processes,
    buckets: policy.max_counters,
    bans: policy.bans.max_entries,
    greylist: policy.greylist.max_entries,
  };
}

/** Where a process finds the memory. */
export interface PolicyPlace {
  /** Descriptor of the shared memory, open in every thread of the process. */
  fd: number;
  /** Where the policy's part of it begins. */
  offset: number;
  sizes: PolicySizes;
  /** Number of this process, by which its connections are counted. */
  process: number;
}

type MapMemory = (fd: number, bytes: number) => ArrayBufferLike;

/** The memory as a thread sees it. @param map mapSharedMemory */
export function openPolicyMemory({ fd, offset, sizes, process }: PolicyPlace, map: MapMemory): PolicyMemory {
  return new PolicyMemory(map(fd, offset + policyMemoryBytes(sizes)), sizes, process, offset);
}

/** Offsets, and where it ends. */
function layout({ processes, buckets, bans, greylist }: PolicySizes, base: number) {
  const page = (bytes: number): number => Math.ceil(bytes / 4096) * 4096;
  const bucketsAt = base;
  const greylistAt = bucketsAt + page(slotTableBytes(buckets));
  const bansAt = greylistAt + page(slotTableBytes(greylist));
  const sketchAt = bansAt + page(banTableBytes(bans));
  return { bucketsAt, greylistAt, bansAt, sketchAt, bytes: sketchAt + page(sketchBytes(processes)) - base };
}

export const policyMemoryBytes = (sizes: PolicySizes): number => layout(sizes, 0).bytes;

/** Once, before anybody else looks at it. @param seed of the hashes: random. */
export function initializePolicyMemory(
  memory: ArrayBufferLike,
  sizes: PolicySizes,
  seed: number,
  offset = 0,
): void {
  const { bucketsAt, greylistAt } = layout(sizes, offset);
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
  constructor(memory: ArrayBufferLike, sizes: PolicySizes, process: number, offset = 0) {
    const { bucketsAt, greylistAt, bansAt, sketchAt } = layout(sizes, offset);
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
