import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  attachArena,
  type ByteRange,
  CHUNK_BYTES,
  CONTENT_UNIT_BYTES,
  createArena,
  NO_CONTENT,
} from '../../src/native.ts';

test('content of every shape is stored and read back', () => {
  const arena = createArena(1 << 20, '/nonexistent');
  for (const size of [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]) {
    const bytes = Buffer.alloc(size, 'abc');
    const handle = arena.store(bytes);
    assert.equal(arena.lengthBytes(handle), size);
    assert.ok(Buffer.concat(arena.parts(handle)).equals(bytes));
    assert.ok(arena.parts(handle).every((part) => part.length <= CHUNK_BYTES));
    assert.ok(arena.head(handle, 5).equals(bytes.subarray(0, 5)));
    assert.equal(arena.file(handle), null);
    arena.release(handle);
  }
  assert.equal(arena.freeBytes(), arena.totalBytes);
});

test('a full arena says so, keeps nothing of what did not fit, and takes more when there is room', () => {
  const arena = createArena(300_000, '/nonexistent');
  assert.equal(arena.totalBytes, 4 * CHUNK_BYTES);
  const three = arena.store(Buffer.alloc(3 * CHUNK_BYTES));
  assert.equal(arena.store(Buffer.alloc(2 * CHUNK_BYTES)), NO_CONTENT);
  assert.equal(arena.freeBytes(), CHUNK_BYTES);
  const one = arena.store(Buffer.alloc(CHUNK_BYTES));
  assert.equal(arena.store(Buffer.alloc(0)), NO_CONTENT);
  arena.release(three);
  assert.notEqual(arena.store(Buffer.alloc(2 * CHUNK_BYTES)), NO_CONTENT);
  arena.release(one);
});

test('content takes its length, rounded up to a unit, and one piece up to 64 KiB', () => {
  const arena = createArena(8 << 20, '/nonexistent');
  for (const [length, units] of [
    [0, 1],
    [1, 1],
    [1024, 1],
    [1025, 2],
    [33_000, 33],
    [65_536, 64],
    [65_537, 65],
    [200_000, 196],
  ] as const) {
    const before = arena.freeBytes();
    const handle = arena.store(Buffer.alloc(length));
    assert.equal(arena.heldBytes(handle), units * CONTENT_UNIT_BYTES, `${length}`);
    assert.equal(before - arena.freeBytes(), units * CONTENT_UNIT_BYTES);
    assert.ok(arena.parts(handle).length <= Math.ceil(length / CHUNK_BYTES));
    arena.release(handle);
    assert.equal(arena.freeBytes(), before);
  }
});

test('however it is cut up, all of the memory can be had', () => {
  const arena = createArena(2 << 20, '/nonexistent');
  const small: number[] = [];
  while (arena.freeBytes() > 0) small.push(arena.store(Buffer.from('x')));
  // Every other unit is free: no run is longer than one.
  for (let i = 0; i < small.length; i += 2) arena.release(small[i] as number);
  const bytes = Buffer.alloc(arena.freeBytes(), 'abcdefg');
  const scattered = arena.store(bytes);
  assert.ok(Buffer.concat(arena.parts(scattered)).equals(bytes));
  assert.equal(arena.freeBytes(), 0);
  assert.equal(arena.store(Buffer.from('y')), NO_CONTENT);
  arena.release(scattered);
  for (let i = 1; i < small.length; i += 2) arena.release(small[i] as number);
  assert.equal(arena.freeBytes(), arena.totalBytes);
  const whole = arena.store(Buffer.alloc(CHUNK_BYTES));
  assert.equal(arena.parts(whole).length, 1, 'an empty chunk serves any size again');
});

test('10,000 messages of 1 KB take 10 to 20 MB', () => {
  const arena = createArena(128 << 20, '/nonexistent');
  const message = Buffer.alloc(1200);
  for (let i = 0; i < 10_000; i++) assert.notEqual(arena.store(message), NO_CONTENT);
  const taken = arena.totalBytes - arena.freeBytes();
  assert.equal(taken, 10_000 * 2 * CONTENT_UNIT_BYTES);
});

test('any order of stores and releases: contents stay whole, and the free bytes are exact', () => {
  const arena = createArena(3 << 20, '/nonexistent');
  let seed = 20_261_130;
  const below = (limit: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % limit;
  };
  const held = new Map<number, Buffer>();
  let heldBytes = 0;
  for (let round = 0; round < 6000; round++) {
    if (below(5) < 3) {
      const size = below(8) === 0 ? below(300_000) : below(5000);
      const bytes = Buffer.alloc(size, String.fromCharCode(97 + (round % 26)));
      const handle = arena.store(bytes);
      if (handle === NO_CONTENT) {
        assert.ok(arena.freeBytes() < size + CONTENT_UNIT_BYTES, 'refused only when it does not fit');
      } else {
        assert.ok(!held.has(handle));
        held.set(handle, bytes);
        heldBytes += arena.heldBytes(handle);
      }
    } else {
      const [handle, bytes] = [...held].at(below(held.size)) ?? [];
      if (handle === undefined || bytes === undefined) continue;
      assert.ok(Buffer.concat(arena.parts(handle)).equals(bytes));
      heldBytes -= arena.heldBytes(handle);
      arena.release(handle);
      held.delete(handle);
    }
    assert.equal(arena.totalBytes - arena.freeBytes(), heldBytes);
  }
});

