/** What the relay says of itself (control/status.ts), as samples. */
import { PRESSURE } from '../../admission/gauges.ts';
import { byState } from '../../control/stats-answer.ts';
import type { HostStatus } from '../../control/status.ts';
import type { HoldsAll } from '../../control/target.ts';
import type { EntryState } from '../../control/words.ts';
import type { SourceReport } from '../../egress/source-report.ts';
import type { Samples } from './exposition.ts';

const HOLDS: readonly HoldsAll['kind'][] = [
  'delivery_disabled',
  'suspended',
  'draining',
  'database_away',
  'suspensions_unknown',
];
const MEGABYTE = 1024 * 1024;

const flag = (isSo: boolean): number => (isSo ? 1 : 0);

/** @param nowMs the time of day, for ages. */
export function relayFigures(samples: Samples, status: HostStatus, nowMs: number): void {
  const { version, connectionsIn, connectionsOut, listeners, processes } = status;
  samples.add('protorelay_build_info', 1, { version, node_version: process.versions.node });
  if (processes.length === 0) samples.add('protorelay_process_up', 1, { process: '0' });
  for (const { process, state, restarts } of processes) {
    if (state === 'ended') continue;
    const label = { process: `${process}` };
    samples.add('protorelay_process_up', flag(state === 'ready' || state === 'draining'), label);
    samples.add('protorelay_process_restarts_total', restarts, label);
  }
  samples.add('protorelay_listeners', listeners.length, {});
  samples.add('protorelay_smtp_sessions', connectionsIn, {});
  for (const totals of status.totals) {
    const process = `${totals.process}`;
    samples.add('protorelay_smtp_accepted_messages_total', totals.acceptedMessages, { process });
    samples.add('protorelay_smtp_accepted_recipients_total', totals.accepted, { process });
    for (const outcome of ['delivered', 'deferred', 'bounced'] as const)
      samples.add('protorelay_delivery_recipients_total', totals[outcome], { process, outcome });
    for (const [ended, count] of Object.entries(totals.faults))
      samples.add('protorelay_faults_total', count, { process, ended });
    samples.add('nodejs_eventloop_lag_seconds', totals.turnS, { process });
  }
  samples.add('protorelay_delivery_connections', connectionsOut, {});
  scheduling(samples, status);
  counts(samples, status, nowMs);
  room(samples, status, nowMs);
}

function scheduling(samples: Samples, { scheduler, shards }: HostStatus): void {
  const { holds = [], rules = [], suspendedDestinations, cluster } = scheduler;
  for (const reason of HOLDS)
    samples.add('protorelay_delivery_held', flag(holds.some(({ kind }) => kind === reason)), { reason });
  const failing = { target: 'destination', reason: 'connections' };
  samples.add('protorelay_suspended', suspendedDestinations, failing);
  samples.add('protorelay_suspended', rules.length, { target: 'rule', reason: 'ordered' });
  for (const { name, up } of shards) samples.add('protorelay_shard_up', flag(up), { shard: name });
  if (cluster !== undefined) samples.add('protorelay_redis_up', flag(cluster.up), {});
}

function counts(samples: Samples, { counts }: HostStatus, nowMs: number): void {
  if (counts === null) return;
  const each = (
    name: 'protorelay_queue_entries' | 'protorelay_queue_messages' | 'protorelay_queue_recipients',
    figures: Record<EntryState, number>,
  ): void => {
    for (const [state, figure] of Object.entries(figures))
      if (name !== 'protorelay_queue_recipients' || state !== 'delivered')
        samples.add(name, figure, { state });
  };
  each('protorelay_queue_entries', byState(counts.rows));
  each('protorelay_queue_messages', byState(counts.messages));
  each('protorelay_queue_recipients', byState(counts.recipients));
  samples.add('protorelay_queue_oldest_seconds', ageS(counts.oldestMs, nowMs), {});
  samples.add('protorelay_queue_counted_seconds', ageS(counts.countedAtMs, nowMs), {});
}

/** What the relay may run short of. */
function room(samples: Samples, status: HostStatus, nowMs: number): void {
  for (const gauge of Object.keys(PRESSURE))
    if (gauge !== 'none') samples.add('protorelay_pressure', flag(status.pressure === gauge), { gauge });
  samples.add('protorelay_overloaded', flag(status.overloaded), {});
  const { freeDiskBytes, storageFaults, file, journal } = status;
  if (freeDiskBytes !== null) samples.add('protorelay_storage_free_bytes', freeDiskBytes, {});
  samples.add('protorelay_storage_faults', storageFaults.length, {});
  if (file !== null) {
    samples.add('protorelay_queue_file_bytes', file.bytes, {});
    samples.add('protorelay_queue_file_free_bytes', file.freeBytes, {});
    const parts = Math.max(1, status.processes.length);
    if (file.maxMb > 0) samples.add('protorelay_queue_file_limit_bytes', file.maxMb * MEGABYTE * parts, {});
  }
  if (journal !== null) {
    samples.add('protorelay_journal_bytes', journal.bytes, {});
    samples.add('protorelay_journal_limit_bytes', journal.maxBytes, {});
    samples.add('protorelay_journal_messages', journal.waiting, {});
    samples.add('protorelay_journal_oldest_seconds', ageS(journal.oldestMs, nowMs), {});
  }
}

export function sourceFigures(samples: Samples, sources: readonly SourceReport[]): void {
  const missing = sources.filter(({ state }) => state === 'suspended').length;
  samples.add('protorelay_suspended', missing, { target: 'source', reason: 'address_missing' });
}

/** A clock that was set back makes nothing younger than now. */
const ageS = (ms: number | null, nowMs: number): number => (ms === null ? 0 : Math.max(0, nowMs - ms) / 1000);
