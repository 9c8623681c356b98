import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '../../src/mail/job.ts';
import { meantBy } from '../../src/mail/selection.ts';

test('delivery gives back what a move is for, and not what is there already or ends', () => {
  const meant = (selection: Parameters<typeof meantBy>[0]): string[] =>
    ['one.test', 'via:mx.test:25', 'via:other.test:25', 'fail:one.test'].filter((destination) =>
      meantBy(selection)({ destination, receivedAtMs: 0, attempts: 0, sizeBytes: 0 } as Job),
    );
  assert.deepEqual(meant({ notDestinations: ['fail:*', 'via:mx.test:25'] }), [
    'one.test',
    'via:other.test:25',
  ]);
  assert.deepEqual(meant({ rerouted: true }), ['via:mx.test:25', 'via:other.test:25']);
  assert.deepEqual(meant({ rerouted: true, destinations: ['one.test'] }), []);
});
