/** From a transaction whose content is complete to the message that is stored: queue id, trace, what submission adds. */
import type { ContentHandle, Message } from '../mail/message.ts';
import { attachmentsIn } from '../protocol/mime/attachments.ts';
import { receivedHeader, transmissionType } from '../protocol/trace.ts';
import type { Told } from '../protocol/xclient.ts';
import type { Session } from './session.ts';
import type { Transaction } from './state.ts';
import { missingFields } from './submission.ts';
import { knownOf } from './xclient.ts';

/** @param forwarded what XFORWARD said: for the records only, the trace names who really connected. */
export function messageOf(
  session: Session,
  { envelope, startedAtMs }: Transaction,
  content: ContentHandle,
  forwarded: Told | null,
): Message {
  const { shards, dates, clock, arena, settings } = session.context;
  const client = envelope.smtpUtf8 ? { ...session.client, protocol: utf8Protocol(session) } : session.client;
  const queueId = shards.queueId(envelope);
  const only = envelope.recipients.length === 1 ? (envelope.recipients[0]?.address ?? '') : '';
  const date = dates.at(clock.nowMs);
  const received = receivedHeader({
    helo: client.helo,
    clientAddress: client.address,
    clientName: session.policy.clientName,
    hostname: settings.hostname,
    protocol: client.protocol,
    tls: client.tls,
    queueId,
    recipient: envelope.smtpUtf8 ? '' : only,
    date,
  });
  let trace = session.policy.tags() + received;
  if (session.listener.submission)
    trace += missingFields(content, arena, { date, messageId: `${queueId}@${settings.hostname}` });
  const sizeBytes = arena.lengthBytes(content);
  const receivedAtMs = clock.nowMs;
  const receptionMs = clock.steadyMs - startedAtMs;
  const told = forwarded === null ? client : { ...client, ...knownOf(forwarded) };
  const message: Message = {
    queueId,
    envelope,
    trace,
    content,
    sizeBytes,
    receivedAtMs,
    receptionMs,
    client: told,
  };
  const attachments = settings.indexAttachments ? attachmentsIn(arena, content) : [];
  if (attachments.length > 0) message.attachments = attachments;
  return message;
}

function utf8Protocol({ secure, user }: Session): string {
  return transmissionType(true, { secure, authenticated: user !== null, utf8: true });
}
