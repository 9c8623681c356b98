/** Rows of mails as every engine writes them, and as they become jobs again. */
import { attributesText, readAttributes } from '../mail/attributes.ts';
import type { BodyType, ReturnType } from '../mail/envelope.ts';
import type { Job, JobRecipient } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';

/** What a row of `mails m` says of its message. */
export interface MailRow {
  id: string;
  sizeBytes: number;
  reversePath: string;
  body: string;
  smtpUtf8: number;
  ret: string | null;
  envid: string | null;
  submitter: string | null;
  trace: string;
  receivedAtMs: number;
  messageId: string;
  user: string | null;
  attributes: string | null;
}

/** What a row of the outbox says of its attempts. */
export interface AttemptRow {
  attempts: number;
  fence: number;
  delayNotified: number;
  deaths: number;
  operatorText: string;
}

/** Columns of a MailRow, except those that say where its content is. */
export const MAIL_ROW = `m.reverse_path AS reversePath, m.body, m.smtp_utf8 AS smtpUtf8, m.ret, m.envid, m.submitter, m.trace,
  m.received_at AS receivedAtMs, m.message_id AS messageId, m.auth_user AS user,
  m.attributes`;

/** The values of a message's row, from `id` to `attributes`. */
export function mailValues(message: Message): (string | number | null)[] {
  const { queueId, envelope, client, trace, sizeBytes, receivedAtMs } = message;
  return [
    queueId,
    envelope.reversePath,
    envelope.body,
    envelope.smtpUtf8 ? 1 : 0,
    envelope.ret ?? null,
    envelope.envid ?? null,
    envelope.submitter ?? null,
    trace,
    sizeBytes,
    receivedAtMs,
    client.address,
    client.helo,
    client.protocol,
    client.sessionId,
    message.messageId ?? '',
    client.user ?? null,
    client.listener ?? '',
    message.headers?.length ?? 0,
    message.attributes === undefined ? null : attributesText(message.attributes),
  ];
}

/** A row that is being leased, as the job of its next attempt. */
export function jobOf(
  mail: MailRow,
  row: AttemptRow,
  destination: string,
  recipients: JobRecipient[],
  content: number,
): Job {
  const job: Job = {
    queueId: mail.id,
    destination,
    attempts: row.attempts,
    fence: row.fence + 1,
    reversePath: mail.reversePath,
    body: mail.body as BodyType,
    smtpUtf8: mail.smtpUtf8 === 1,
    trace: mail.trace,
    content,
    sizeBytes: mail.sizeBytes,
    receivedAtMs: mail.receivedAtMs,
    delayNotified: row.delayNotified === 1,
    recipients,
  };
  if (row.deaths > 0) job.suspicion = row.deaths;
  if (row.operatorText !== '') job.operatorText = row.operatorText;
  if (mail.ret !== null) job.ret = mail.ret as ReturnType;
  if (mail.envid !== null) job.envid = mail.envid;
  if (mail.submitter !== null) job.submitter = mail.submitter;
  if (mail.messageId !== '') job.messageId = mail.messageId;
  if (mail.user !== null) job.user = mail.user;
  if (mail.attributes !== null) job.attributes = readAttributes(mail.attributes);
  return job;
}
