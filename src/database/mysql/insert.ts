/**
 * Inserts the rows of many messages with one bulk statement a table. Every recipient must stand in exactly one
 * outbox row, or the batch is refused.
 */
import type { Connection } from 'mariadb';
import { RelayError } from '../../base/errors.ts';
import type { ContentRef } from '../../storage/storage.ts';
import { type CommitMessage, FIRST_FENCE } from '../database.ts';
import { mailValues } from '../mail-rows.ts';
import { seqsText } from '../seq-runs.ts';

const MAIL = `INSERT INTO mails (id, reverse_path, body, smtp_utf8, ret, envid, submitter, trace, size_bytes, received_at,
    client_address, client_helo, protocol, session_id, message_id, auth_user, listener, headers, attributes, object, content_at,
    attachments, recipients, open_rows)
  VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`;
const RECIPIENT =
  'INSERT INTO mail_recipients (mail_id, seq, address, domain, class, notify, orcpt) VALUES (?,?,?,?,?,?,?)';
const OUTBOX = `INSERT INTO mail_outbox (mail_id, destination, state, due_at, attempts, fence, lease_owner, seqs, waiting)
  VALUES (?,?,?,?,0,?,?,?,?)`;
const ATTACHMENT =
  'INSERT INTO attachments (mail_id, seq, name, type, size_bytes, content_offset) VALUES (?,?,?,?,?,?)';
const HEADER = 'INSERT INTO mail_headers (mail_id, seq, name, value) VALUES (?,?,?,?)';
/** Most rows in one bulk statement; bounds its memory on both sides. */
const BULK_ROWS = 2000;

type Row = (string | number | null)[];

export interface Insertion {
  entry: CommitMessage;
  ref: ContentRef;
}

export interface Lease {
  nowMs: number;
  leaseUntilMs: number;
  owner: string;
}

export async function insertMessages(
  connection: Connection,
  insertions: readonly Insertion[],
  lease: Lease,
): Promise<void> {
  const mails: Row[] = [];
  const recipients: Row[] = [];
  const outbox: Row[] = [];
  const attachments: Row[] = [];
  const headers: Row[] = [];
  for (const insertion of insertions) {
    mails.push(mailRow(insertion));
    addRecipients(recipients, insertion.entry);
    addOutbox(outbox, insertion.entry, lease);
    const { queueId, attachments: found, headers: kept } = insertion.entry.message;
    kept?.forEach(({ name, value }, seq) => {
      headers.push([queueId, seq, name, value]);
    });
    found?.forEach(({ name, type, sizeBytes, offset }, seq) => {
      attachments.push([queueId, seq, name, type, sizeBytes, offset]);
    });
  }
  // The statements are sent one behind the other without waiting; the replies come in order.
  await Promise.all([
    bulk(connection, MAIL, mails),
    bulk(connection, RECIPIENT, recipients),
    bulk(connection, OUTBOX, outbox),
    bulk(connection, ATTACHMENT, attachments),
    bulk(connection, HEADER, headers),
  ]);
}

/** One statement for up to BULK_ROWS rows. */
export async function bulk(connection: Connection, sql: string, rows: readonly Row[]): Promise<void> {
  for (let at = 0; at < rows.length; at += BULK_ROWS) {
    const part = rows.slice(at, at + BULK_ROWS);
    if (part.length === 1) await connection.execute(sql, part[0]);
    else await connection.batch(sql, part);
  }
}

function mailRow({ entry: { message, plan }, ref }: Insertion): Row {
  return [
    ...mailValues(message),
    ref.object,
    ref.offset,
    message.attachments?.length ?? 0,
    message.envelope.recipients.length,
    plan.length,
  ];
}

function addRecipients(rows: Row[], { message }: CommitMessage): void {
  const { queueId, envelope } = message;
  envelope.recipients.forEach(({ address, domain, class: kind, notify, orcpt }, seq) => {
    rows.push([queueId, seq, address, domain, kind, notify, orcpt ?? null]);
  });
}

function addOutbox(rows: Row[], { message, plan }: CommitMessage, lease: Lease): void {
  let planned = 0;
  for (const { destination, state, seqs } of plan) {
    planned += seqs.length;
    const sending = state === 'SENDING';
    const dueAt = sending ? lease.leaseUntilMs : state === 'PENDING' ? lease.nowMs : null;
    const [fence, owner] = sending ? [FIRST_FENCE, lease.owner] : [0, null];
    rows.push([message.queueId, destination, state, dueAt, fence, owner, seqsText(seqs), seqs.length]);
  }
  if (planned === 0 || planned !== message.envelope.recipients.length)
    throw new RelayError(
      'database_refused',
      `message ${message.queueId}: the plan covers ${planned} of ${message.envelope.recipients.length} recipients`,
    );
}
