/**
 * Reads what comes back to a return path: reports of non-delivery (RFC 3464, RFC 6533, and the forms of programs that write
 * their own), complaints (RFC 5965, which RFC 9477 uses too), replies of machines. It says what the report says, and
 * believes none of it: who compares it with the token is report-fates.ts. Linear in what it reads, never throws. Pure.
 */
import { isIP } from 'node:net';
import { failuresInWords } from './plain-reports.ts';
import { type Fields, fieldsOf, type Part, type Parts, partsOf, split, textOf } from './report-parts.ts';
import { addressesIn, type Failure, refusalIn } from './reported-failure.ts';
import { failuresInText, originalInText } from './text-reports.ts';

/** What it says of the message it is about. */
export interface Original {
  /** Without its brackets; '' where it is not there. */
  messageId: string;
  feedbackId: string;
  /** Addresses anywhere in it that look like tokens of return paths. */
  tokens: string[];
}

export type Report = { original: Original } & (
  | { kind: 'failed'; failures: Failure[] }
  /** `type` as in RFC 5965 §7.3. */
  | { kind: 'complaint'; type: string; addresses: string[]; sourceAddress: string }
  /** Somebody took it out of the spam folder. */
  | { kind: 'not_spam'; addresses: string[] }
  /** Nothing failed: delays, deliveries, replies of machines. */
  | { kind: 'delayed' | 'delivered' | 'auto_reply' }
  /** Neither of these, or damaged. */
  | { kind: 'unparsed' }
);

const MAX_FAILURES = 100;
/** A report is about one transaction, and that has 1,000 recipients at most as shipped. */
const MAX_SECTIONS = 2000;
const MAX_TOKENS = 8;
const MAX_HTML = 32_768;
const TOKEN = /b\+[a-z2-7]{39,62}@[a-z0-9.-]{1,255}/gi;
const ORIGINALS = /^(?:message\/(?:rfc822|global)(?:-headers)?|text\/rfc822-headers)$/;

/** @param head the first MAX_REPORT_BYTES of it. */
export function readReport(head: Buffer): Report {
  const parts = partsOf(head);
  const leaf = (type: RegExp): Part | undefined => parts.leaves.find((one) => type.test(one.type));
  const texts = parts.leaves.filter(({ type }) => type === 'text/plain').map(textOf);
  const copy = leaf(ORIGINALS);
  const copied = copy === undefined ? originalInText(texts[0] ?? '') : split(textOf(copy)).fields;
  const original = originalOf(copied, head);
  const feedback = leaf(/^message\/feedback-report$/);
  if (feedback !== undefined) return { original, ...complaintIn(fieldsOf(textOf(feedback)), copied) };
  const status = leaf(/^message\/(?:global-)?delivery-status$/);
  const told = status === undefined ? null : statusIn(textOf(status), parts);
  if (told !== null && (told.kind !== 'unparsed' || parts.isCut)) return { original, ...told };
  const failures = failuresInText(parts.fields, texts[0] ?? '');
  if (failures.length === 0) failures.push(...failuresInWords(parts.fields, texts[0] ?? htmlText(parts)));
  if (failures.length > 0) return { original, kind: 'failed', failures };
  return { original, kind: isAutoReply(parts) ? 'auto_reply' : 'unparsed' };
}

/** What people see of a part in HTML, about. */
function htmlText({ leaves }: Parts): string {
  const html = leaves.find(({ type }) => type === 'text/html');
  if (html === undefined) return '';
  const text = textOf(html)
    .slice(0, MAX_HTML)
    .replaceAll(/<[^<>]*>/g, '\n');
  return text.replaceAll('&lt;', '<').replaceAll('&gt;', '>');
}

/** RFC 3834, and what came before it. */
function isAutoReply({ fields, type, isCut }: Parts): boolean {
  if (type === 'multipart/report' || isCut) return false;
  const said = (fields.get('auto-submitted') ?? 'no').toLowerCase();
  if (!said.startsWith('no')) return true;
  if (fields.has('x-autoreply') || fields.has('x-autorespond')) return true;
  return /^(?:auto_reply|bulk|junk|list)/i.test(fields.get('precedence') ?? '');
}

function originalOf(fields: Fields, head: Buffer): Original {
  const whole = head.toString('latin1');
  const tokens = new Set<string>();
  for (const [token] of whole.matchAll(TOKEN)) {
    tokens.add(token.toLowerCase());
    if (tokens.size >= MAX_TOKENS) break;
  }
  return {
    messageId: (fields.get('message-id') ?? '').replace(/^</, '').split('>', 1)[0]?.slice(0, 255) ?? '',
    feedbackId: (fields.get('cfbl-feedback-id') ?? fields.get('feedback-id') ?? '').slice(0, 255),
    tokens: [...tokens],
  };
}

