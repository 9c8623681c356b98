/**
 * A Message as it lies on disk (journal, unsettled results): strings and numbers in one flat array. What is new goes to the
 * end, because messages that older relays wrote have fewer values. Between threads it travels in fewer (message-wire.ts).
 */
import { attributesText, readAttributes } from './attributes.ts';
import type { BodyType, ReturnType } from './envelope.ts';
import type { ClientInfo, Message } from './message.ts';
import { readAttachment, readHeader, readRecipient } from './message-wire.ts';
import { type Wire, WireReader } from './wire.ts';

/** Where the reverse-path stands in a record. */
export const REVERSE_PATH_AT = 13;

/** The values of the message; `readRecord` makes it of them again. */
export function recordOf(message: Message): Wire {
  const wire: Wire = [];
  const { envelope, client } = message;
  wire.push(
    message.queueId,
    message.trace,
    message.content,
    message.sizeBytes,
    message.receivedAtMs,
    client.address,
    client.helo,
    client.protocol,
    client.sessionId,
    client.tls?.version ?? null,
    client.tls?.cipher ?? null,
    client.tls?.verified ? 1 : 0,
    client.user ?? null,
    envelope.reversePath,
    envelope.body,
    envelope.smtpUtf8 ? 1 : 0,
    envelope.ret ?? null,
    envelope.envid ?? null,
    message.receptionMs ?? null,
    envelope.recipients.length,
  );
  for (const { address, domain, class: kind, notify, orcpt } of envelope.recipients)
    wire.push(address, domain, kind, notify, orcpt ?? null);
  const attachments = message.attachments ?? [];
  wire.push(envelope.submitter ?? null, attachments.length);
  for (const { name, type, sizeBytes, offset } of attachments) wire.push(name, type, sizeBytes, offset);
  const headers = message.headers ?? [];
  wire.push(message.messageId ?? null, client.listener ?? null, client.port ?? null, headers.length);
  for (const { name, value } of headers) wire.push(name, value);
  const { attributes } = message;
  wire.push(message.originalQueueId ?? null, attributes === undefined ? null : attributesText(attributes));
  return wire;
}

export function readRecord(record: Wire): Message {
  const r = new WireReader(record);
  const message: Message = {
    queueId: r.text(),
    trace: r.text(),
    content: r.number(),
    sizeBytes: r.number(),
    receivedAtMs: r.number(),
    client: readClient(r),
    envelope: {
      reversePath: r.text(),
      body: r.text() as BodyType,
      smtpUtf8: r.number() === 1,
      recipients: [],
    },
  };
  const { envelope } = message;
  const ret = r.optional<ReturnType>();
  if (ret !== null) envelope.ret = ret;
  const envid = r.optional<string>();
  if (envid !== null) envelope.envid = envid;
  const receptionMs = r.optional<number>();
  if (receptionMs !== null) message.receptionMs = receptionMs;
  envelope.recipients = r.list(readRecipient);
  const submitter = r.optional<string>();
  if (submitter !== null) envelope.submitter = submitter;
  const attachments = r.optional<number>() ?? 0;
  if (attachments > 0) message.attachments = Array.from({ length: attachments }, () => readAttachment(r));
  const messageId = r.optional<string>();
  if (messageId !== null) message.messageId = messageId;
  const listener = r.optional<string>();
  if (listener !== null) message.client.listener = listener;
  const port = r.optional<number>();
  if (port !== null) message.client.port = port;
  const headers = r.optional<number>() ?? 0;
  if (headers > 0) message.headers = Array.from({ length: headers }, () => readHeader(r));
  const originalQueueId = r.optional<string>();
  if (originalQueueId !== null) message.originalQueueId = originalQueueId;
  const attributes = r.optional<string>();
  if (attributes !== null) message.attributes = readAttributes(attributes);
  return message;
}

function readClient(r: WireReader): ClientInfo {
  const client: ClientInfo = {
    address: r.text(),
    helo: r.text(),
    protocol: r.text(),
    sessionId: r.text(),
  };
  const version = r.optional<string>();
  const cipher = r.optional<string>();
  const verified = r.number() === 1;
  const user = r.optional<string>();
  if (user !== null) client.user = user;
  if (version !== null && cipher !== null) client.tls = { version, cipher, verified };
  return client;
}
