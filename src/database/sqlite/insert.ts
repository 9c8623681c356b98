/** Inserts the rows of new messages. Every recipient must stand in exactly one outbox row, or the message is refused. */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import { RelayError } from '../../base/errors.ts';
import { execute } from '../../base/sqlite-execute.ts';
import type { Recipient } from '../../mail/envelope.ts';
import type { Attachment } from '../../mail/message.ts';
import type { ContentRef } from '../../storage/storage.ts';
import { type CommitMessage, FIRST_FENCE } from '../database.ts';
import { mailValues } from '../mail-rows.ts';
import { seqsText } from '../seq-runs.ts';

/** Rows per statement for long recipient lists: 10,000 recipients take 313 statements. */
const ROWS_AT_ONCE = 32;
const RECIPIENT_ROW = '(?,?,?,?,?,?,?)';

export class MessageInserter {
  readonly #mail: StatementSync;
  readonly #recipient: StatementSync;
  readonly #recipients: StatementSync;
  readonly #outbox: StatementSync;
  readonly #attachment: StatementSync;
  readonly #header: StatementSync;
  readonly #nodeId: string;

  constructor(db: DatabaseSync, nodeId: string) {
    this.#nodeId = nodeId;
    this.#mail = db.prepare(
      `INSERT INTO mails (id, reverse_path, body, smtp_utf8, ret, envid, submitter, trace, size_bytes, received_at,
         client_address, client_helo, protocol, session_id, message_id, auth_user, listener, headers, attributes, object, content_at,
         content_parts, attachments, open_rows)
       VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    );
    const recipient =
      'INSERT INTO mail_recipients (mail_id, seq, address, domain, class, notify, orcpt) VALUES ';
    this.#recipient = db.prepare(recipient + RECIPIENT_ROW);
    this.#recipients = db.prepare(recipient + Array(ROWS_AT_ONCE).fill(RECIPIENT_ROW).join(','));
    this.#outbox = db.prepare(
      `INSERT INTO mail_outbox (mail_id, destination, state, due_at, attempts, fence, lease_owner, lease_until, seqs, waiting)
       VALUES (?,?,?,?,0,?,?,?,?,?)`,
    );
    this.#attachment = db.prepare('INSERT INTO attachments VALUES (?,?,?,?,?,?)');
    this.#header = db.prepare('INSERT INTO mail_headers VALUES (?,?,?,?)');
  }

  insert(entry: CommitMessage, ref: ContentRef, nowMs: number, leaseUntilMs: number): void {
    const { message, plan } = entry;
    const attachments = message.attachments ?? [];
    execute(
      this.#mail,
      ...mailValues(message),
      ref.object === '' ? null : ref.object,
      ref.offset,
      ref.parts,
      attachments.length,
      plan.length,
    );
    this.#insertRecipients(message.queueId, message.envelope.recipients);
    this.#insertOutbox(entry, nowMs, leaseUntilMs);
    for (let seq = 0; seq < attachments.length; seq++) {
      const { name, type, sizeBytes, offset } = attachments[seq] as Attachment;
      execute(this.#attachment, message.queueId, seq, name, type, sizeBytes, offset);
    }
    message.headers?.forEach(({ name, value }, seq) => {
      execute(this.#header, message.queueId, seq, name, value);
    });
  }

  #insertRecipients(queueId: string, recipients: Recipient[]): void {
    let seq = 0;
    for (; recipients.length - seq >= ROWS_AT_ONCE; seq += ROWS_AT_ONCE) {
      const values: SQLInputValue[] = [];
      for (let i = seq; i < seq + ROWS_AT_ONCE; i++) {
        const { address, domain, class: kind, notify, orcpt } = recipients[i] as Recipient;
        values.push(queueId, i, address, domain, kind, notify, orcpt ?? null);
      }
      execute(this.#recipients, ...values);
    }
    for (; seq < recipients.length; seq++) {
      const { address, domain, class: kind, notify, orcpt } = recipients[seq] as Recipient;
      execute(this.#recipient, queueId, seq, address, domain, kind, notify, orcpt ?? null);
    }
  }

  #insertOutbox({ message, plan }: CommitMessage, nowMs: number, leaseUntilMs: number): void {
    let planned = 0;
    for (const { destination, state, seqs } of plan) {
      planned += seqs.length;
      const sending = state === 'SENDING';
      execute(
        this.#outbox,
        message.queueId,
        destination,
        state,
        state === 'PENDING' ? nowMs : null,
        sending ? FIRST_FENCE : 0,
        sending ? this.#nodeId : null,
        sending ? leaseUntilMs : null,
        seqsText(seqs),
        seqs.length,
      );
    }
    if (planned === 0 || planned !== message.envelope.recipients.length)
      throw new RelayError(
        'database_refused',
        `message ${message.queueId}: the plan covers ${planned} of ${message.envelope.recipients.length} recipients`,
      );
  }
}
