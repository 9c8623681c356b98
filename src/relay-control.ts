/** What a relay process offers to operators. Part of the composition root. */
import type { ControlTarget } from './control/protocol.ts';
import type { Database, OperateAction, OperateTarget } from './database/database.ts';
import type { DeliveryThreads } from './delivery/delivery-threads.ts';
import type { RelayDatabase } from './relay-database.ts';
import type { EventLog } from './report/events.ts';
import type { Scheduler } from './scheduler/scheduler.ts';

export interface RelayControlSetup {
  scheduler: Scheduler;
  deliveries: DeliveryThreads;
  events: EventLog;
}

export function relayControl(queue: RelayDatabase, setup: RelayControlSetup): ControlTarget {
  const { scheduler } = setup;
  const { database } = queue;
  return {
    list: (filter) => database.list(filter),
    show: (queueId) => database.show(queueId),
    content: (queueId, offset, maxBytes) => database.content(queueId, offset, maxBytes),
    stats: () => database.stats(),
    schedulerStats: () => scheduler.stats(),
    shards: async () => (await queue.shards?.report()) ?? [],
    operate: (action, target) => operate(database, setup, action, target),
  };
}

async function operate(
  database: Database,
  { scheduler, deliveries, events }: RelayControlSetup,
  action: OperateAction,
  target: OperateTarget,
): Promise<{ rows: number }> {
  const touched = new Set<string>();
  const operated = database.operate(action, target, Date.now(), (part) => {
    for (const destination of part.destinations) touched.add(destination);
    for (const { queueId, recipients } of part.removed) events.removed(queueId, recipients, 'operator');
  });
  const { rows, destinations } = await operated.catch((error: unknown) => {
    // What was changed before the fault is changed: rows that are due since are looked for.
    for (const destination of touched) scheduler.waiting(destination, 1, Date.now());
    throw error;
  });
  // An operator who asks for a retry means now, whatever the destination did lately.
  if (action === 'retry') {
    deliveries.resume(destinations.map(({ destination }) => destination));
    for (const { destination } of destinations) scheduler.suspend(destination, 0);
  }
  scheduler.refresh(destinations);
  return { rows };
}
