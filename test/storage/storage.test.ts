import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { delivered, QueueFixture } from '../persistence/fixture.ts';
import { filesBelow, storageConformance } from './conformance.ts';

storageConformance({ name: 'database', folder: 'content' });
storageConformance({ name: 'local', folder: 'mail' });

describe('storage local', () => {
  it('writes one bundle for each commit, in the folder of its day', async () => {
    const queue = new QueueFixture({ storage: { provider: 'local' } });
    const messages = [1, 2, 3].map((n) => queue.message([`u${n}@one.test`]));
    await queue.database.commit(queue.batch({ messages: messages.map((m) => queue.plan(m)) }));
    const [file, ...more] = filesBelow(join(queue.dataDir, 'mail'));
    assert.deepEqual(more, []);
    assert.match(file ?? '', /^\d{4}-\d{2}-\d{2}\/[0-9a-z]{15}\.bundle$/);
    await queue.close();
  });

  it('leaves files that are not its own alone, and removes folders of days that are over', async () => {
    const queue = new QueueFixture({ storage: { provider: 'local' } });
    const mail = join(queue.dataDir, 'mail');
    mkdirSync(join(mail, '2020-01-01'), { recursive: true });
    mkdirSync(join(mail, '2020-01-02'));
    mkdirSync(join(mail, 'notes'));
    writeFileSync(join(mail, '2020-01-01', '06dk00000000000.bundle'), 'orphan');
    writeFileSync(join(mail, '2020-01-02', 'readme.txt'), 'mine');
    writeFileSync(join(mail, 'notes', 'x.bundle'), 'mine');
    await queue.database.recover(1000);
    assert.deepEqual(filesBelow(mail).sort(), ['2020-01-02/readme.txt', 'notes/x.bundle']);
    await queue.close();
  });

  it('does not delete the bundle of others when a DSN in it is rejected', async () => {
    const queue = new QueueFixture({ storage: { provider: 'local' } });
    const stays = queue.message(['a@one.test']);
    const dsn = queue.message(['sender@example.test']);
    const stale = {
      queueId: 'unknown00000000',
      destination: 'one.test',
      fence: 1,
      attempts: 1,
      groups: [delivered([0])],
      retryAtMs: null,
      delayNotified: false,
    };
    const { messages } = await queue.database.commit(
      queue.batch({
        messages: [queue.plan(stays), { ...queue.plan(dsn), settlement: 0 }],
        settlements: [stale],
      }),
    );
    assert.deepEqual(messages, ['committed', 'withdrawn']);
    assert.match((await queue.cat(stays.queueId)) ?? '', /content of/);
    await queue.close();
  });

  it('says that its folder cannot be written, as a fault that may pass', async () => {
    const queue = new QueueFixture({ storage: { provider: 'local' } });
    writeFileSync(join(queue.dataDir, 'mail'), 'a file where the folder should be');
    const message = queue.message(['a@one.test']);
    await assert.rejects(queue.database.commit(queue.batch({ messages: [queue.plan(message)] })), {
      code: 'storage-unavailable',
    });
    rmSync(join(queue.dataDir, 'mail'));
    const { messages } = await queue.database.commit(queue.batch({ messages: [queue.plan(message)] }));
    assert.deepEqual(messages, ['committed']);
    await queue.close();
  });
});
