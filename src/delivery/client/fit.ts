/**
 * Whether a message fits what a peer offers: says how it is to be sent, or why it cannot be. Nothing is converted:
 * content travels byte for byte, so where an RFC says 'convert or bounce', the message bounces. A parameter that the
 * content does not need is dropped.
 */

import { readSync } from 'node:fs';
import { isAscii } from '../../base/ascii.ts';
import { domainForm } from '../../base/domain.ts';
import type { Outcome } from '../../mail/outcome.ts';
import type { Arena } from '../../native.ts';
import type { Attempt } from '../attempt.ts';
import { bounced, deferred } from '../outcome.ts';
import type { Capabilities } from './capabilities.ts';

export type Fit =
  | { kind: 'fits'; body: string; utf8: boolean; bdat: boolean }
  /** The message as a whole cannot be sent to this peer. */
  | { kind: 'misfit'; outcome: Outcome };

/** How far a header section is searched for bytes above 127. */
const MAX_HEADER_BYTES = 1_048_576;

const PLAIN: Fit = { kind: 'fits', body: '', utf8: false, bdat: false };
const EIGHT_BIT: Fit = { kind: 'fits', body: ' BODY=8BITMIME', utf8: false, bdat: false };

/** Looks at the message as a whole; `addressFor` looks at addresses of recipients. */
export function fitOf(attempt: Attempt, offered: Capabilities, arena: Arena): Fit {
  const { job, fields } = attempt;
  const total = job.sizeBytes + job.trace.length + fields.length;
  if (offered.maxSizeBytes > 0 && total > offered.maxSizeBytes) {
    const detail = `${total} bytes; the next hop takes ${offered.maxSizeBytes}`;
    return { kind: 'misfit', outcome: bounced('message_too_big', '5.3.4', detail) };
  }
  if (job.body === '7BIT' && !job.smtpUtf8) return PLAIN;
  if (job.body === '8BITMIME' && !job.smtpUtf8 && offered.eightBitMime) return EIGHT_BIT;
  try {
    return extendedFit(attempt, offered, arena);
  } catch (error) {
    const detail = `content cannot be read: ${(error as NodeJS.ErrnoException).code ?? error}`;
    return { kind: 'misfit', outcome: deferred('content_unavailable', null, detail) };
  }
}

function extendedFit(attempt: Attempt, offered: Capabilities, arena: Arena): Fit {
  const { job } = attempt;
  let utf8 = job.smtpUtf8;
  if (utf8 && !offered.smtpUtf8) {
    if (!isAscii(job.reversePath) || !isAscii(job.trace) || headerIsEightBit(attempt, arena)) {
      const detail = 'internationalized message; the next hop does not offer SMTPUTF8';
      return { kind: 'misfit', outcome: bounced('needs_smtputf8', '5.6.7', detail) };
    }
    utf8 = false;
  }
  if (job.body === 'BINARYMIME') {
    if (offered.binaryMime && offered.chunking)
      return { kind: 'fits', body: ' BODY=BINARYMIME', utf8, bdat: true };
    const detail = 'binary content; the next hop does not offer BINARYMIME';
    return { kind: 'misfit', outcome: bounced('needs_binarymime', '5.6.3', detail) };
  }
  if (job.body === '7BIT') return { kind: 'fits', body: '', utf8, bdat: false };
  if (offered.eightBitMime) return { kind: 'fits', body: ' BODY=8BITMIME', utf8, bdat: false };
  attempt.eightBit ??= contentIsEightBit(attempt, arena);
  if (!attempt.eightBit) return { kind: 'fits', body: '', utf8, bdat: false };
  const detail = '8-bit content; the next hop does not offer 8BITMIME';
  return { kind: 'misfit', outcome: bounced('needs_8bitmime', '5.6.3', detail) };
}

/**
 * The forward-path to send: as it stands, or with its domain as A-labels when the peer lacks SMTPUTF8 and the local
 * part is ASCII (RFC 6531 §3.2); null when it cannot be written for this peer.
 */
export function addressFor(address: string, utf8: boolean): string | null {
  if (utf8 || isAscii(address)) return address;
  const at = address.lastIndexOf('@');
  const local = address.slice(0, at);
  const domain = domainForm(address.slice(at + 1));
  return at > 0 && domain !== null && isAscii(local) ? `${local}@${domain}` : null;
}

function headerIsEightBit(attempt: Attempt, arena: Arena): boolean {
  if (attempt.eightBit === false) return false;
  const head = arena.head(attempt.job.content, MAX_HEADER_BYTES);
  const end = head.indexOf('\r\n\r\n');
  return hasEightBit(end === -1 ? head : head.subarray(0, end));
}

function contentIsEightBit(attempt: Attempt, arena: Arena): boolean {
  const file = arena.file(attempt.job.content);
  if (file === null) return arena.parts(attempt.job.content).some(hasEightBit);
  const bytes = Buffer.allocUnsafe(65_536);
  let left = attempt.job.sizeBytes;
  let offset = file.offset;
  while (left > 0) {
    const read = readSync(file.fd, bytes, 0, Math.min(left, bytes.length), offset);
    if (read === 0) throw new Error('content ends early');
    if (hasEightBit(bytes.subarray(0, read))) return true;
    offset += read;
    left -= read;
  }
  return false;
}

function hasEightBit(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) > 127) return true;
  return false;
}
