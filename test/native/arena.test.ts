import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { attachArena, CHUNK_BYTES, createArena, NO_CONTENT } from '../../src/native.ts';

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
  assert.equal(arena.freeChunks(), arena.chunkCount);
});

test('a full arena says so, keeps nothing of what did not fit, and takes more when there is room', () => {
  const arena = createArena(300_000, '/nonexistent');
  assert.equal(arena.chunkCount, 4);
  const three = arena.store(Buffer.alloc(3 * CHUNK_BYTES));
  assert.equal(arena.store(Buffer.alloc(2 * CHUNK_BYTES)), NO_CONTENT);
  assert.equal(arena.freeChunks(), 1);
  const one = arena.store(Buffer.alloc(1));
  assert.equal(arena.store(Buffer.alloc(0)), NO_CONTENT);
  arena.release(three);
  assert.notEqual(arena.store(Buffer.alloc(2 * CHUNK_BYTES)), NO_CONTENT);
  arena.release(one);
});

test('content stays until its last reference, in every thread that attached', () => {
  const arena = createArena(1 << 20, '/nonexistent');
  const other = attachArena(arena.buffer, '/nonexistent');
  const handle = arena.store(Buffer.from('kept'));
  other.retain(handle);
  arena.release(handle);
  assert.equal(Buffer.concat(other.parts(handle)).toString(), 'kept');
  other.release(handle);
  assert.equal(arena.freeChunks(), arena.chunkCount);
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
      const workerData = { buffer: arena.buffer, mark: t + 1, rounds: 5000, shared };
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
  assert.equal(arena.freeChunks(), arena.chunkCount);
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
