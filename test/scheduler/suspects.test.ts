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
  t.mock.timers.tick(30_000);
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