/** RFC 5965 §3: one section of fields. */
function complaintIn(
  fields: Fields,
  copied: Fields,
):
  | { kind: 'complaint'; type: string; addresses: string[]; sourceAddress: string }
  | { kind: 'not_spam'; addresses: string[] }
  | { kind: 'unparsed' } {
  const type = (fields.get('feedback-type') ?? '').toLowerCase().split(/[\s;(]/, 1)[0] as string;
  if (type === '') return { kind: 'unparsed' };
  const said = [
    fields.get('original-rcpt-to'),
    fields.get('removal-recipient'),
    fields.get('x-hmxmroriginalrecipient'),
    copied.get('x-hmxmroriginalrecipient'),
    copied.get('delivered-to'),
    copied.get('to'),
  ];
  const addresses = addressesIn(said.join('\n'));
  if (type === 'not-spam') return { kind: 'not_spam', addresses };
  // Where the complained of message came from: one of our addresses, if the report is right.
  const sourceAddress = isIP(fields.get('source-ip') ?? '') === 0 ? '' : (fields.get('source-ip') as string);
  return {
    kind: 'complaint',
    type: /^[a-z][a-z0-9-]{0,30}$/.test(type) ? type : 'other',
    addresses,
    sourceAddress,
  };
}

/** RFC 3464 §2: fields about the message, then a section for each recipient. */
function statusIn(
  text: string,
  { isCut }: Parts,
): { kind: 'failed'; failures: Failure[] } | { kind: 'delayed' | 'delivered' | 'unparsed' } {
  const failures: Failure[] = [];
  let isDelayed = false;
  let isDelivered = false;
  for (const section of text.split(/\n[ \t]*\n/, MAX_SECTIONS)) {
    const fields = fieldsOf(section.trimStart());
    const action = (fields.get('action') ?? '').toLowerCase().split(/[\s;(]/, 1)[0] as string;
    if (!fields.has('final-recipient') && !fields.has('original-recipient')) continue;
    const status = /\b[245]\.\d{1,3}\.\d{1,3}\b/.exec(fields.get('status') ?? '')?.[0] ?? '';
    if (action === 'delayed') isDelayed = true;
    else if (/^(?:delivered|relayed|expanded)$/.test(action)) isDelivered = true;
    // Some leave out the action, or write a word of their own: then the status decides.
    else if ((action === 'failed' || status.startsWith('5')) && failures.length < MAX_FAILURES)
      failures.push(failureOf(fields, status));
  }
  if (failures.length > 0) return { kind: 'failed', failures };
  if (isCut && !isDelayed && !isDelivered) return { kind: 'unparsed' };
  return { kind: isDelayed ? 'delayed' : isDelivered ? 'delivered' : 'unparsed' };
}

function failureOf(fields: Fields, status: string): Failure {
  const names = ['original-recipient', 'x-original-recipient', 'final-recipient', 'x-actual-recipient'];
  const addresses = names.flatMap((name) => {
    const address = typedAddress(fields.get(name) ?? '');
    return address === '' ? [] : [address];
  });
  const diagnostic = afterType(fields.get('diagnostic-code') ?? '').replaceAll(/[ \t]+/g, ' ');
  return {
    addresses: [...new Set(addresses)],
    ...refusalIn(diagnostic, status),
    host:
      afterType(fields.get('remote-mta') ?? fields.get('reporting-mta') ?? '')
        .split(/[\s(]/, 1)[0]
        ?.slice(0, 255) ?? '',
  };
}

/** What follows the type of 'rfc822; user@example.com'. */
const afterType = (value: string): string => value.slice(value.indexOf(';') + 1).trim();

/** RFC 3464 §2.1.2, RFC 6533 §3: 'rfc822;…', 'utf-8;…' with characters as \x{…}. */
function typedAddress(value: string): string {
  const address = afterType(value)
    .replace(/^<(.*)>$/, '$1')
    .replaceAll(/\\x\{([0-9A-Fa-f]{1,6})\}/g, (whole, hex: string) => {
      const point = Number.parseInt(hex, 16);
      return point > 0x10ffff ? whole : String.fromCodePoint(point);
    });
  return address.length <= 320 && address.includes('@') ? address : '';
}