test('content stays until its last reference, in every thread that attached', () => {
  const arena = createArena(1 << 20, '/nonexistent');
  const other = attachArena(arena.buffer, '/nonexistent');
  const handle = arena.store(Buffer.from('kept'));
  other.retain(handle);
  arena.release(handle);
  assert.equal(Buffer.concat(other.parts(handle)).toString(), 'kept');
  other.release(handle);
  assert.equal(arena.freeBytes(), arena.totalBytes);
});

test('content in a file is read from its offset, past 4 GiB too', () => {
  const dir = mkdtempSync(join(tmpdir(), 'arena-'));
  const path = join(dir, 'bundle');
  writeFileSync(path, 'xxhello world');
  const arena = createArena(1 << 20, dir);
  const handle = arena.storeFile(openSync(path, 'r'), 2, 5);
  assert.equal(arena.head(handle, 100).toString(), 'hello');
  assert.equal(arena.file(handle)?.offset, 2);
  assert.equal(arena.file(handle)?.path, null);
  arena.release(handle);
  const far = arena.storeFile(openSync(path, 'r'), 5_000_000_000, 6_000_000_000);
  assert.equal(arena.file(far)?.offset, 5_000_000_000);
  assert.equal(arena.lengthBytes(far), 6_000_000_000);
  arena.release(far);
  rmSync(dir, { recursive: true });
});

test('a buffer that is too small or holds no arena is refused', () => {
  assert.throws(() => createArena(1000, '/nonexistent'), /at least one chunk/);
  assert.throws(() => attachArena(new SharedArrayBuffer(1 << 20), '/nonexistent'), /no content arena/);
});

test('threads that store, check and release at once never see the bytes of another', async () => {
  const arena = createArena(3 << 20, '/nonexistent');
  const threads = 4;
  const shared: number[] = [];
  for (let i = 0; i < 10; i++) {
    const handle = arena.store(Buffer.from([i]));
    for (let t = 1; t < threads; t++) arena.retain(handle);
    shared.push(handle);
  }
  const reports = await Promise.all(
    Array.from({ length: threads }, (_, t) => {
      const workerData = { buffer: arena.buffer, mark: t + 1, rounds: 3000, shared };
      const worker = new Worker(new URL('./arena-thread.ts', import.meta.url), { workerData });
      return new Promise<{ wrong: number; full: number; won: number }>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    }),
  );
  assert.equal(
    reports.reduce((sum, report) => sum + report.wrong, 0),
    0,
  );
  assert.equal(
    reports.reduce((sum, report) => sum + report.won, 0),
    shared.length,
  );
  assert.equal(arena.freeBytes(), arena.totalBytes);
});

test('a reference released twice stops the program', () => {
  const native = fileURLToPath(new URL('../../src/native.ts', import.meta.url));
  const program = `
    const { createArena } = await import(${JSON.stringify(native)});
    const arena = createArena(1 << 20, '/nonexistent');
    const content = arena.store(Buffer.from('x'));
    arena.release(content);
    arena.release(content);`;
  assert.throws(
    () => execFileSync(process.execPath, ['--input-type=module', '-e', program], { stdio: 'pipe' }),
    /released more often than retained/,
  );
});

test('octets are cut out of a content, in memory or in a file, however many and wherever they are', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'protorelay-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const arena = createArena(4 << 20, dir);
  const cutOf = (bytes: Buffer, ranges: ByteRange[]): Buffer => {
    let at = 0;
    const kept = [...ranges, { from: bytes.length, to: bytes.length }].map(({ from, to }) => {
      const part = bytes.subarray(at, from);
      at = to;
      return part;
    });
    return Buffer.concat(kept);
  };
  fc.assert(
    fc.property(
      fc.constantFrom(1, 10, 5000, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5),
      fc.array(fc.nat(2 * CHUNK_BYTES), { minLength: 2, maxLength: 12 }),
      fc.boolean(),
      (size, points, inFile) => {
        const bytes = Buffer.from(Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) % 251));
        const sorted = [...new Set(points.map((point) => point % (size + 1)))].sort((a, b) => a - b);
        const ranges = sorted.flatMap((from, i): ByteRange[] =>
          i % 2 === 0 && i + 1 < sorted.length ? [{ from, to: sorted[i + 1] as number }] : [],
        );
        const path = join(dir, 'content');
        if (inFile) writeFileSync(path, bytes);
        const handle = inFile ? arena.storeFile(openSync(path, 'r+'), 0, size) : arena.store(bytes);
        arena.cut(handle, ranges);
        const expected = cutOf(bytes, ranges);
        assert.equal(arena.lengthBytes(handle), expected.length);
        assert.ok(arena.head(handle, size).equals(expected));
        arena.release(handle);
      },
    ),
  );
  assert.equal(arena.freeBytes(), arena.totalBytes);
});
