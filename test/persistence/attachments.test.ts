import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { QueueFixture } from './fixture.ts';

const attachments = [
  { name: 'p.png', type: 'image/png', sizeBytes: 200_000, offset: 97 },
  { name: '', type: 'application/pdf', sizeBytes: 0, offset: 210_000 },
];

describe('attachments of a committed message', () => {
  it('are recorded as the message brings them', async () => {
    const queue = new QueueFixture();
    const queueId = await queue.add(['a@one.test'], 'PENDING', { message: { attachments } });
    assert.deepEqual(
      (await queue.database.show(queueId))?.attachments,
      attachments.map((one, seq) => ({ seq, ...one })),
    );
    await queue.close();
  });

  it('go with the message', async () => {
    const queue = new QueueFixture();
    const queueId = await queue.add(['a@one.test'], 'PENDING', { message: { attachments } });
    await queue.database.operate('delete', { ids: [queueId] }, 0);
    await queue.add(['b@one.test'], 'PENDING', { message: { queueId } });
    assert.deepEqual((await queue.database.show(queueId))?.attachments, []);
    await queue.close();
  });
});
