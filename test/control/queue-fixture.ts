/** A queue in memory behind the control socket's contract, for tests. */

import type { ControlTarget, Operated } from '../../src/control/target.ts';
import type { MailDetail, Missing, QueueFilter } from '../../src/database/database.ts';
import { type Counted, noSums } from '../../src/mail/queue-counts.ts';
import type { QueueRow } from '../../src/mail/queue-row.ts';
import type { QueueStats } from '../../src/mail/queue-stats.ts';
import { type DestinationCounts, noCounts } from '../../src/mail/queue-stats.ts';
import type { SuspensionRule } from '../../src/mail/suspension.ts';

export function row(queueId: string, destination = 'b.test', change: Partial<QueueRow> = {}): QueueRow {
  return {
    queueId,
    destination,
    state: 'RETRY',
    attempts: 2,
    nextAttemptMs: 61_000,
    reversePath: 'a@a.test',
    sizeBytes: 1536,
    receivedAtMs: 0,
    messageId: '<1@a.test>',
    user: null,
    listener: '',
    waiting: 1,
    reason: 'timeout',
    detail: 'no \u001b[31mreply',
    attributes: null,
    ...change,
  };
}

export const rule = (id: string, change: Partial<SuspensionRule> = {}): SuspensionRule => ({
  id,
  destinations: [],
  domains: [],
  senders: [],
  users: [],
  tenants: [],
  campaigns: [],
  reason: '',
  createdBy: 'root',
  node: 'node',
  createdAtMs: 1,
  untilMs: null,
  endedAtMs: null,
  ...change,
});

/** Pending ones of the last five minutes, unless said otherwise. */
export function waiting(destination: string, change: Partial<DestinationCounts> = {}): DestinationCounts {
  const { recipients = 1 } = change;
  const counts = { ...noCounts(), entries: 1, states: [recipients, 0, 0, 0] };
  counts.ages[0] = recipients;
  return { destination, ...counts, recipients, nextDueMs: 61_000, ...change };
}

export const stats: QueueStats = {
  rows: { PENDING: 1, SENDING: 0, SENT: 0, RETRY: 2, DEAD: 0, HELD: 0 },
  mails: 3,
  contentBytes: 3000,
  oldestMs: 0,
  suspectedPoison: 0,
  messages: { PENDING: 1, SENDING: 0, SENT: 0, RETRY: 2, DEAD: 0, HELD: 0 },
  recipients: { PENDING: 2, SENDING: 0, SENT: 0, RETRY: 5, DEAD: 0, HELD: 0 },
  destinations: [
    waiting('b.test', { entries: 2, recipients: 6 }),
    waiting('c.test', { entries: 1, recipients: 1 }),
  ],
  other: { ...noCounts(), destinations: 0, mayLack: 0 },
};

export const mail: MailDetail = {
  queueId: 'id1',
  reversePath: 'a@a.test',
  sizeBytes: 5,
  receivedAtMs: 0,
  clientAddress: '192.0.2.1',
  clientHelo: 'c.test',
  protocol: 'ESMTP',
  trace: 'Received: from c.test\r\n\tby relay.test\r\n',
  rows: [row('id1')],
  recipients: [
    {
      seq: 0,
      address: 'b@b.test',
      destination: 'b.test',
      class: 'external',
      status: 'waiting',
      reason: 'timeout',
      detail: 'no reply',
    },
  ],
  attachments: [{ seq: 0, name: 'a.pdf', type: 'application/pdf', sizeBytes: 2048, offset: 100 }],
  before: { 'b.test': 7 },
};

/** As an engine would write it. */
export const lineOf = (row: QueueRow): string =>
  JSON.stringify([
    row.queueId,
    row.destination,
    row.state,
    row.attempts,
    row.nextAttemptMs,
    row.reversePath,
    row.sizeBytes,
    row.receivedAtMs,
    row.messageId,
    row.user,
    row.listener,
    row.waiting,
    row.reason,
    row.detail,
    row.attributes,
  ]);

export class FakeQueue implements ControlTarget {
  rows: QueueRow[] = [];
  content_ = Buffer.alloc(0);
  readonly operated: unknown[] = [];

  async lines(filter: QueueFilter): Promise<string[]> {
    const { states, destinations } = filter.selection ?? {};
    const found = this.rows
      .filter((r) => states?.includes(r.state) ?? true)
      .filter((r) => destinations?.includes(r.destination) ?? true)
      .filter((r) => filter.afterQueueId === undefined || r.queueId > filter.afterQueueId);
    const last = found[filter.limit - 1];
    const end = found.findIndex(({ queueId }, i) => i >= filter.limit && queueId !== last?.queueId);
    return (end < 0 ? found : found.slice(0, end)).map(lineOf);
  }

  counted: Counted = { ...noSums(), groups: [], moreGroups: 0, forgotten: false };

  async count(): Promise<Counted> {
    return this.counted;
  }

  async show(queueId: string): Promise<MailDetail | null> {
    return queueId === mail.queueId ? mail : null;
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    return queueId === mail.queueId ? this.content_.subarray(offset, offset + maxBytes) : null;
  }

  async stats(): Promise<QueueStats> {
    return stats;
  }

  async shards(): Promise<[]> {
    return [];
  }

  schedulerStats(): ReturnType<ControlTarget['schedulerStats']> {
    return {
      destinations: 1,
      waitingRows: 3,
      inFlight: 4,
      suspended: [{ destination: 'c.test', untilMs: 90_000, reason: 'connect: ref\u001bused' }],
      suspendedDestinations: 1,
      rules: [rule('r1', { destinations: ['b.*'], reason: 'mo\u001bve' })],
      holds: [{ kind: 'delivery_disabled', detail: 'delivery.enabled' }],
    };
  }

  /** There is nothing to do for it. */
  unknown = 'gone';
  missing_: Missing[] = [];

  missing(): Missing[] {
    return this.missing_;
  }

  async operate(...args: Parameters<ControlTarget['operate']>): Promise<Operated> {
    this.operated.push(args);
    const { ids } = args[1];
    const queueIds = ids?.filter((queueId) => queueId !== this.unknown) ?? [];
    const rows = ids === undefined ? 2 : queueIds.length;
    return { rows, recipients: rows, sending: 1, queueIds, next: null };
  }
}
