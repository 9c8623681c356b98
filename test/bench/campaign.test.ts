/** The benchmark of campaigns, on a small one: each way of it delivers all, and a sink that limits is found out. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';

test('bench/campaign.ts: every campaign arrives whole, signed or not, and the limited one is counted', {
  timeout: 240_000,
}, async () => {
  const bench = join(import.meta.dirname, '../../bench/campaign.ts');
  const { code, stdout, stderr } = await run(process.execPath, [bench, '--quick', '--json'], {
    timeoutMs: 230_000,
  });
  assert.equal(code, 0, stderr);
  const { reports, limited } = JSON.parse(stdout);
  for (const kind of ['unsigned', 'ed25519', 'rsa']) {
    const [{ sink, handed, firstMs }] = reports[kind];
    assert.deepEqual([sink.distinct, sink.duplicates, handed.accepted], [400, 0, 400], kind);
    assert.ok(firstMs > 0, `the first message was there before it was sent: ${firstMs} ms`);
  }
  // In which second a sink refuses first depends on the machine; that each is counted where it belongs does not.
  const sum = (counts: number[]): number => counts.reduce((total, count) => total + count, 0);
  const { takenBySecond: taken, refusedBySecond: refused } = limited;
  assert.ok(sum(refused) > 0, JSON.stringify(limited));
  const [tookAtFirst, refusedAtFirst] = [sum(taken.slice(0, 2)), sum(refused.slice(0, 2))];
  assert.ok(tookAtFirst > 0, JSON.stringify(limited));
  assert.equal(limited.usedAtFirst, tookAtFirst / 100);
  assert.equal(limited.refusedAtFirst, refusedAtFirst / (tookAtFirst + refusedAtFirst));
});
