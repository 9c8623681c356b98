/**
 * Writes one DSN: multipart/report with a text for people, the machine-readable fields of RFC 3464, and the message
 * or its header section. Seven-bit wherever a part may be encoded, so that a report does not fail for want of
 * 8BITMIME. Pure. Nothing a client or a peer said can start a new line here.
 */
import type { BodyType } from '../mail/envelope.ts';
import type { Job } from '../mail/job.ts';
import type { PeerReply } from '../mail/outcome.ts';
import { formatDate } from '../protocol/date.ts';
import { decodeXtext } from '../protocol/xtext.ts';
import { writeText } from './dsn-text.ts';
import { isAscii, isSevenBitText, quotedPrintable } from './quoted-printable.ts';

export interface DsnRecipient {
  address: string;
  /** As the client gave it. */
  orcpt?: string;
  action: 'failed' | 'delayed' | 'relayed';
  status: string;
  reply?: PeerReply;
  detail?: string;
  lastAttemptMs: number;
  willRetryUntilMs?: number;
}

export interface Returned {
  part: 'message' | 'headers';
  bytes: Buffer;
}

export interface ReportInput {
  hostname: string;
  queueId: string;
  nowMs: number;
  original: Pick<Job, 'queueId' | 'reversePath' | 'receivedAtMs' | 'envid' | 'smtpUtf8'>;
  recipients: readonly DsnRecipient[];
  returned: Returned | null;
}

export interface Report {
  bytes: Buffer;
  body: BodyType;
  smtpUtf8: boolean;
}

/** Longest line of the machine-readable part; RFC 5322 allows 998. */
const FOLD_AT = 900;

export function writeReport(input: ReportInput): Report {
  const { returned } = input;
  // With an internationalized sender the report itself is an internationalized message (RFC 6533 §5).
  const smtpUtf8 = !isAscii(Buffer.from(input.original.reversePath));
  const third = returned === null ? null : returnedPart(returned, input.original.smtpUtf8);
  const boundary = boundaryFor(input.queueId, third?.bytes ?? null);
  const parts: (string | Buffer)[] = [headerSection(input, boundary, smtpUtf8)];
  parts.push(`--${boundary}\r\n`, textPart(input));
  parts.push(`--${boundary}\r\n`, statusPart(input, smtpUtf8));
  let eightBit = smtpUtf8;
  if (third !== null) {
    parts.push(`--${boundary}\r\n`, third.header, third.bytes, endsLine(third.bytes) ? '' : '\r\n');
    eightBit ||= third.eightBit;
  }
  parts.push(`--${boundary}--\r\n`);
  const bytes = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  return { bytes, body: eightBit ? '8BITMIME' : '7BIT', smtpUtf8 };
}

/** Nobody can know our queue id beforehand; looked for all the same. */
function boundaryFor(queueId: string, bytes: Buffer | null): string {
  const boundary = `=_dsn_${queueId}`;
  let longest = -1;
  for (let at = bytes?.indexOf(boundary) ?? -1; bytes && at >= 0; ) {
    let end = at + boundary.length;
    while (bytes[end] === 0x5f) end++;
    longest = Math.max(longest, end - at - boundary.length);
    at = bytes.indexOf(boundary, end);
  }
  return boundary + '_'.repeat(longest + 1);
}

function headerSection(input: ReportInput, boundary: string, smtpUtf8: boolean): string {
  const { hostname, queueId, nowMs, original } = input;
  const type = smtpUtf8 ? 'global-delivery-status' : 'delivery-status';
  return [
    `Date: ${formatDate(nowMs)}`,
    `From: Mail Delivery System <MAILER-DAEMON@${hostname}>`,
    `To: <${oneLine(original.reversePath)}>`,
    `Subject: ${subject(input.recipients)}`,
    `Message-ID: <${queueId}@${hostname}>`,
    'Auto-Submitted: auto-replied',
    'MIME-Version: 1.0',
    `Content-Type: multipart/report; report-type=${type};`,
    `\tboundary="${boundary}"`,
    '',
    'This is a report in the format of RFC 3464.',
    '',
    '',
  ].join('\r\n');
}

function subject(recipients: readonly DsnRecipient[]): string {
  if (recipients.some(({ action }) => action === 'failed')) return 'Mail could not be delivered';
  if (recipients.some(({ action }) => action === 'delayed')) return 'Mail is delayed';
  return 'Mail was passed on';
}

function textPart(input: ReportInput): string {
  const text = writeText(input);
  const ascii = isAscii(Buffer.from(text));
  const charset = ascii ? 'us-ascii' : 'utf-8';
  const encoding = ascii ? '' : 'Content-Transfer-Encoding: quoted-printable\r\n';
  const header = `Content-Description: Notification\r\nContent-Type: text/plain; charset=${charset}\r\n${encoding}`;
  return `${header}\r\n${ascii ? text : quotedPrintable(Buffer.from(text))}\r\n`;
}

