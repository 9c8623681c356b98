import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { delivered, QueueFixture } from '../persistence/fixture.ts';
import { WebHdfsServer } from '../services/webhdfs-server.ts';
import { storageConformance } from './conformance.ts';
import {
  databaseProvider,
  distributedProvider,
  filesBelow,
  hdfsProvider,
  localProvider,
} from './providers.ts';

storageConformance(databaseProvider);
storageConformance(localProvider);
storageConformance(distributedProvider);
storageConformance(hdfsProvider(new WebHdfsServer()));

describe('storage database', () => {
  const kilobytes = (count: number, fill: string) => Buffer.alloc(count * 1024, `${fill}\r\n`);

  it('bundles much content of one commit, keeps the short ones in the database, deletes with the last mail', async () => {
    const queue = new QueueFixture();
    const short = queue.message(['a@one.test']);
    const long = ['x', 'y', 'z'].map((fill) =>
      queue.message(['a@one.test'], { content: kilobytes(100, fill) }),
    );
    const all = [short, ...long];
    await queue.database.commit(queue.batch({ messages: all.map((m) => queue.plan(m, 'SENDING')) }));
    const folder = join(queue.dataDir, 'content');
    const files = filesBelow(folder);
    assert.deepEqual(files, [`${long[0]?.queueId}.bundle`]);
    assert.equal(statSync(join(folder, files[0] as string)).size, 300 * 1024);
    await queue.restart();
    for (const [at, fill] of ['x', 'y', 'z'].entries()) {
      const text = await queue.cat(long[at]?.queueId as string);
      assert.equal(text?.slice(text.indexOf('\r\n') + 2), kilobytes(100, fill).toString('latin1'));
    }
    assert.match((await queue.cat(short.queueId)) ?? '', /content of/);
    for (const { queueId } of all) {
      const groups = [delivered([0])];
      assert.ok(await queue.settle({ queueId, destination: 'one.test', groups }));
    }
    assert.deepEqual(filesBelow(folder), []);
    await queue.close();
  });

  it('keeps the bundle until the last of its mails is settled', async () => {
    const queue = new QueueFixture();
    const long = ['x', 'y', 'z'].map((fill) =>
      queue.message(['a@one.test'], { content: kilobytes(100, fill) }),
    );
    await queue.database.commit(queue.batch({ messages: long.map((m) => queue.plan(m, 'SENDING')) }));
    const left: number[] = [];
    for (const { queueId } of long) {
      await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] });
      left.push(filesBelow(join(queue.dataDir, 'content')).length);
    }
    assert.deepEqual(left, [1, 1, 0]);
    await queue.close();
  });

  it('writes little content, or only short contents, to the database alone', async () => {
    const queue = new QueueFixture();
    const few = [queue.message(['a@one.test'], { content: kilobytes(100, 'x') })];
    const many = Array.from({ length: 80 }, () =>
      queue.message(['a@one.test'], { content: kilobytes(4, 'x') }),
    );
    for (const messages of [few, many])
      await queue.database.commit(queue.batch({ messages: messages.map((m) => queue.plan(m)) }));
    assert.deepEqual(filesBelow(join(queue.dataDir, 'content')), []);
    await queue.close();
  });

  it('sweeps a bundle whose transaction never happened', async () => {
    const queue = new QueueFixture();
    const folder = join(queue.dataDir, 'content');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, '06dk00000000000.bundle'), 'orphan');
    await queue.database.recover(1000);
    assert.deepEqual(filesBelow(folder), []);
    await queue.close();
  });
});

describe('storage local', () => {
  it('writes one bundle for each commit, in the folder of its day', async () => {
    const queue = new QueueFixture({ storage: { provider: 'local' } });
    const messages = [1, 2, 3].map((n) => queue.message([`u${n}@one.test`]));
    await queue.database.commit(queue.batch({ messages: messages.map((m) => queue.plan(m)) }));
    const [file, ...more] = filesBelow(join(queue.dataDir, 'mail'));
    assert.deepEqual(more, []);
    assert.match(file ?? '', /^\d{4}-\d{2}-\d{2}\/[0-9a-z]{15,16}\.bundle$/);
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
      code: 'storage_unavailable',
    });
    rmSync(join(queue.dataDir, 'mail'));
    const { messages } = await queue.database.commit(queue.batch({ messages: [queue.plan(message)] }));
    assert.deepEqual(messages, ['committed']);
    await queue.close();
  });
});

it('a content folder that cannot be made is an error, also where mkdir answers ENOENT', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, () => {
  // In a program of its own: trying for ever, as fs.mkdirSync with recursive does there, stops every timer too.
  const file = new URL('../../src/storage/content-file.ts', import.meta.url).href;
  const code = `import { makeDurableFolder } from ${JSON.stringify(file)}; makeDurableFolder('/proc/missing/mail');`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    timeout: 60_000,
    encoding: 'utf8',
  });
  assert.equal(status, 1);
  assert.match(stderr, /ENOENT/);
});
