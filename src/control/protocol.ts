/**
 * What `protorelay queue` and a running relay say to each other over the control socket: one JSON object a line,
 * requests answered in order. Whoever may open the socket (mode 0600) is the operator.
 */

import { z } from 'zod';
import type { Missing, OperateAction, Selection } from '../database/database.ts';
import type { JournalStats } from '../journal/journal.ts';
import { MAX_ASKED } from '../mail/blocker.ts';
import { isFailText, viaKey } from '../mail/operator-keys.ts';
import { COUNT_KEYS } from '../mail/queue-counts.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { MAX_IDS, MAX_VALUE_LENGTH, MAX_VALUES } from '../mail/selection.ts';
import { MAX_NAME_LENGTH, MAX_PATTERN_LENGTH, MAX_PATTERNS, MAX_REASON_LENGTH } from '../mail/suspension.ts';
import { MAX_STANDINGS, type ProcessStatus, type SchedulerStats } from './target.ts';

export const QUEUE_ACTIONS = [
  'flush',
  'hold',
  'release',
  'delete',
] as const satisfies readonly OperateAction[];

/** Longest next hop in a request: a name with a port. */
const MAX_HOP = 270;

/** Most rows of one `list` answer; the client asks again from the last queue id on. */
export const MAX_LIST_ROWS = 20_000;
/** Most content bytes of one `content` answer. */
export const MAX_CONTENT_BYTES = 262_144;
/** Longest request line. */
export const MAX_REQUEST_BYTES = 65_536;

const queueId = z.string().min(1).max(64);
/** Where an action goes on: a queue id, or one for each shard or process. */
const cursor = z
  .string()
  .max(8192)
  .refine((text) => /^(?:\w{0,64}|\{.*\})$/.test(text));
const texts = z.array(z.string().max(MAX_VALUE_LENGTH)).max(MAX_VALUES).optional();
const count = z.int().min(0).optional();
const value = z.string().max(MAX_VALUE_LENGTH);
/** What `queue why` and `route` ask about. */
const askedEntry = z.strictObject({
  queueId: z.string().max(64),
  destination: value,
  sender: value,
  tenant: value,
  campaign: value,
  class: value,
  pool: value,
  site: z.strictObject({ key: value, provider: value }).optional(),
});
/** What an operator may select by. */
const selection = z
  .strictObject({
    ids: z.array(queueId).max(MAX_IDS).optional(),
    states: z
      .array(z.enum(['PENDING', 'SENDING', 'SENT', 'RETRY', 'DEAD', 'HELD']))
      .max(MAX_VALUES)
      .optional(),
    destinations: texts,
    domains: texts,
    recipients: texts,
    senders: texts,
    users: texts,
    listeners: texts,
    tenants: texts,
    campaigns: texts,
    classes: texts,
    pools: texts,
    reasons: texts,
    messageIds: texts,
    headers: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(MAX_VALUE_LENGTH),
          value: z.string().max(MAX_VALUE_LENGTH),
        }),
      )
      .max(MAX_VALUES)
      .optional(),
    receivedBeforeMs: count,
    receivedAfterMs: count,
    minAttempts: count,
    maxAttempts: count,
    minBytes: count,
    maxBytes: count,
    notDestinations: texts,
    rerouted: z.boolean().optional(),
  })
  .transform((given) => withoutUndefined(given) satisfies Selection);
const filter = z.strictObject({
  selection: selection.optional(),
  limit: z.int().min(1).max(MAX_LIST_ROWS),
  afterQueueId: queueId.optional(),
});

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

export function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as Defined<T>;
}

const action = z.union([
  z.enum(QUEUE_ACTIONS),
  z.strictObject({ fail: z.string().refine(isFailText) }),
  z.strictObject({
    reroute: z
      .string()
      .max(MAX_HOP)
      .transform(viaKey)
      .refine((key) => key !== null)
      .nullable(),
  }),
]);

const patterns = z.array(z.string().max(MAX_PATTERN_LENGTH)).max(MAX_PATTERNS);
const selectors = z.strictObject({
  destinations: patterns,
  domains: patterns,
  senders: patterns,
  users: patterns,
  tenants: patterns.default([]),
  campaigns: patterns.default([]),
});
const network = z.string().min(1).max(64);
const id = z.int();
export const requestSchema = z.discriminatedUnion('method', [
  z.strictObject({ id, method: z.literal('list'), params: filter }),
  z.strictObject({
    id,
    method: z.literal('count'),
    params: z.strictObject({ selection, by: z.enum(COUNT_KEYS).nullable() }),
  }),
  z.strictObject({ id, method: z.literal('show'), params: z.strictObject({ queueId }) }),
  z.strictObject({
    id,
    method: z.literal('content'),
    params: z.strictObject({
      queueId,
      offset: z.int().min(0),
      maxBytes: z.int().min(1).max(MAX_CONTENT_BYTES),
    }),
  }),
  z.strictObject({ id, method: z.literal('stats'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('status'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('reload'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('unknown_replies'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('shards'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('sites'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('sources'), params: z.strictObject({}) }),
  z.strictObject({
    id,
    method: z.literal('operate'),
    params: z.strictObject({ action, selection, after: cursor.default('') }),
  }),
  z.strictObject({ id, method: z.literal('bans'), params: z.strictObject({}) }),
  z.strictObject({
    id,
    method: z.literal('ban'),
    params: z.strictObject({ network, durationMs: z.int().min(1000).nullable() }),
  }),
  z.strictObject({
    id,
    method: z.literal('standing'),
    params: z.strictObject({ destinations: z.array(z.string().max(MAX_VALUE_LENGTH)).max(MAX_STANDINGS) }),
  }),
  z.strictObject({
    id,
    method: z.literal('explain'),
    params: z.strictObject({ entries: z.array(askedEntry).max(MAX_ASKED) }),
  }),
  z.strictObject({ id, method: z.literal('suspensions'), params: z.strictObject({}) }),
  z.strictObject({
    id,
    method: z.literal('suspend'),
    params: z.strictObject({
      ...selectors.shape,
      reason: z.string().max(MAX_REASON_LENGTH),
      createdBy: z.string().max(MAX_NAME_LENGTH),
      durationMs: z.int().min(1000).nullable(),
      untilMs: z.int().min(0).nullable(),
    }),
  }),
  z.strictObject({
    id,
    method: z.literal('resume'),
    params: z.strictObject({
      order: z.union([
        z.strictObject({ ids: z.array(z.string().min(1).max(16)).min(1).max(MAX_IDS) }),
        z.strictObject({ selectors }),
        z.literal('all'),
      ]),
    }),
  }),
  z.strictObject({ id, method: z.literal('unban'), params: z.strictObject({ network }) }),
]);

export type ControlRequest = z.output<typeof requestSchema>;

export type ControlResponse =
  | {
      id: number | null;
      result: unknown;
      /** Parts of the queue that could not be seen; absent: none. */
      missing?: Missing[];
    }
  | { id: number | null; error: { code: string; message: string } };

/** What became of a reload; with problems nothing changed. */
export interface ReloadAnswer {
  applied: string[];
  needsRestart: string[];
  problems: string[];
}

export interface RunningStats {
  queue: QueueStats;
  scheduler: SchedulerStats;
  journal?: JournalStats | null;
  processes?: ProcessStatus[];
}
