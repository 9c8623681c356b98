/** What a relay process offers to operators. Part of the composition root. */
import { ASIDE_FAULTS, GAUGE, type Gauges } from '../admission/gauges.ts';
import { RelayError } from '../base/errors.ts';
import { mergeSchedulerStats } from '../control/merged-queue.ts';
import { union } from '../control/missing.ts';
import type { ControlTarget, SchedulerStats } from '../control/target.ts';
import type {
  Database,
  OperateAction,
  OperateBounds,
  OperatePart,
  OperateResult,
  RowChange,
  Selection,
} from '../database/database.ts';
import { movableBy } from '../database/outbox-rows.ts';
import type { DeliveryThreads } from '../delivery/delivery-threads.ts';
import type { SourceReport } from '../egress/source-report.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { mergeStats } from '../mail/queue-stats.ts';
import { judged } from '../mail/selection.ts';
import { mergeUnknown } from '../mail/unknown-reply.ts';
import type { Unsettled } from '../persistence/unsettled.ts';
import type { EventLog } from '../report/events.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { RelayDatabase } from './database.ts';
import type { RelayJournal } from './journal.ts';

/** The operator's command asks for part after part, each about so long. */
const PART_MS = 400;
/** A claim may bring more rows to delivery while rows are being taken back; they are taken back at most this often. */
const MAX_TAKE_BACK_ROUNDS = 4;

export function relayControl(
  queue: RelayDatabase,
  scheduler: Scheduler,
  deliveries: DeliveryThreads,
  events: EventLog,
  journal: RelayJournal | null,
  /** Takes the rows that are meant out of delivery, unless they are on the wire. */
  takeBack: (selection: Selection) => Promise<number>,
  gauges: Gauges,
  unsettled: Pick<Unsettled, 'missing'>,
  /** How many refusals that no rule knew are told. */
  unknownKept: () => number,
  /** What keeps all mail in the queue. */
  holds: () => Required<Pick<SchedulerStats, 'holds' | 'rules'>>,
  sources: () => SourceReport[],
  explain: NonNullable<ControlTarget['explain']>,
  sites: NonNullable<ControlTarget['sites']>,
): ControlTarget {
  const { database } = queue;
  return {
    lines: (filter) => database.lines(filter),
    count: (selection, by) => database.count(selection, by),
    show: (queueId) => database.show(queueId),
    content: (queueId, offset, maxBytes) => database.content(queueId, offset, maxBytes),
    // A relay with a journal can answer while its servers are away.
    stats: () => (journal === null ? database.stats() : database.stats().catch(unknownStats)),
    // Of a queue on servers, from which other nodes take rows, the scheduler can only guess how many wait.
    schedulerStats: (counted) =>
      mergeSchedulerStats(
        [{ ...scheduler.stats(), faults: faultsOf(gauges), ...holds() }],
        queue.shards === null ? null : counted,
      ),
    standing: (destinations) => ({
      ...holds(),
      destinations: destinations.map((destination) => scheduler.standing(destination)),
    }),
    sources,
    explain,
    sites,
    unknownReplies: async () => mergeUnknown(await deliveries.unknownReplies(), unknownKept()),
    shards: async () => (await queue.shards?.report()) ?? [],
    journal: () => journal?.stats() ?? null,
    missing: () => union([database.missing?.() ?? [], journal?.missing() ?? [], unsettled.missing()]),
    async operate(action, selection, after = '') {
      const parts = { database, scheduler, deliveries, events };
      const takesBack = action !== 'flush' && action !== 'release';
      const meant = typeof action === 'object' ? { ...selection, ...movableBy(action) } : selection;
      // Delivery is stopped before the first look at the queue, as far as it can judge what is meant.
      if (takesBack && after === '') await takeBack(meant);
      const { sendingIds, ...sum } = await operate(parts, action, selection, { after, forMs: PART_MS });
      // A claim that was under way may have brought more of these rows to delivery.
      let ids = sendingIds;
      for (let round = 0; takesBack && round < MAX_TAKE_BACK_ROUNDS && ids.length > 0; round++) {
        if ((await takeBack({ ...judged(meant), ids })) === 0) break;
        const more = await operate(parts, action, { ...selection, ids });
        sum.rows += more.rows;
        sum.recipients += more.recipients;
        sum.sending += more.sending - ids.length;
        if (selection.ids !== undefined) sum.queueIds.push(...more.queueIds);
        ids = more.sendingIds;
      }
      return sum;
    },
  };
}

function faultsOf(gauges: Gauges): NonNullable<SchedulerStats['faults']> {
  return {
    sessions: Atomics.load(gauges, GAUGE.sessionFaults),
    deliveries: Atomics.load(gauges, GAUGE.deliveryFaults),
    others: Atomics.load(gauges, ASIDE_FAULTS),
  };
}

interface Operated {
  database: Database;
  scheduler: Scheduler;
  deliveries: DeliveryThreads;
  events: EventLog;
}

/** Whether the action makes rows due there that are to be sent. */
function isTriedNow(action: OperateAction, { destination, rows }: RowChange): boolean {
  if (typeof action === 'string') return action === 'flush';
  return 'reroute' in action && (rows > 0 || destination === action.reroute);
}

function unknownStats(error: unknown): QueueStats {
  if (!(error instanceof RelayError) || error.code !== 'database_unavailable') throw error;
  return { ...mergeStats([]), unavailable: error.message };
}

async function operate(
  { database, scheduler, deliveries, events }: Operated,
  action: OperateAction,
  selection: Selection,
  bounds?: OperateBounds,
): Promise<Omit<OperateResult, 'changes'>> {
  const changed: RowChange[] = [];
  const done = (part: OperatePart): void => {
    for (const change of part.changes) changed.push(change);
    for (const entry of part.removed) events.removed(entry, 'operator');
  };
  const operated = database.operate(action, selection, Date.now(), done, bounds);
  const { changes, ...result } = await operated.catch((error: unknown) => {
    // What was changed before the fault stays changed.
    scheduler.changed(changed);
    throw error;
  });
  // Flush, and another way, mean now, whatever the destination did lately.
  const tried = changes.filter((change) => isTriedNow(action, change)).map(({ destination }) => destination);
  deliveries.resume(tried);
  for (const destination of tried) scheduler.suspend(destination, 0);
  scheduler.changed(changes);
  return result;
}
