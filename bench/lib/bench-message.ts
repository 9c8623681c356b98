/**
 * The benchmark's message: realistic header, deterministic body, and one `X-Bench:` line that names it. The client
 * makes it once and patches number, time and checksum in place; the sink finds the line behind whatever trace
 * headers were put before it and can tell loss, duplicates and corruption, and the time since it was sent.
 *
 *   X-Bench: <crc of the rest of the header> <crc of the body> <run> <number> <µs since 1970>
 */
import { crc32 } from 'node:zlib';

const MARK = 'X-Bench: ';
const RUN_AT = MARK.length + 18;
const NUMBER_AT = RUN_AT + 9;
const NUMBER_DIGITS = 10;
const TIME_AT = NUMBER_AT + NUMBER_DIGITS + 1;
const TIME_DIGITS = 16;
/** What the header checksum covers begins here. */
const COVERED_AT = MARK.length + 9;
const ZERO = 48;

export interface BenchMessage {
  /** Header section with its empty line; patched by `stamp`. */
  header: Buffer;
  /** Body, ending in CRLF, with a line that needs dot-stuffing when it is long enough. */
  body: Buffer;
  /** Patches number and time (µs since 1970) in place. */
  stamp(number: number, timeUs: number): void;
}

export interface MessageOptions {
  sizeBytes: number;
  /** Eight hex digits: messages of another run are not ours to count. */
  run: string;
  from: string;
  to: string;
  /** Each message is for a recipient of its own, at one of so many domains (`mergedAddress`), and says how to unsubscribe. */
  domains?: number;
}

/** An address as `stamp` writes it: user and domain get the message's number. */
export const mergedAddress = (domain: string): string => `user${'0'.repeat(NUMBER_DIGITS)}@d0000.${domain}`;
const DOMAIN_DIGITS = 4;

/** Writes the number of a message into the address that `mergedAddress` made, which begins at `at`. */
export function stampAddress(into: Buffer, at: number, number: number, domains: number): void {
  writeDigits(into, at + 4, NUMBER_DIGITS, number);
  writeDigits(into, at + 4 + NUMBER_DIGITS + 2, DOMAIN_DIGITS, number % domains);
}

/** Smallest message: the header and one line. */
export const MIN_SIZE_BYTES = 400;

const UNSUBSCRIBE = 'https://unsubscribe.bench.test/';

export function createMessage(options: MessageOptions): BenchMessage {
  const { domains = 0 } = options;
  const merged = [
    `List-Unsubscribe: <${UNSUBSCRIBE}${'0'.repeat(NUMBER_DIGITS)}>`,
    'List-Unsubscribe-Post: List-Unsubscribe=One-Click',
  ];
  const head = [
    `${MARK}00000000 00000000 ${options.run} ${'0'.repeat(NUMBER_DIGITS)} ${'0'.repeat(TIME_DIGITS)}`,
    `Message-ID: <${'0'.repeat(NUMBER_DIGITS)}.${options.run}@bench.test>`,
    `From: Bench <${options.from}>`,
    `To: ${options.to}`,
    'Subject: Your order has been shipped',
    `Date: ${new Date().toUTCString().replace('GMT', '+0000')}`,
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=us-ascii',
    ...(domains === 0 ? [] : merged),
    '',
    '',
  ].join('\r\n');
  const header = Buffer.from(head, 'latin1');
  const body = createBody(Math.max(2, options.sizeBytes - header.length));
  header.write(hex(crc32(body)), MARK.length + 9, 'latin1');
  const covered = header.subarray(COVERED_AT);
  const secondNumberAt = header.indexOf('Message-ID: <') + 13;
  const addressAt = header.indexOf('To: ') + 4;
  const unsubscribeAt = header.indexOf(UNSUBSCRIBE) + UNSUBSCRIBE.length;
  return {
    header,
    body,
    stamp(number, timeUs) {
      writeDigits(header, NUMBER_AT, NUMBER_DIGITS, number);
      writeDigits(header, secondNumberAt, NUMBER_DIGITS, number);
      if (domains > 0) {
        stampAddress(header, addressAt, number, domains);
        writeDigits(header, unsubscribeAt, NUMBER_DIGITS, number);
      }
      writeDigits(header, TIME_AT, TIME_DIGITS, timeUs);
      writeHex(header, MARK.length, crc32(covered));
    },
  };
}

/** What the sink reads from a message of ours. */
export interface BenchMark {
  /** Offset of the X-Bench line in the part that was looked at. */
  at: number;
  number: number;
  timeUs: number;
}

/** Finds the mark of `run` (any run when '') in the first part of a message; null when it is not one of ours. */
export function findMark(part: Buffer, run: string, into: BenchMark): BenchMark | null {
  const at = part.indexOf(MARK);
  if (at < 0 || (at > 0 && part[at - 1] !== 10) || part.length < at + TIME_AT + TIME_DIGITS) return null;
  for (let i = 0; i < run.length; i++) if (part[at + RUN_AT + i] !== run.charCodeAt(i)) return null;
  into.at = at;
  into.number = readDigits(part, at + NUMBER_AT, NUMBER_DIGITS);
  into.timeUs = readDigits(part, at + TIME_AT, TIME_DIGITS);
  return into;
}

/** Whether header (from the mark on) and body are byte for byte what the client sent. */
export function isIntact(parts: readonly Buffer[], mark: BenchMark): boolean {
  const first = parts[0] as Buffer;
  const end = first.indexOf('\r\n\r\n', mark.at, 'latin1');
  if (end < 0) return false;
  const headerCrc = crc32(first.subarray(mark.at + COVERED_AT, end + 4));
  if (hex(headerCrc) !== first.toString('latin1', mark.at + MARK.length, mark.at + MARK.length + 8))
    return false;
  let bodyCrc = crc32(first.subarray(end + 4));
  for (let i = 1; i < parts.length; i++) bodyCrc = crc32(parts[i] as Buffer, bodyCrc);
  return hex(bodyCrc) === first.toString('latin1', mark.at + MARK.length + 9, mark.at + MARK.length + 17);
}

/** Printable lines of 76 characters, the third beginning with two dots; exactly `bytes` long, ending in CRLF. */
function createBody(bytes: number): Buffer {
  const body = Buffer.alloc(bytes);
  let seed = 0x2545f491;
  for (let i = 0; i < bytes; i++) {
    const column = i % 78;
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    body[i] = column === 76 ? 13 : column === 77 ? 10 : 97 + ((seed >>> 16) % 26);
  }
  if (bytes > 240) body.write('..', 156, 'latin1');
  // Cut in the middle of a CRLF, the body would hold a bare CR.
  if (bytes % 78 === 1) body[bytes - 3] = 120;
  body.write('\r\n', bytes - 2, 'latin1');
  return body;
}

function hex(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}

function writeHex(into: Buffer, at: number, value: number): void {
  for (let i = 7, rest = value; i >= 0; i--, rest >>>= 4) {
    const digit = rest & 15;
    into[at + i] = digit < 10 ? ZERO + digit : 87 + digit;
  }
}

function writeDigits(into: Buffer, at: number, digits: number, value: number): void {
  let rest = value;
  for (let i = at + digits - 1; i >= at; i--) {
    const next = Math.floor(rest / 10);
    into[i] = ZERO + rest - next * 10;
    rest = next;
  }
}

function readDigits(from: Buffer, at: number, digits: number): number {
  let value = 0;
  for (let i = at; i < at + digits; i++) value = value * 10 + (from[i] as number) - ZERO;
  return value;
}
