import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '../../src/mail/job.ts';
import { Suspects } from '../../src/scheduler/suspects.ts';

const job = (queueId: string, deaths?: number): Job =>
  ({ queueId, destination: 'one.test', ...(deaths === undefined ? {} : { deaths }) }) as Job;

test('suspects go one at a time, the innocent at once; one that takes long has company', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const out: string[] = [];
  const suspects = new Suspects((jobs) => out.push(...jobs.map(({ queueId }) => queueId)));
  suspects.deliver([job('a', 1), job('b'), job('c', 1), job('d', 1), job('e', 1)]);
  assert.deepEqual(out, ['b', 'a']);
  suspects.over('b', 'one.test');
  suspects.over('a', 'two.test');
  assert.deepEqual(out, ['b', 'a'], 'none of these is the one that is out');
  suspects.over('a', 'one.test');
  assert.deepEqual(out, ['b', 'a', 'c']);
  t.mock.timers.tick(9_999);
  assert.deepEqual(out, ['b', 'a', 'c'], 'a third of its time, as two wait');
  t.mock.timers.tick(1);
  assert.deepEqual(out, ['b', 'a', 'c', 'd']);
  assert.deepEqual(
    suspects.take(({ queueId }) => queueId === 'e').map(({ queueId }) => queueId),
    ['e'],
  );
  suspects.over('d', 'one.test');
  assert.deepEqual(out, ['b', 'a', 'c', 'd']);
  suspects.deliver([job('f', 1)]);
  assert.deepEqual(out, ['b', 'a', 'c', 'd', 'f']);
});

test('what a silent node had is through in a time that operators can bear, however slow each is', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let out = 0;
  const suspects = new Suspects((jobs) => {
    out += jobs.length;
  });
  suspects.deliver(Array.from({ length: 2000 }, (_, i) => job(`id-${i}`, 1)));
  assert.equal(out, 1);
  t.mock.timers.tick(249);
  assert.equal(out, 1);
  for (let ms = 0; ms < 660_000; ms += 250) t.mock.timers.tick(250);
  assert.equal(out, 2000);
});
