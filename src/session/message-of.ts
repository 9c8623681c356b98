/** From a transaction whose content is complete to the message that is stored: queue id, trace, what submission adds. */
import type { Attributes } from '../mail/attributes.ts';
import type { ContentHandle, Message } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import { fieldsNamed, messageIdIn } from '../protocol/header-fields.ts';
import { attachmentsIn } from '../protocol/mime/attachments.ts';
import { receivedHeader, transmissionType } from '../protocol/trace.ts';
import type { Told } from '../protocol/xclient.ts';
import type { Session } from './session.ts';
import type { Transaction } from './state.ts';
import { missingFields, type WantedFields } from './submission.ts';
import { knownOf } from './xclient.ts';

/** @param forwarded what XFORWARD said: for the records only, the trace names who really connected. */
export function messageOf(
  session: Session,
  { envelope, startedAtMs }: Transaction,
  content: ContentHandle,
  attributes: Attributes | undefined,
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
  let messageId = messageIdIn(arena, content);
  const wanted = wantedFields(session, content, attributes, date, queueId);
  if (wanted !== null) {
    const added = missingFields(content, arena, wanted);
    const ours = wanted.messageId?.slice(1, -1) ?? '';
    if (messageId === '' && ours !== '' && added.includes(ours)) messageId = ours;
    trace += added;
  }
  if (beginsFolded(content, arena)) trace += '\r\n';
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
  if (attributes !== undefined) message.attributes = attributes;
  if (messageId !== '') message.messageId = messageId;
  if (settings.keptHeaders.size > 0) message.headers = fieldsNamed(arena, content, settings.keptHeaders);
  const attachments = settings.indexAttachments ? attachmentsIn(arena, content) : [];
  if (attachments.length > 0) message.attachments = attachments;
  return message;
}

/** Fields that the message gets where it lacks them; null: none. */
function wantedFields(
  session: Session,
  content: ContentHandle,
  attributes: Attributes | undefined,
  date: string,
  queueId: string,
): WantedFields | null {
  const { listener, context, user, client } = session;
  const { added, attributes: rules, hostname } = context.settings;
  const adds = added.any && rules.trusts(user !== null, client.address);
  if (!listener.submission && !adds) return null;
  const ours = { date, messageId: `<${queueId}@${hostname}>` };
  const wanted = adds ? added.wanted(content, context.arena, attributes ?? {}, ours) : {};
  return listener.submission ? { ...wanted, ...ours } : wanted;
}

/**
 * Content that begins with a space or tab would be read as the rest of our last header field, and could have it say what we
 * did not; with an empty line between them it is a body. A content that cannot be read is found out by whoever needs its
 * octets.
 */
function beginsFolded(content: ContentHandle, arena: Pick<Arena, 'head' | 'textAt'>): boolean {
  try {
    const first = arena.textAt(content, 0, 1) || arena.head(content, 1).toString('latin1');
    return first === ' ' || first === '\t';
  } catch {
    return false;
  }
}

function utf8Protocol({ secure, user }: Session): string {
  return transmissionType(true, { secure, authenticated: user !== null, utf8: true });
}
