/**
 * Writes one DSN: multipart/report with a text for people, the machine-readable fields of RFC 3464, and the message
 * or its header section. Every host accepts it: ASCII, lines of at most 998 octets, CR and LF only together, no NUL.
 * Only a report to a sender whose local part is outside ASCII needs hosts with SMTPUTF8. Pure. No text of a client or
 * a peer can begin a new line here.
 */
import { domainOf } from '../base/domain.ts';
import { onOneLine } from '../base/printable.ts';
import type { BodyType } from '../mail/envelope.ts';
import type { Peer } from '../mail/peer.ts';
import { formatDate } from '../protocol/date.ts';
import { decodeXtext } from '../protocol/xtext.ts';
import { writeText } from './dsn-text.ts';
import { isAscii, isSevenBitText, quotedPrintable } from './quoted-printable.ts';
import type { DsnRecipient, ReportInput, Returned } from './report-input.ts';

export interface Report {
  bytes: Buffer;
  body: BodyType;
  smtpUtf8: boolean;
  /** Length of the returned part of the message, encoded. */
  returnedBytes: number;
}

/**
 * Longest lines of the machine-readable part in characters, when these have one octet, and up to four; 998 octets are
 * allowed.
 */
const FOLD_AT = 900;
const FOLD_WIDE_AT = 240;

/** The address of a report. Its domain is in A-labels, so that only a local part outside ASCII needs SMTPUTF8. */
export function reportAddress(reversePath: string): string {
  if (isAscii(Buffer.from(reversePath))) return reversePath;
  return reversePath.slice(0, reversePath.lastIndexOf('@') + 1) + domainOf(reversePath);
}

export function writeReport(input: ReportInput): Report {
  const { returned } = input;
  // With an internationalized sender the report itself is an internationalized message (RFC 6533 §5).
  const smtpUtf8 = !isAscii(Buffer.from(reportAddress(input.original.reversePath)));
  const third = returned === null ? null : returnedPart(returned, input.original.smtpUtf8);
  const boundary = boundaryFor(input.queueId, third?.bytes ?? null);
  const parts: (string | Buffer)[] = [headerSection(input, boundary, smtpUtf8)];
  parts.push(`--${boundary}\r\n`, textPart(input));
  parts.push(`--${boundary}\r\n`, statusPart(input, smtpUtf8));
  if (third !== null)
    parts.push(`--${boundary}\r\n`, third.header, third.bytes, endsLine(third.bytes) ? '' : '\r\n');
  parts.push(`--${boundary}--\r\n`);
  const bytes = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  return { bytes, body: smtpUtf8 ? '8BITMIME' : '7BIT', smtpUtf8, returnedBytes: third?.bytes.length ?? 0 };
}

/** The MIME boundary. Nobody can know our queue id beforehand, but the content is searched for it all the same. */
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
    `To: <${oneLine(reportAddress(original.reversePath))}>`,
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

/** The machine-readable part (RFC 3464 §2), or its internationalized form (RFC 6533 §4). */
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
  return `${lines.map(fold).join('\r\n')}\r\n\r\n`;
}

function recipientFields(recipient: DsnRecipient, utf8: boolean): string[] {
  const { orcpt, reply } = recipient;
  const lines: string[] = [];
  if (orcpt !== undefined) lines.push(`Original-Recipient: ${originalRecipient(orcpt, utf8)}`);
  lines.push(`Final-Recipient: ${typedAddress(recipient.address, utf8)}`);
  lines.push(`Action: ${recipient.action}`, `Status: ${recipient.status}`);
  if (reply !== undefined) {
    lines.push(`Remote-MTA: dns; ${field(hostName(reply.peer), utf8)}`);
    const enhanced = reply.enhanced === '' ? '' : `${reply.enhanced} `;
    const said = `${reply.code} ${enhanced}${reply.text}`;
    lines.push(`Diagnostic-Code: smtp; ${field(said, utf8)}`);
  } else if (recipient.detail !== undefined)
    lines.push(`Diagnostic-Code: X-Relay; ${field(recipient.detail, utf8)}`);
  lines.push(`Last-Attempt-Date: ${formatDate(recipient.lastAttemptMs)}`);
  if (recipient.willRetryUntilMs !== undefined)
    lines.push(`Will-Retry-Until: ${formatDate(recipient.willRetryUntilMs)}`);
  return lines;
}

/** A host without a name is named by its address, as in RFC 5321 §4.1.3. */
const hostName = ({ host, address }: Peer): string => (host === address ? `[${address}]` : host);

/** 'rfc822; user@example.com', 'utf-8; …' (RFC 6533 §3: \x{…} where the report is ASCII). */
function typedAddress(address: string, utf8: boolean): string {
  if (isAscii(Buffer.from(address))) return `rfc822; ${oneLine(address)}`;
  return `utf-8; ${utf8 ? oneLine(address) : oneLine(address.replace(/[^\0-\x7f]|\\/gu, escapeCharacter))}`;
}

/**
 * The field for an ORCPT, which is type;xtext. utf-8 addresses have an encoding of their own, which the field keeps.
 */
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
  return onOneLine(text).trim();
}

/** Breaks a long field at spaces. A word longer than a line is cut, but never within an encoded character. */
function fold(text: string): string {
  const parts: string[] = [];
  let rest = text;
  for (;;) {
    const most = isAscii(Buffer.from(rest)) ? FOLD_AT : FOLD_WIDE_AT;
    if (rest.length <= most) break;
    const space = rest.lastIndexOf(' ', most);
    const character = rest.lastIndexOf('\\', most);
    const at = space > most / 2 ? space : character > most / 2 ? character : most;
    parts.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return [...parts, rest].join('\r\n ');
}

interface Part {
  header: string;
  bytes: Buffer;
}

/**
 * The part with the returned message. message/rfc822 must not be encoded (RFC 2046 §5.2.1), so it is only for messages
 * that every host accepts as they are. Others are returned as message/global, which may be encoded (RFC 6532 §3.7).
 */
function returnedPart({ part, bytes }: Returned, international: boolean): Part {
  const description = `Content-Description: Undelivered ${part === 'message' ? 'message' : 'message headers'}\r\n`;
  if (isSevenBitText(bytes)) {
    const type = part === 'message' ? 'message/rfc822' : 'text/rfc822-headers';
    return { header: `${description}Content-Type: ${type}\r\n\r\n`, bytes };
  }
  const headers = international ? 'message/global-headers' : 'text/rfc822-headers';
  const type = part === 'message' ? 'message/global' : headers;
  const encoding = 'Content-Transfer-Encoding: quoted-printable\r\n';
  const header = `${description}Content-Type: ${type}\r\n${encoding}\r\n`;
  return { header, bytes: Buffer.from(quotedPrintable(bytes)) };
}

function endsLine(bytes: Buffer): boolean {
  return bytes.length >= 2 && bytes[bytes.length - 2] === 0x0d && bytes[bytes.length - 1] === 0x0a;
}
