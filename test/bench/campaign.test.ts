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
  // When a sink refuses first depends on the machine: that it is counted, in one of the seconds, does not.
  const refused = limited.refusedBySecond.reduce((total: number, count: number) => total + count, 0);
  assert.ok(limited.usedAtFirst > 0 && refused > 0, JSON.stringify(limited));
});
