/** The memory that the threads and processes of a host share for the policy, and what lies where in it. */
import type { PolicyConfig } from '../config/policy-schema.ts';
import { Accounts, accountsBytes } from './accounts.ts';
import { BanTable, banTableBytes } from './ban-table.ts';
import { HostCounters, untoldBytes } from './counters.ts';
import { NotedSlots, notedBytes } from './noted-slots.ts';
import { SlotTable, slotTableBytes } from './slot-table.ts';

/** How much there is room for; fixed while the host runs. */
export interface PolicySizes {
  processes: number;
  buckets: number;
  bans: number;
  greylist: number;
  /** Whether there is room to note what other nodes are to be told. */
  shared: boolean;
}

/** Whether nodes share what they know: as the config says; with `auto`, when they share the queue's schedule. */
export function isShared({ policy, scheduler }: SharedConfig): boolean {
  return policy.scope === 'auto' ? scheduler.engine === 'bullmq' : policy.scope === 'cluster';
}

type SharedConfig = { policy: Pick<PolicyConfig, 'scope'>; scheduler: { engine: 'embedded' | 'bullmq' } };
type SizesConfig = SharedConfig & {
  policy: { max_counters: number; bans: { max_entries: number }; greylist: { max_entries: number } };
};

/** Sizes from the config, for that many processes. */
export function policySizes(config: SizesConfig, processes: number): PolicySizes {
  const { policy } = config;
  return {
    processes,
    buckets: policy.max_counters,
    bans: policy.bans.max_entries,
    greylist: policy.greylist.max_entries,
    shared: isShared(config),
  };
}

/** Where a process finds the memory. */
export interface PolicyPlace {
  /** Descriptor of the shared memory, open in every thread of the process. */
  fd: number;
  sizes: PolicySizes;
  /** Number of this process, by which its connections are counted. */
  process: number;
}

type MapMemory = (fd: number, bytes: number) => ArrayBufferLike;

/** The memory as a thread sees it. @param map mapSharedMemory */
export function openPolicyMemory({ fd, sizes, process }: PolicyPlace, map: MapMemory): PolicyMemory {
  return new PolicyMemory(map(fd, policyMemoryBytes(sizes)), sizes, process);
}

/** Offsets of the parts, and the size of the whole. */
function layout({ processes, buckets, bans, greylist, shared }: PolicySizes) {
  const page = (bytes: number): number => Math.ceil(bytes / 4096) * 4096;
  const bucketsAt = 0;
  const greylistAt = bucketsAt + page(slotTableBytes(buckets));
  const bansAt = greylistAt + page(slotTableBytes(greylist));
  const accountsAt = bansAt + page(banTableBytes(bans));
  const untoldAt = accountsAt + page(accountsBytes(processes));
  const notedAt = untoldAt + (shared ? page(untoldBytes(buckets)) : 0);
  const bytes = notedAt + (shared ? page(notedBytes) : 0);
  return { bucketsAt, greylistAt, bansAt, accountsAt, untoldAt, notedAt, bytes };
}

export const policyMemoryBytes = (sizes: PolicySizes): number => layout(sizes).bytes;

/** To be done once, before anybody else uses the memory. @param seed of the hashes: random. */
export function initializePolicyMemory(memory: ArrayBufferLike, sizes: PolicySizes, seed: number): void {
  const { bucketsAt, greylistAt, accountsAt } = layout(sizes);
  Accounts.initialize(memory, accountsAt, seed, sizes.processes);
  SlotTable.initialize(memory, bucketsAt, seed);
  SlotTable.initialize(memory, greylistAt, ~seed);
}

export class PolicyMemory {
  readonly counters: HostCounters;
  readonly greylist: SlotTable;
  /** Slots of the greylist that other nodes are to hear of; null: there are no other nodes. */
  readonly greylistNoted: NotedSlots | null;
  readonly bans: BanTable;
  /** Who holds how much of what clients share. */
  readonly accounts: Accounts;
  /** The greylist as it is written to a file and read from it, its seed included. */
  readonly greylistBytes: Uint8Array;
  readonly #clear: (process: number) => void;

  /** @param process in whose name this thread counts. */
  constructor(memory: ArrayBufferLike, sizes: PolicySizes, process: number) {
    const { bucketsAt, greylistAt, bansAt, accountsAt, untoldAt, notedAt } = layout(sizes);
    this.counters = new HostCounters(memory, bucketsAt, sizes.buckets, sizes.shared ? untoldAt : null);
    this.greylistNoted = sizes.shared ? new NotedSlots(memory, notedAt) : null;
    this.greylist = new SlotTable(memory, greylistAt, sizes.greylist);
    this.greylistBytes = new Uint8Array(memory, greylistAt, slotTableBytes(sizes.greylist));
    this.bans = new BanTable(memory, bansAt, sizes.bans);
    this.accounts = new Accounts(memory, accountsAt, sizes.processes, process);
    this.#clear = (number) => Accounts.clear(memory, accountsAt, number);
  }

  /** Gives back what a process that died held. */
  clearProcess(process: number): void {
    this.#clear(process);
  }
}
