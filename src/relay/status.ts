/** How a relay process is, for `protorelay status`: figures that are at hand. Part of the composition root. */
import type { RelayStatus } from '../control/target.ts';
import { reactorConnections } from '../native.ts';
import type { Stages } from './stages.ts';

/** @param counts whether to count the queue: on servers one process does that for all. */
export async function relayStatus(stages: Stages, counts: boolean): Promise<RelayStatus> {
  const { control, deliveries, journal, place, pressure, queue, rates } = stages;
  const { shards } = queue;
  const file = queue.file();
  const { database } = stages.config;
  return {
    connectionsIn: place.counts.open,
    connectionsOut: deliveries.reactorIds.reduce((sum, id) => sum + reactorConnections(id), 0),
    rates: rates.lastMinute(),
    totals: [{ process: place.process, ...rates.counts }],
    ...pressure.figures(),
    counts: counts ? await stages.counts.read() : null,
    scheduler: await control.schedulerStats(null),
    journal: journal?.stats() ?? null,
    shards: shards?.states() ?? [],
    file: file === null ? null : { ...file, maxMb: database.driver === 'sqlite' ? database.max_mb : 0 },
    storageFaults: queue.storageFaults.list(),
  };
}
