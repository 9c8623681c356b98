import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { nodeDisk } from '../../src/journal/disk.ts';
import {
  BLOCK_BYTES,
  decodeFrameHead,
  decodeRecordHead,
  decodeSegmentHead,
  encodeSegmentHead,
  JOURNAL_VERSION,
} from '../../src/journal/format.ts';
import { SegmentReader } from '../../src/journal/segment-reader.ts';
import { type NewRecord, SegmentWriter, Stage } from '../../src/journal/segment-writer.ts';
import { scanSegments, segmentPath } from '../../src/journal/segments.ts';
import { alignedBuffer } from '../../src/native.ts';

const JOURNAL = '0123456789abcdef';

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'segments-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function record(seq: number, content: Buffer, meta = JSON.stringify([`id${seq}`]), shard = 3): NewRecord {
  return { kind: 1, shard, seq, meta, contentBytes: content.length, content: [content] };
}

/** Writes frames of records; returns where each frame ends. */
function write(folder: string, frames: NewRecord[][], number = 1): number[] {
  const head = { version: JOURNAL_VERSION, journal: JOURNAL, number, firstSeq: 1, previousEnd: 0 };
  const writer = SegmentWriter.create(segmentPath(folder, number), head, new Stage(nodeDisk, alignedBuffer));
  const ends = frames.map((records) => {
    writer.append(records);
    return writer.end;
  });
  writer.close();
  return ends;
}

/** Intact records as 'seq meta content', and the number of damaged places. */
function readAll(folder: string, number = 1): { records: string[]; damages: number } {
  const reader = new SegmentReader(segmentPath(folder, number));
  const records: string[] = [];
  let damages = 0;
  for (const found of reader.records(
    { journal: JOURNAL, number },
    BLOCK_BYTES,
    reader.sizeBytes,
    () => true,
  )) {
    if (found.kindOfFind === 'damage' || !found.intact) damages++;
    else {
      const content = reader.bytes(found.contentAt, found.contentBytes).toString('hex');
      records.push(`${found.seq} ${found.meta} ${content}`);
    }
  }
  reader.close();
  return { records, damages };
}

const textOf = ({ seq, meta, content }: NewRecord): string =>
  `${seq} ${meta} ${Buffer.concat(content as Buffer[]).toString('hex')}`;

test('any records come back as they were written', (t) => {
  const folder = folderOf(t);
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array({ minLength: 60_000, maxLength: 70_000 }),
  );
  const one = fc.record({ meta: fc.string({ unit: 'binary', maxLength: 200 }), content });
  fc.assert(
    fc.property(fc.array(fc.array(one, { minLength: 1, maxLength: 12 }), { maxLength: 6 }), (frames) => {
      let seq = 0;
      const records = frames.map((f) =>
        f.map((r) => record(++seq, Buffer.from(r.content), JSON.stringify([r.meta]))),
      );
      const ends = write(folder, records);
      assert.ok(ends.every((end) => end % BLOCK_BYTES === 0));
      assert.deepEqual(readAll(folder), { records: records.flat().map(textOf), damages: 0 });
    }),
    { numRuns: 40 },
  );
});

test('contents and metas larger than the memory of one write come back, from files too', (t) => {
  const folder = folderOf(t);
  const large = Buffer.alloc(3_000_001, 'abc');
  const path = join(folder, 'spill');
  writeFileSync(path, Buffer.concat([Buffer.from('xx'), large]));
  const source = new SegmentReader(path);
  const meta = JSON.stringify(['m'.repeat(1_500_000)]);
  const fromFile = { ...record(2, large, meta), content: { fd: source.fd, offset: 2 } };
  write(folder, [[record(1, large), fromFile, record(3, Buffer.from('z'))]]);
  source.close();
  const expected = [record(1, large), record(2, large, meta), record(3, Buffer.from('z'))].map(textOf);
  assert.deepEqual(readAll(folder), { records: expected, damages: 0 });
});

