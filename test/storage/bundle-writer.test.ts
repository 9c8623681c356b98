import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BundleWriter } from '../../src/storage/bundle-writer.ts';

const folders = [tmpdir(), ...(existsSync('/dev/shm') ? ['/dev/shm'] : [])].map((below) =>
  mkdtempSync(join(below, 'bundle-')),
);
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

const bytes = (count: number, seed: number) =>
  Buffer.from(Uint8Array.from({ length: count }, (_, i) => (i * 31 + seed) % 251));
const MIB = 1_048_576;

test('a bundle holds exactly its contents, whatever their lengths, on disk and in memory file systems', () => {
  const writer = new BundleWriter();
  const lists = [
    [0],
    [1],
    [4096],
    [131_071],
    [131_072],
    [65_536, 36_864],
    [65_536, 36_865, 1, 131_072],
    [MIB - 1],
    [MIB],
    [MIB + 1],
    [MIB - 1, 2],
    [3 * MIB, 5],
    Array.from({ length: 300 }, (_, i) => 10_000 + i),
  ];
  for (const folder of folders)
    for (const [at, lengths] of lists.entries()) {
      const views = lengths.map((length, i) => bytes(length, i + at));
      const path = join(folder, `${at}.bundle`);
      writer.write(path, views);
      assert.ok(readFileSync(path).equals(Buffer.concat(views)), `${folder}: ${lengths.slice(0, 4)}`);
    }
});

test('a longer bundle of that name is replaced whole', () => {
  const writer = new BundleWriter();
  const path = join(folders[0] as string, 'again.bundle');
  writer.write(path, [bytes(2 * MIB, 1)]);
  writer.write(path, [bytes(200_000, 2)]);
  assert.ok(readFileSync(path).equals(bytes(200_000, 2)));
});

test('a bundle that cannot be written leaves nothing behind', () => {
  const writer = new BundleWriter();
  const folder = folders[0] as string;
  const before = readdirSync(folder).length;
  assert.throws(() => writer.write(join(folder, 'missing', 'x.bundle'), [bytes(200_000, 1)]), {
    code: 'ENOENT',
  });
  assert.equal(readdirSync(folder).length, before);
});
