import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operateBySlices } from '../../src/database/slices.ts';

test('parts of an action that were done are told although a later one fails', async () => {
  const done: string[] = [];
  const slice = async (after: unknown) => {
    if (after !== '') throw new Error('disk full');
    return {
      rows: 1000,
      recipients: 1000,
      sending: [],
      queueIds: [],
      changes: [{ destination: 'one.test', rows: -1 }],
      removed: [
        {
          queueId: 'q1',
          destination: 'one.test',
          reversePath: '',
          messageId: '',
          recipients: ['a@one.test'],
        },
      ],
      next: 'q1',
      within: null,
    };
  };
  const operated = operateBySlices(slice, ({ changes, removed }) =>
    done.push(...changes.map(({ destination }) => destination), ...removed.map(({ queueId }) => queueId)),
  );
  await assert.rejects(operated, /disk full/);
  assert.deepEqual(done, ['one.test', 'q1']);
});
