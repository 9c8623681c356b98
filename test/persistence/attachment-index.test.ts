import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { QueueFixture } from './fixture.ts';

const content = Buffer.from(
  `Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png; name=p.png\r\n\r\n${'P'.repeat(200_000)}\r\n--b--\r\n`,
);

describe('attachments of a committed message', () => {
  for (const spill of [false, true])
    it(`are recorded with their place in the content (${spill ? 'in a file' : 'in memory'})`, async () => {
      const queue = new QueueFixture();
      const queueId = await queue.add(['a@one.test'], 'PENDING', { content, spill });
      assert.deepEqual((await queue.database.show(queueId))?.attachments, [
        { seq: 0, name: 'p.png', type: 'image/png', sizeBytes: 200_000, offset: content.indexOf('PPP') },
      ]);
      await queue.close();
    });

  it('are not recorded when index_attachments is off', async () => {
    const queue = new QueueFixture({ index_attachments: false });
    const queueId = await queue.add(['a@one.test'], 'PENDING', { content });
    assert.deepEqual((await queue.database.show(queueId))?.attachments, []);
    await queue.close();
  });

  it('go with the message', async () => {
    const queue = new QueueFixture();
    const queueId = await queue.add(['a@one.test'], 'PENDING', { content });
    await queue.database.operate('delete', { queueId }, 0);
    await queue.add(['b@one.test'], 'PENDING', { message: { queueId } });
    assert.deepEqual((await queue.database.show(queueId))?.attachments, []);
    await queue.close();
  });
});
