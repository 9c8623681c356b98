/**
 * The form of a file of results that no database has taken yet: one line each, 'CRC-32 in hexadecimal, space, JSON'. A
 * line that is torn or damaged is passed over; the lines after it count.
 */
import { crc32 } from 'node:zlib';
import { RelayError } from '../base/errors.ts';
import type { Settlement } from '../database/database.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import { readRecord, recordOf } from '../mail/message-record.ts';
import type { Wire } from '../mail/wire.ts';

/** 1: replies named their host as text. */
const VERSION = 2;
const CRC_DIGITS = 8;

/** One result, as it lies on disk. */
interface Line {
  version: number;
  settlement: Settlement;
  /** For its events; holds no DSNs. */
  result: AttemptResult;
  /** With their content in base64. */
  dsns: { message: Wire; content: string }[];
}

export interface Dsn {
  message: Message;
  content: Buffer;
}

export interface KeptResult {
  settlement: Settlement;
  result: AttemptResult;
  dsns: Dsn[];
}

export function encodeLine({ settlement, result, dsns }: KeptResult): Buffer {
  const line: Line = {
    version: VERSION,
    settlement,
    result: { ...result, dsns: [] },
    dsns: dsns.map(({ message, content }) => ({
      message: recordOf(message),
      content: content.toString('base64'),
    })),
  };
  const json = Buffer.from(JSON.stringify(line));
  return Buffer.concat([Buffer.from(`${crcText(json)} `), json, Buffer.from('\n')]);
}

const crcText = (json: Buffer): string => crc32(json).toString(16).padStart(CRC_DIGITS, '0');

/** The lines of a file that are whole, and how many bytes belong to none. */
export function wholeLines(file: Buffer): { lines: Buffer[]; damagedBytes: number } {
  const lines: Buffer[] = [];
  let damagedBytes = 0;
  for (let at = 0; at < file.length; ) {
    const end = file.indexOf(10, at);
    const line = file.subarray(at, end < 0 ? file.length : end + 1);
    if (end >= 0 && isWhole(line)) lines.push(line);
    else damagedBytes += line.length;
    at += line.length;
  }
  return { lines, damagedBytes };
}

const isWhole = (line: Buffer): boolean =>
  line.toString('latin1', 0, CRC_DIGITS) === crcText(jsonOf(line)) && line[CRC_DIGITS] === 32;

const jsonOf = (line: Buffer): Buffer => line.subarray(CRC_DIGITS + 1, -1);

/** Release 0.1.0 wrote peer-4xx for peer_4xx. */
const reasonNow = (reason: string): string => reason.replaceAll('-', '_');

/** @throws RelayError when a newer relay wrote it. */
export function decodeLine(line: Buffer): KeptResult {
  const { version, settlement, result, dsns } = JSON.parse(jsonOf(line).toString()) as Line;
  if (version === 1) nameHosts(result);
  else if (version !== VERSION)
    throw new RelayError('schema_unknown', `of version ${version}, this relay knows version ${VERSION}`);
  for (const group of settlement.groups) group.reason = reasonNow(group.reason);
  for (const { outcome } of result.groups)
    if (outcome.kind !== 'delivered') Object.assign(outcome, { reason: reasonNow(outcome.reason) });
  return {
    settlement,
    result,
    dsns: dsns.map(({ message, content }) => ({
      message: readRecord(message),
      content: Buffer.from(content, 'base64'),
    })),
  };
}

/** From 'mx1.example.net [192.0.2.1]'; the port was not written down. */
function nameHosts({ groups }: AttemptResult): void {
  for (const { outcome } of groups) {
    const { reply } = outcome;
    if (reply === undefined) continue;
    const text = reply.peer as unknown as string;
    const at = text.lastIndexOf('[');
    const [name, address] = at < 0 ? ['', ''] : [text.slice(0, at).trimEnd(), text.slice(at + 1, -1)];
    reply.peer = { host: name || address, address, port: 25, source: '' };
  }
}
