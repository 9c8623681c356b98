/** The segments of a journal as its thread knows them, and how they are found at start. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import { REVERSE_PATH_AT } from '../mail/message-record.ts';
import {
  BLOCK_BYTES,
  decodeMeta,
  JOURNAL_VERSION,
  RECORD_KIND,
  type RecordHead,
  recordBytes,
  type SegmentHead,
} from './format.ts';
import { type Damage, type FoundRecord, SegmentReader } from './segment-reader.ts';
import { unknownVersion } from './state-file.ts';
import type { Lost } from './tasks.ts';

/** The records of one shard in a segment. */
export interface Share {
  firstSeq: number;
  lastSeq: number;
  bytes: number;
  /** How many of the records are messages. */
  messages: number;
}

export interface Segment {
  number: number;
  path: string;
  /** Everything before this offset is valid. */
  end: number;
  shares: Map<number, Share>;
  /** Raised each time the segment is rewritten. */
  generation: number;
  /** Damage was found in it: it is kept for the operator instead of being deleted. */
  damaged: boolean;
}

const NAME = /^(\d{10})\.segment$/;
export const segmentPath = (folder: string, number: number): string =>
  join(folder, `${String(number).padStart(10, '0')}.segment`);

export function addShare(segment: Pick<Segment, 'shares'>, record: RecordHead): void {
  const { shard, seq, kind } = record;
  let share = segment.shares.get(shard);
  if (share === undefined) {
    share = { firstSeq: seq, lastSeq: seq, bytes: 0, messages: 0 };
    segment.shares.set(shard, share);
  }
  share.lastSeq = seq;
  share.bytes += recordBytes(record);
  if (kind === RECORD_KIND.message) share.messages++;
}

/** Numbers of the segments in a folder, ascending. */
export function segmentNumbers(folder: string): number[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .flatMap((name) => {
      const number = NAME.exec(name)?.[1];
      return number === undefined ? [] : [Number(number)];
    })
    .sort((a, b) => a - b);
}

/** Whether the folder may hold records that nobody has drained. */
export function holdsRecords(folder: string): boolean {
  return segmentNumbers(folder).some((number) => statSync(segmentPath(folder, number)).size > BLOCK_BYTES);
}

export interface Scan {
  segments: Segment[];
  /** Name of the journal; null when there is no segment. */
  journal: string | null;
  lastSeq: number;
  withdrawn: Set<number>;
  newestQueueId: string | null;
  lost: Lost[];
  tailBytes: number;
}

/**
 * Reads all segments. Damage costs the records it hit; damage at the very end is what was being written when the relay
 * was cut off.
 * @param journal name of the journal, where it is known.
 * @throws RelayError 'schema_unknown' for segments of another version, 'data_dir_unusable' for those of another
 *   journal.
 */
export function scanSegments(folder: string, journal: string | null): Scan {
  const scan: Scan = {
    segments: [],
    journal,
    lastSeq: 0,
    withdrawn: new Set(),
    newestQueueId: null,
    lost: [],
    tailBytes: 0,
  };
  const numbers = segmentNumbers(folder);
  const heads = numbers.map((number) => headOf(segmentPath(folder, number)));
  for (const [i, number] of numbers.entries()) checkHead(scan, segmentPath(folder, number), heads[i] ?? null);
  for (const [i, number] of numbers.entries()) {
    const next = numbers[i + 1] === number + 1 ? (heads[i + 1]?.previousEnd ?? 0) : 0;
    scan.lastSeq = Math.max(scan.lastSeq, heads[i]?.firstSeq ?? 0);
    const headLost = heads[i] === null && i < numbers.length - 1;
    scan.segments.push(scanOne(scan, folder, number, next, i === numbers.length - 1, headLost));
  }
  return scan;
}

function headOf(path: string): SegmentHead | null {
  const reader = new SegmentReader(path);
  try {
    return reader.head();
  } finally {
    reader.close();
  }
}

function checkHead(scan: Scan, path: string, head: SegmentHead | null): void {
  if (head === null) return;
  if (head.version !== JOURNAL_VERSION) throw unknownVersion(path, head.version);
  scan.journal ??= head.journal;
  if (head.journal !== scan.journal)
    throw new RelayError(
      'data_dir_unusable',
      `${path} is of journal ${head.journal}, the others are of ${scan.journal}: move what does not belong there out of the folder`,
    );
}

function scanOne(
  scan: Scan,
  folder: string,
  number: number,
  knownEnd: number,
  isLast: boolean,
  headLost: boolean,
): Segment {
  const path = segmentPath(folder, number);
  const reader = new SegmentReader(path);
  const end = knownEnd === 0 ? reader.sizeBytes : Math.min(knownEnd, reader.sizeBytes);
  const segment: Segment = { number, path, end, shares: new Map(), generation: 0, damaged: headLost };
  const bad: (Damage | FoundRecord)[] = [];
  let lastFrameAt = 0;
  try {
    const head = { journal: scan.journal ?? '', number };
    for (const found of reader.records(head, BLOCK_BYTES, end, () => true)) {
      lastFrameAt = Math.max(lastFrameAt, found.frameAt);
      if (found.kindOfFind === 'damage' || !found.intact) bad.push(found);
      if (found.kindOfFind === 'record') learn(scan, segment, found);
    }
  } finally {
    reader.close();
  }
  for (const found of bad) {
    if (isLast && found.frameAt === lastFrameAt) {
      scan.tailBytes += found.kindOfFind === 'damage' ? found.bytes : recordBytes(found);
      continue;
    }
    segment.damaged = true;
    // A record whose head is known is reported when its turn comes: it may have been drained long ago.
    if (found.kindOfFind === 'damage') scan.lost.push(lostBytes(path, found));
  }
  return segment;
}

function learn(scan: Scan, segment: Segment, record: FoundRecord): void {
  scan.lastSeq = Math.max(scan.lastSeq, record.seq);
  addShare(segment, record);
  if (record.meta === null) return;
  if (record.kind === RECORD_KIND.withdrawal) {
    scan.withdrawn.add(decodeMeta(record.meta)[0] as number);
    return;
  }
  const queueId = queueIdOf(record.meta);
  if (queueId > (scan.newestQueueId ?? '')) scan.newestQueueId = queueId;
}

/** The queue id: the first value of a message's meta (mail/message-record.ts), without parsing the rest. */
export const queueIdOf = (meta: string): string => meta.slice(2, meta.indexOf('"', 2));

const lostBytes = (segment: string, { at, bytes, records }: Damage): Lost => ({
  segment,
  at,
  bytes,
  records,
  queueId: null,
  reversePath: null,
});

/** What to report of a record that cannot be read when its turn comes. */
export function lostRecord(segment: string, record: FoundRecord): Lost {
  const values = record.meta === null ? [] : decodeMeta(record.meta);
  return {
    segment,
    at: record.contentAt,
    bytes: recordBytes(record),
    records: 1,
    queueId: (values[0] as string | undefined) ?? null,
    reversePath: (values[REVERSE_PATH_AT] as string | undefined) ?? null,
  };
}
