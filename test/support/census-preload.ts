/**
 * Loaded into a relay by `--import`: at SIGUSR2 it writes a line `census` to standard output with what dialogs hold and
 * have to give back: content memory, connections of each reactor, accounts of clients, messages between end of data and
 * commit.
 */
import { isMainThread } from 'node:worker_threads';

async function count(): Promise<void> {
  const { Accounts, RESOURCES } = await import('../../src/policy/accounts.ts');
  const { SharedArena } = await import('../../src/native/shared-arena.ts');
  const { createGauges, GAUGE } = await import('../../src/admission/gauges.ts');
  const { reactorConnections } = await import('../../src/native.ts');
  type Counted = InstanceType<typeof Accounts>;
  let accounts: Counted | null = null;
  let arena: InstanceType<typeof SharedArena> | null = null;
  let gauges: Int32Array | null = null;

  const { limit } = Accounts.prototype;
  Accounts.prototype.limit = function (...args) {
    accounts = this;
    limit.apply(this, args);
  };
  const { freeBytes } = SharedArena.prototype;
  SharedArena.prototype.freeBytes = function () {
    arena = this;
    return freeBytes.call(this);
  };
  const gaugesLength = createGauges().length;
  const { load } = Atomics;
  const watched = (array: Int32Array, index: number): number => {
    if (array.length === gaugesLength) gauges = array;
    return load(array, index);
  };
  Atomics.load = watched as typeof Atomics.load;

  const held = (): Record<string, number | undefined> => {
    const region = accounts?.region;
    if (region === undefined) return {};
    const words = new Int32Array(region.buffer, region.byteOffset, region.byteLength / 4);
    return Object.fromEntries(Object.entries(RESOURCES).map(([name, { number }]) => [name, words[number]]));
  };
  process.on('SIGUSR2', () => {
    const loads = Array.from({ length: 64 }, (_, id) => reactorConnections(id)).filter((load) => load >= 0);
    const line = {
      event: 'census',
      heldBytes: arena === null ? null : arena.totalBytes - arena.freeBytes(),
      connections: loads.reduce((sum, load) => sum + load, 0),
      inflight: gauges === null ? null : load(gauges, GAUGE.inflightMails),
      ...held(),
    };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  });
}

if (isMainThread) await count();
