/** A message whose content is complete: with its queue id, its trace, and whom it came from. */
import type { ContentHandle, Message } from '../mail/message.ts';
import { receivedHeader } from '../protocol/trace.ts';
import type { Told } from '../protocol/xclient.ts';
import type { Transaction } from './state.ts';
import type { SessionView } from './verb.ts';
import { knownOf } from './xclient.ts';

/** @param forwarded what XFORWARD said: for the records only, the trace names who really connected. */
export function messageOf(
  session: SessionView,
  { envelope, startedAtMs }: Transaction,
  content: ContentHandle,
  forwarded: Told | null,
): Message {
  const { shards, dates, clock, arena, settings } = session.context;
  const client = envelope.smtpUtf8 ? { ...session.client, protocol: 'UTF8SMTP' } : session.client;
  const queueId = shards.queueId(envelope);
  const only = envelope.recipients.length === 1 ? (envelope.recipients[0]?.address ?? '') : '';
  const received = receivedHeader({
    helo: client.helo,
    clientAddress: client.address,
    hostname: settings.hostname,
    protocol: client.protocol,
    queueId,
    recipient: envelope.smtpUtf8 ? '' : only,
    date: dates.at(clock.nowMs),
  });
  const receivedAtMs = clock.nowMs;
  return {
    queueId,
    envelope,
    trace: session.policy.tags() + received,
    content,
    sizeBytes: arena.lengthBytes(content),
    receivedAtMs,
    receptionMs: Math.max(0, receivedAtMs - startedAtMs),
    client: forwarded === null ? client : { ...client, ...knownOf(forwarded) },
  };
}