/** RFC 3464 §2, or its internationalized form (RFC 6533 §4). */
function statusPart(input: ReportInput, utf8: boolean): string {
  const { hostname, original } = input;
  const type = utf8 ? 'message/global-delivery-status' : 'message/delivery-status';
  const lines = ['Content-Description: Delivery report', `Content-Type: ${type}`];
  if (utf8) lines.push('Content-Transfer-Encoding: 8bit');
  lines.push('', `Reporting-MTA: dns; ${hostname}`);
  if (original.envid !== undefined)
    lines.push(`Original-Envelope-Id: ${field(decodeXtext(original.envid), utf8)}`);
  lines.push(`X-Queue-ID: ${original.queueId}`, `Arrival-Date: ${formatDate(original.receivedAtMs)}`);
  for (const recipient of input.recipients) lines.push('', ...recipientFields(recipient, utf8));
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function recipientFields(recipient: DsnRecipient, utf8: boolean): string[] {
  const { orcpt, reply } = recipient;
  const lines: string[] = [];
  if (orcpt !== undefined) lines.push(`Original-Recipient: ${originalRecipient(orcpt, utf8)}`);
  lines.push(`Final-Recipient: ${typedAddress(recipient.address, utf8)}`);
  lines.push(`Action: ${recipient.action}`, `Status: ${recipient.status}`);
  if (reply !== undefined) {
    lines.push(`Remote-MTA: dns; ${field(reply.peer.split(' ')[0] as string, utf8)}`);
    const enhanced = reply.enhanced === '' ? '' : `${reply.enhanced} `;
    const said = `${reply.code} ${enhanced}${reply.text}`;
    lines.push(fold(`Diagnostic-Code: smtp; ${field(said, utf8)}`));
  } else if (recipient.detail !== undefined)
    lines.push(fold(`Diagnostic-Code: X-Relay; ${field(recipient.detail, utf8)}`));
  lines.push(`Last-Attempt-Date: ${formatDate(recipient.lastAttemptMs)}`);
  if (recipient.willRetryUntilMs !== undefined)
    lines.push(`Will-Retry-Until: ${formatDate(recipient.willRetryUntilMs)}`);
  return lines;
}

/** 'rfc822; user@example.com', 'utf-8; …' (RFC 6533 §3: \x{…} where the report is ASCII). */
function typedAddress(address: string, utf8: boolean): string {
  if (isAscii(Buffer.from(address))) return `rfc822; ${oneLine(address)}`;
  return `utf-8; ${utf8 ? oneLine(address) : oneLine(address).replace(/[^\0-\x7f]|\\/gu, escapeCharacter)}`;
}

/** ORCPT is type;xtext, except that utf-8 addresses have an encoding of their own that the field carries too. */
function originalRecipient(orcpt: string, utf8: boolean): string {
  const semicolon = orcpt.indexOf(';');
  const type = orcpt.slice(0, semicolon);
  const address = orcpt.slice(semicolon + 1);
  return `${field(type, utf8)}; ${field(type.toLowerCase() === 'utf-8' ? address : decodeXtext(address), utf8)}`;
}

function escapeCharacter(character: string): string {
  return `\\x{${(character.codePointAt(0) as number).toString(16).toUpperCase()}}`;
}

/** Text of a structured field: on one line, and ASCII unless the report is internationalized. */
function field(text: string, utf8: boolean): string {
  const line = oneLine(text);
  return utf8 ? line : line.replace(/[^\0-\x7f]/gu, '?');
}

function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a line end in a field would begin another field.
  return text.replace(/[\x00-\x1f\x7f]+/g, ' ').trim();
}

/** Breaks a long field at spaces; a word longer than a line is cut. */
function fold(text: string): string {
  if (text.length <= FOLD_AT) return text;
  const at = text.lastIndexOf(' ', FOLD_AT);
  const cut = at > FOLD_AT / 2 ? at : FOLD_AT;
  return `${text.slice(0, cut)}\r\n ${fold(text.slice(cut).trimStart())}`;
}

interface Part {
  header: string;
  bytes: Buffer;
  eightBit: boolean;
}

function returnedPart({ part, bytes }: Returned, international: boolean): Part {
  const ascii = isAscii(bytes);
  const description = `Content-Description: Undelivered ${part === 'message' ? 'message' : 'message headers'}\r\n`;
  if (part === 'message' && !international) {
    // message/rfc822 must not be encoded (RFC 2046 §5.2.1).
    const encoding = ascii ? '' : 'Content-Transfer-Encoding: 8bit\r\n';
    return {
      header: `${description}Content-Type: message/rfc822\r\n${encoding}\r\n`,
      bytes,
      eightBit: !ascii,
    };
  }
  const type = !international
    ? 'text/rfc822-headers'
    : part === 'message'
      ? 'message/global'
      : 'message/global-headers';
  // Octets of a BINARYMIME message may hold a bare LF or CR, which some peer would take for a line end: a report goes
  // out by DATA, so they are encoded like 8-bit ones.
  if (isSevenBitText(bytes))
    return { header: `${description}Content-Type: ${type}\r\n\r\n`, bytes, eightBit: false };
  const encoding = 'Content-Transfer-Encoding: quoted-printable\r\n';
  const encoded = Buffer.from(quotedPrintable(bytes));
  return {
    header: `${description}Content-Type: ${type}\r\n${encoding}\r\n`,
    bytes: encoded,
    eightBit: false,
  };
}

function endsLine(bytes: Buffer): boolean {
  return bytes.length >= 2 && bytes[bytes.length - 2] === 0x0d && bytes[bytes.length - 1] === 0x0a;
}
