/** The benchmark of commands on a large queue, on a small one: what it asks for must go on to work. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';

test('bench/queue.ts: every filter and action works', { timeout: 240_000 }, async () => {
  const bench = join(import.meta.dirname, '../../bench/queue.ts');
  const size = ['--rows', '300', '--ids', '20', '--rate', '0'];
  const { code, stdout, stderr } = await run(process.execPath, [
    bench,
    '--together',
    '--all-filters',
    ...size,
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^count : 300 /m);
  assert.match(stdout, /^hold --all: hold: 252 entries/m);
  assert.match(stdout, /^fail, one domain: fail: 1 recipient/m);
  assert.match(stdout, /^delete --all: delete: 25[12] recipients/m);
});