test('cut off at any byte: what lies before the cut is there, and nothing is made up', (t) => {
  const folder = folderOf(t);
  const frames = [
    [record(1, Buffer.from('one')), record(2, Buffer.alloc(5000, 2))],
    [record(3, Buffer.from('three'))],
    [record(4, Buffer.alloc(100, 4)), record(5, Buffer.from('five'))],
  ];
  const ends = write(folder, frames);
  const bytes = readFileSync(segmentPath(folder, 1));
  const all = frames.flat().map(textOf);
  // All that is told apart lies at either end of a block; between, bytes are alike.
  const isAtEnd = (at: number): boolean => at < 400 || at > BLOCK_BYTES - 60;
  for (let cut = bytes.length - 1; cut >= 0; cut -= isAtEnd(cut % BLOCK_BYTES) ? 1 : 11) {
    truncateSync(segmentPath(folder, 1), cut);
    const whole = ends.filter((end) => end <= cut).length;
    const atLeast = frames.slice(0, whole).flat().length;
    const scan = scanSegments(folder, JOURNAL);
    assert.deepEqual(scan.lost, [], `cut at ${cut}`);
    const { records } = readAll(folder);
    assert.deepEqual(records, all.slice(0, records.length), `cut at ${cut}`);
    assert.ok(records.length >= atLeast, `cut at ${cut}: ${records.length} of ${atLeast}`);
  }
});

test('bits that changed anywhere cost the records they hit, and are noticed', (t) => {
  const folder = folderOf(t);
  const frames = Array.from({ length: 6 }, (_, f) =>
    Array.from({ length: 5 }, (_, i) => record(f * 5 + i + 1, Buffer.alloc(700 + i, f + i))),
  );
  const ends = write(folder, frames);
  const path = segmentPath(folder, 1);
  const bytes = readFileSync(path);
  const all = new Set(frames.flat().map(textOf));
  fc.assert(
    fc.property(
      fc.integer({ min: BLOCK_BYTES, max: bytes.length - 1 }),
      fc.integer({ min: 0, max: 7 }),
      (at, bit) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] as number) ^ (1 << bit);
        writeFileSync(path, changed);
        const { records, damages } = readAll(folder);
        assert.ok(
          records.every((text) => all.has(text)),
          'nothing false',
        );
        const frame = ends.findIndex((end) => at < end);
        const others = frames.filter((_, i) => i !== frame).flat();
        for (const other of others)
          assert.ok(records.includes(textOf(other)), `frame of ${other.seq} is another`);
        if (records.length < all.size) assert.ok(damages > 0, 'noticed');
      },
    ),
    { numRuns: 400 },
  );
});

test('a frame of another segment or journal is none of ours', (t) => {
  const folder = folderOf(t);
  write(folder, [[record(1, Buffer.from('a'))]], 1);
  const reader = new SegmentReader(segmentPath(folder, 1));
  const count = (journal: string, number: number): number =>
    [...reader.records({ journal, number }, BLOCK_BYTES, reader.sizeBytes, () => true)].filter(
      (found) => found.kindOfFind === 'record',
    ).length;
  assert.deepEqual([count(JOURNAL, 1), count(JOURNAL, 2), count('fedcba9876543210', 1)], [1, 0, 0]);
  reader.close();
});

test('random bytes are no segment, frame or record', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const buffer = Buffer.from(bytes);
      assert.equal(decodeFrameHead(buffer), null);
      assert.equal(decodeRecordHead(buffer), null);
      assert.equal(decodeSegmentHead(buffer), null);
    }),
  );
});

test('the bytes of a segment head stay what version 1 has written', () => {
  const head = { version: 1, journal: JOURNAL, number: 7, firstSeq: 258, previousEnd: 8192 };
  const bytes = encodeSegmentHead(head);
  assert.equal(bytes.length, BLOCK_BYTES);
  assert.match(
    bytes.toString('hex', 0, 64),
    /^50524a524e4c0d0a000000010123456789abcdef00000007000000000102000000002000(00){24}[0-9a-f]{8}$/,
  );
  assert.deepEqual(decodeSegmentHead(bytes), head);
});
