/** Where a relay process stands among those of its host: all that relay.ts needs to know of the others. */
import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { type ConnectionCounts, LocalCounts } from '../listener/connection-counts.ts';
import type { GivenSocket, ListeningAddress } from '../listener/sockets.ts';
import { createSharedMemory, mapSharedMemory } from '../native.ts';
import { ConnectionGate } from '../policy/gate.ts';
import {
  initializePolicyMemory,
  openPolicyMemory,
  type PolicyPlace,
  policyMemoryBytes,
  policySizes,
} from '../policy/host-memory.ts';

export interface ProcessPlace {
  /** Number of this process; makes queue ids unique over the processes of the host. */
  process: number;
  /** Number of relay processes of the host. */
  processes: number;
  /** The one folder for delivery events of all processes. */
  eventsDir: string;
  /** Listening sockets that others opened, for this process and for those it stands in for. */
  sockets: readonly GivenSocket[];
  counts: ConnectionCounts;
  /** The key of TLS session tickets, where several processes have to share it. */
  tlsSecret?: Uint8Array;
  /** The part of the connection policy that all processes of the host share. */
  policy: PolicyPlace;
  /** false: takes no new mail, and only delivers what its queue holds. */
  accepts: boolean;
  /** Tells the other relay processes of the host; absent: there are none. */
  others?: { tell(lines: readonly string[]): void };
}

export interface RelayOptions {
  config: Config;
  configPath: string;
  log: Log;
  version: string;
  /** Default: it is the only process. */
  place?: ProcessPlace;
}

/** The place of a relay that is its only process. */
export function onlyPlace(config: Config, sockets: readonly GivenSocket[] = []): ProcessPlace {
  const eventsDir = join(config.data_dir, 'events');
  const sizes = policySizes(config, 1);
  const fd = createSharedMemory(policyMemoryBytes(sizes));
  initializePolicyMemory(mapSharedMemory(fd, policyMemoryBytes(sizes)), sizes, randomInt(2 ** 31));
  const policy = { fd, sizes, process: 0 };
  return { process: 0, processes: 1, eventsDir, sockets, counts: new LocalCounts(), policy, accepts: true };
}

/** What the main thread asks about clients before it hands them on. */
export function gateOf({ policy }: ProcessPlace, config: Config, log: Log): ConnectionGate {
  return new ConnectionGate(config, openPolicyMemory(policy, mapSharedMemory), log);
}

/** Sockets that this process accepts on. */
export const ownSockets = ({ sockets, process }: ProcessPlace): GivenSocket[] =>
  sockets.filter((socket) => socket.process === null || socket.process === process);

/** Addresses on which this host listens: mail to them would come back to us. */
export function hostListeners(
  { sockets, accepts }: ProcessPlace,
  own: readonly ListeningAddress[],
): { address: string; port: number }[] {
  const addresses = accepts ? own : sockets.map(({ address }) => address);
  return addresses.flatMap(({ host, port }) =>
    host === undefined || port === undefined ? [] : [{ address: host, port }],
  );
}

/** 'auto' is half the cores: sessions and delivery share the machine with each other, the writer and the kernel. */
export function threadCount(configured: number | 'auto'): number {
  return configured === 'auto' ? Math.max(1, Math.floor(availableParallelism() / 2)) : configured;
}
