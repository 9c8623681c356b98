/** How a relay process is, for `protorelay status`: figures that are at hand. Part of the composition root. */
import { turnS } from '../base/turn.ts';
import type { RelayStatus } from '../control/target.ts';
import { reactorConnections } from '../native.ts';
import type { Stages } from './stages.ts';

/** @param counts whether to count the queue: on servers one process does that for all. */
export async function relayStatus(stages: Stages, counts: boolean): Promise<RelayStatus> {
  const { control, deliveries, journal, place, pressure, queue, rates } = stages;
  const { shards } = queue;
  const file = queue.file();
  const { database } = stages.config;
  const scheduler = await control.schedulerStats(null);
  const { faults = { sessions: 0, deliveries: 0, others: 0 } } = scheduler;
  return {
    connectionsIn: place.counts.open,
    connectionsOut: deliveries.reactorIds.reduce((sum, id) => sum + reactorConnections(id), 0),
    rates: rates.lastMinute(),
    totals: [{ process: place.process, ...rates.counts, faults, turnS: await turnS() }],
    ...pressure.figures(),
    counts: counts ? await stages.counts.read() : null,
    scheduler,
    journal: journal?.stats() ?? null,
    shards: shards?.states() ?? [],
    file: file === null ? null : { ...file, maxMb: database.driver === 'sqlite' ? database.max_mb : 0 },
    storageFaults: queue.storageFaults.list(),
  };
}
