/** The queue in the words of docs/words.md, as `queue … --json` prints it. */

import type { MailDetail, Missing } from '../database/database.ts';
import { type Attributes, type MailClass, readAttributes } from '../mail/attributes.ts';
import type { ActionName } from '../mail/operator-action.ts';
import type { QueueRow } from '../mail/queue-row.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { ReplyClass, ReplyMove, ReplyScope } from '../mail/verdict.ts';
import { type EntryState, type Fate, fateOf, stateWord, textOrNull, timeOf, timeOrNull } from './words.ts';

export interface EntryAnswer {
  queue_id: string;
  destination: string;
  state: EntryState;
  attempts: number;
  /** null where none will come by itself. */
  next_attempt_at: string | null;
  sender: string;
  size_bytes: number;
  received_at: string;
  message_id: string | null;
  /** Who authenticated. */
  user: string | null;
  listener: string | null;
  tenant: string | null;
  campaign: string | null;
  class: MailClass | null;
  pool: string | null;
  metadata: Record<string, unknown> | null;
  deadline_at: string | null;
  waiting_recipients: number;
  reason: string | null;
  /** The peer's last reply, or what we have to say. */
  detail: string | null;
}

/** What the last refusal of a host means (docs/replies.md). */
export interface VerdictAnswer {
  class: ReplyClass;
  scope: ReplyScope;
  move: ReplyMove;
  rule: string | null;
}

/** What an entry or a recipient says of itself means; null: no host refused it. */
export type VerdictOn = (said: { reason: string; detail: string }) => VerdictAnswer | null;

const noVerdict: VerdictOn = () => null;

export interface RecipientAnswer {
  recipient: string;
  destination: string;
  class: string;
  fate: Fate;
  reason: string | null;
  detail: string | null;
  verdict: VerdictAnswer | null;
}

export interface MessageAnswer {
  queue_id: string;
  sender: string;
  size_bytes: number;
  received_at: string;
  client_address: string;
  helo: string | null;
  protocol: string | null;
  trace: string;
  entries: (EntryAnswer & {
    /** Rules of operators that hold recipients of it. */
    suspensions: { id: string; reason: string | null; ends_at: string | null }[];
    verdict: VerdictAnswer | null;
  })[];
  recipients: RecipientAnswer[];
  attachments: { name: string; type: string; size_bytes: number; offset_bytes: number }[];
}

/** A part of the queue that an answer leaves out. */
export interface MissingAnswer {
  kind: Missing['kind'];
  name: string;
  detail: string;
  /** Numbers of the shards whose queue ids are concerned; null: any may be. */
  shards: number[] | null;
}

export interface ActionAnswer {
  action: ActionName;
  /** Those that were changed. */
  entries: number;
  /** Those who were removed, or wait in these entries. */
  recipients: number;
  /** Those that were meant too, but were left alone because they are being sent. */
  sending_entries: number;
  /** Messages that were named and for which there was nothing to do. */
  unchanged_messages: number;
  /** It was ended before all was done. */
  interrupted: boolean;
}

/** Whether a next attempt comes by itself. */
export const hasNextAttempt = ({ state }: Pick<QueueRow, 'state'>): boolean =>
  state === 'PENDING' || state === 'RETRY';

const NO_ATTRIBUTES: Attributes = {};

export const attributesOf = ({ attributes }: Pick<QueueRow, 'attributes'>): Attributes =>
  attributes === null ? NO_ATTRIBUTES : readAttributes(attributes);

export const entryAnswer = (row: QueueRow): EntryAnswer => ({
  queue_id: row.queueId,
  destination: row.destination,
  state: stateWord(row.state),
  attempts: row.attempts,
  next_attempt_at: hasNextAttempt(row) ? timeOf(row.nextAttemptMs) : null,
  sender: row.reversePath,
  size_bytes: row.sizeBytes,
  received_at: timeOf(row.receivedAtMs),
  message_id: textOrNull(row.messageId),
  user: row.user,
  listener: textOrNull(row.listener),
  ...attributesAnswer(attributesOf(row)),
  waiting_recipients: row.waiting,
  reason: textOrNull(row.reason),
  detail: textOrNull(row.detail),
});

const attributesAnswer = ({
  tenant,
  campaign,
  class: kind,
  pool,
  metadata,
  deadlineMs,
  priorityHint,
}: Attributes) => ({
  tenant: tenant ?? null,
  campaign: campaign ?? null,
  class: kind ?? null,
  pool: pool ?? null,
  metadata: metadata === undefined ? null : (JSON.parse(metadata) as Record<string, unknown>),
  deadline_at: timeOrNull(deadlineMs ?? null),
  priority_hint: priorityHint ?? null,
});

/** @param suspensions the rules that hold each entry. @param verdictOn what refusals mean. */
export const messageAnswer = (
  mail: MailDetail,
  suspensions: readonly (readonly SuspensionRule[])[],
  verdictOn: VerdictOn = noVerdict,
): MessageAnswer => ({
  queue_id: mail.queueId,
  sender: mail.reversePath,
  size_bytes: mail.sizeBytes,
  received_at: timeOf(mail.receivedAtMs),
  client_address: mail.clientAddress,
  helo: mail.clientHelo || null,
  protocol: mail.protocol || null,
  trace: mail.trace,
  entries: mail.rows.map((row, i) => ({
    ...entryAnswer(row),
    suspensions: (suspensions[i] ?? []).map(({ id, reason, untilMs }) => ({
      id,
      reason: textOrNull(reason),
      ends_at: timeOrNull(untilMs),
    })),
    verdict: verdictOn(row),
  })),
  recipients: mail.recipients.map((one) => ({
    recipient: one.address,
    destination: one.destination,
    class: one.class,
    fate: fateOf(one),
    reason: textOrNull(one.reason),
    detail: textOrNull(one.detail),
    verdict: verdictOn(one),
  })),
  attachments: mail.attachments.map(({ name, type, sizeBytes, offset }) => ({
    name,
    type,
    size_bytes: sizeBytes,
    offset_bytes: offset,
  })),
});

export const missingAnswer = ({ kind, name, detail, shards }: Missing): MissingAnswer => ({
  kind,
  name,
  detail,
  shards: shards ?? null,
});
