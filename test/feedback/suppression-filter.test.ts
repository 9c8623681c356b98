import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { filterPath, SuppressionFilter } from '../../src/feedback/suppression-filter.ts';
import { suppressionHash, suppressionTarget, writtenTarget } from '../../src/mail/suppression.ts';
import { mapSharedMemory } from '../../src/native.ts';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'suppression-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const open = (dir: string, boot = 'aa'): SuppressionFilter =>
  new SuppressionFilter(filterPath(dir), { map: mapSharedMemory, boot: () => boot });

test('what was added is always held, and of others one in a thousand; others who have the file open see it at once', (t) => {
  const dir = folder(t);
  const filter = open(dir);
  assert.equal(filter.mayHold(1), true, 'without a file nothing is known');
  filter.replace(20_000, 16);
  assert.equal(filter.mayHold(1), true, 'nor before it is complete');
  filter.complete();
  const reader = open(dir);
  assert.equal(reader.mayHold(1), false);
  const hashOf = (i: number): number => suppressionHash('', `user${i}@example.com`);
  for (let i = 0; i < 20_000; i++) filter.add(hashOf(i));
  for (let i = 0; i < 20_000; i++) assert.equal(reader.mayHold(hashOf(i)), true);
  let held = 0;
  for (let i = 20_000; i < 120_000; i++) if (reader.mayHold(hashOf(i))) held++;
  assert.ok(held < 200, `${held} of 100,000`);
  assert.ok(Math.abs(reader.entries - 20_000) < 100);
  assert.ok(filter.bytes < 2.2 * 20_000 + 16_384);

  filter.replace(100, 16);
  assert.equal(reader.mayHold(hashOf(20_001)), true, 'the reader has the new file, which is not complete');
  filter.complete();
  assert.equal(reader.mayHold(hashOf(1)), false);
});

test('after a crash of the machine it is complete only as far as it was synced', (t) => {
  const dir = folder(t);
  const filter = open(dir);
  filter.replace(100, 16);
  filter.complete();
  filter.follow(3, { epoch: 7, version: 10 });
  filter.sync();
  filter.follow(3, { epoch: 7, version: 20 });
  const again = open(dir);
  again.recover();
  assert.equal(again.versionOf(3, 7), 20, 'the same life of the machine');
  assert.equal(again.versionOf(3, 8), null, 'another table');
  const later = open(dir, 'bb');
  later.recover();
  assert.equal(later.versionOf(3, 7), 10);
});

test('a file that is damaged, cut off or foreign is as good as none', (t) => {
  const dir = folder(t);
  const filter = open(dir);
  filter.replace(1000, 16);
  filter.complete();
  truncateSync(filterPath(dir), 17_000);
  assert.equal(open(dir).ready, false);
  writeFileSync(filterPath(dir), Buffer.alloc(40_000, 7));
  assert.equal(open(dir).mayHold(1), true);
});

test('spellings of one address have one form; what is no address has none', () => {
  const same: [string, string][] = [
    ['User@EXAMPLE.com', 'user@example.com'],
    ['"user"@example.com.', 'user@example.com'],
    ['a@bücher.example', 'a@xn--bcher-kva.example'],
    ['"a\\ b"@example.com', 'a b@example.com'],
    ['JOSÉ@example.com', 'josé@example.com'],
    ['EXAMPLE.com', 'example.com'],
    ['user+tag@example.com', 'user+tag@example.com'],
  ];
  for (const [written, form] of same) assert.equal(suppressionTarget(written), form);
  for (const wrong of [
    '',
    '@example.com',
    'user@',
    'localhost',
    'a\nb@example.com',
    `${'a'.repeat(400)}@b.c`,
  ])
    assert.equal(suppressionTarget(wrong), null, wrong);
});

test('what no mail is sent to is not put on the list, where it would hold nothing back', () => {
  for (const wrong of [
    '<user@example.com>',
    'User <user@example.com>',
    'user@example.com,',
    'user@example.com;other@example.com>',
    'user@exa mple.com',
    'user@-example.com',
    'user@example..com',
    'user@*.example.com',
    'mailto:user@example.com?subject=x',
    'user@[192.0.2.1',
    'us\ufffder@example.com',
    '..',
    '*.example.com',
    'https://example.com/a.b',
  ])
    assert.equal(writtenTarget(wrong), null, wrong);
  for (const right of [
    'user@example.com',
    'a b@example.com',
    'user@[192.0.2.1]',
    'a_b.example',
    'user@localhost',
  ])
    assert.equal(writtenTarget(right), right);
});

test('hashes are whole numbers of 53 bits, and differ between tenants', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (tenant, target) => {
      const hash = suppressionHash(tenant, target);
      assert.ok(Number.isSafeInteger(hash) && hash >= 0);
      assert.notEqual(suppressionHash(`${tenant}x`, target), hash);
    }),
  );
  // Stored in tables and files: must never change.
  assert.equal(suppressionHash('', 'user@example.com'), 340135766857265);
  assert.equal(suppressionHash('shop', 'example.com'), 9015550062884);
});
