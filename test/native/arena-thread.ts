/** One of several threads that use an arena at once, for arena.test.ts. Reports what it won and what it found wrong. */
import { parentPort, workerData } from 'node:worker_threads';
import { attachArena, CHUNK_BYTES, CONTENT_STATE, NO_CONTENT } from '../../src/native.ts';

const { buffer, mark, rounds, shared } = workerData as {
  buffer: SharedArrayBuffer;
  /** Byte that fills this thread's contents. */
  mark: number;
  rounds: number;
  /** Contents of which this thread holds one reference each. */
  shared: number[];
};
const arena = attachArena(buffer, '/nonexistent');
let wrong = 0;
let full = 0;
const held: number[] = [];
const sizes = [1, 100, 1024, 3000, 40_000, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNK_BYTES * 2 + 5];

function check(handle: number): void {
  let length = 0;
  for (const part of arena.parts(handle)) {
    length += part.length;
    if (part[0] !== mark || part[part.length - 1] !== mark || part[part.length >> 1] !== mark) wrong++;
  }
  if (length !== arena.lengthBytes(handle)) wrong++;
}

for (let i = 0; i < rounds; i++) {
  const handle = arena.store(Buffer.alloc(sizes[i % sizes.length] as number, mark));
  if (handle === NO_CONTENT) full++;
  else held.push(handle);
  if (held.length > 6 || handle === NO_CONTENT) {
    const oldest = held.shift();
    if (oldest === undefined) continue;
    check(oldest);
    arena.retain(oldest);
    arena.release(oldest);
    check(oldest);
    arena.release(oldest);
  }
}
for (const handle of held) {
  check(handle);
  arena.release(handle);
}
let won = 0;
for (const handle of shared) {
  if (arena.moveState(handle, CONTENT_STATE.waiting, CONTENT_STATE.committing)) won++;
}
for (const handle of shared) arena.release(handle);
parentPort?.postMessage({ wrong, full, won });
