/** What every storage provider must do. Run by one test file per provider. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Config } from '../../src/config/schema.ts';
import { unread as unreadRows } from '../../src/database/outbox-rows.ts';
import { CHUNK_BYTES } from '../../src/native.ts';
import { delivered, type Overrides, QueueFixture } from '../persistence/fixture.ts';
import { eventually } from '../support/wait.ts';
import { filesBelow } from './providers.ts';

export interface Provider {
  name: Config['storage']['provider'];
  /** Before the first test, and after the last. */
  start?(): Promise<void>;
  stop?(): Promise<void>;
  /** The storage section for a queue with this data folder. */
  settings(dataDir: string): NonNullable<Overrides['storage']>;
  /** Names of the objects it holds for that queue, replicas once. */
  objects(dataDir: string): string[] | Promise<string[]>;
  /** All of them are gone. */
  lose(dataDir: string): void | Promise<void>;
  /** Makes an object unreadable for now; what it returns ends that. Absent where nobody can. */
  block?(dataDir: string, object: string): () => void;
  /** What must hold after every test. */
  check?(): void;
}

export function storageConformance(provider: Provider, options: { skip?: string | false } = {}): void {
  describe(`storage ${provider.name}`, { skip: options.skip ?? false }, () => {
    let queue: QueueFixture;
    let overrides: Overrides;
    const objects = async (): Promise<string[]> => provider.objects(queue.dataDir);
    before(() => provider.start?.());
    after(() => provider.stop?.());
    const claimBytes = async (): Promise<Buffer> => {
      const { jobs } = await queue.database.claim({
        destination: 'one.test',
        limit: 1,
        maxRecipients: 10,
        nowMs: 1000,
        leaseUntilMs: 2000,
      });
      const content = jobs[0]?.content as number;
      const bytes = Buffer.from(queue.arena.bytes(content));
      queue.arena.release(content);
      return bytes;
    };

    beforeEach(() => {
      const dataDir = mkdtempSync(join(tmpdir(), 'storage-'));
      overrides = { storage: { provider: provider.name, ...provider.settings(dataDir) } };
      queue = new QueueFixture(overrides, dataDir);
    });
    afterEach(async () => {
      await queue.close();
      provider.check?.();
    });

    const everyByte = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
    const sizes = [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 77];
    for (const size of sizes)
      it(`gives back ${size} bytes as they were`, async () => {
        const content = Buffer.alloc(size, everyByte);
        const queueId = await queue.add(['a@one.test'], 'PENDING', { content });
        const cat = Buffer.from((await queue.cat(queueId)) ?? '', 'latin1');
        assert.deepEqual(cat.subarray(cat.length - size), content);
        assert.deepEqual(await claimBytes(), content);
      });

    it('keeps empty content', async () => {
      await queue.add(['a@one.test'], 'PENDING', { content: Buffer.alloc(0) });
      assert.equal((await claimBytes()).length, 0);
    });

    it('keeps the contents of one commit apart', async () => {
      const messages = ['first', 'second, longer', 'x'].map((text) =>
        queue.message(['a@one.test'], { content: Buffer.from(text) }),
      );
      await queue.database.commit(queue.batch({ messages: messages.map((m) => queue.plan(m)) }));
      for (const [i, text] of ['first', 'second, longer', 'x'].entries())
        assert.ok((await queue.cat(messages[i]?.queueId as string))?.endsWith(`\r\n${text}`));
    });

    it('keeps spilled content as a file of its own, and large content a file when loaded', async () => {
      const content = Buffer.alloc(queue.config.spill_threshold_bytes + 1, everyByte);
      const queueId = await queue.add(['a@one.test'], 'SENDING', { content, spill: true });
      assert.deepEqual(filesBelow(queue.spillDir), [], 'the spill file went with the last reference');
      assert.equal((await objects()).length, 1);
      await queue.database.release(
        [{ queueId, destination: 'one.test', fence: 1, reason: 'shutdown' }],
        1000,
      );
      assert.deepEqual(await claimBytes(), content);
      await queue.settle({ queueId, destination: 'one.test', fence: 2, groups: [delivered([0])] });
      await eventually(async () => assert.deepEqual(await objects(), []));
    });

    it('has no object left when the last message of a commit is settled', async () => {
      const messages = [1, 2].map((n) => queue.message([`u${n}@one.test`]));
      await queue.database.commit(queue.batch({ messages: messages.map((m) => queue.plan(m, 'SENDING')) }));
      const before = (await objects()).length;
      const [first, second] = messages.map((m) => m.queueId) as [string, string];
      await queue.settle({ queueId: first, destination: 'one.test', groups: [delivered([0])] });
      assert.equal((await objects()).length, before, 'the other message still lies there');
      assert.match((await queue.cat(second)) ?? '', /content of/);
      await queue.settle({ queueId: second, destination: 'one.test', groups: [delivered([0])] });
      await eventually(async () => assert.deepEqual(await objects(), []));
    });

    for (const how of ['deleted', 'settled'] as const)
      it(`has no object left when mail of many commits is ${how} at once`, async () => {
        const queueIds: string[] = [];
        for (let n = 0; n < 80; n++) queueIds.push(await queue.add([`u${n}@one.test`], 'SENDING'));
        if (how === 'settled') {
          const settlements = queueIds.map((queueId) => ({
            queueId,
            destination: 'one.test',
            fence: 1,
            attempts: 1,
            retryAtMs: null,
            delayNotified: false,
            groups: [delivered([0])],
          }));
          await queue.database.commit(queue.batch({ settlements }));
        } else {
          const rows = queueIds.map((queueId) => ({
            queueId,
            destination: 'one.test',
            fence: 1,
            reason: '',
          }));
          await queue.database.release(rows, 1000);
          await queue.database.operate('delete', {}, 1000);
        }
        assert.equal((await queue.database.stats()).mails, 0);
        await eventually(async () => assert.deepEqual(await objects(), []), 20_000);
      });

    it('stores nothing of a commit that fails', async () => {
      const large = queue.message(['a@one.test'], { content: Buffer.alloc(300_000, 1), spill: true });
      const bad = queue.plan(queue.message(['b@one.test']));
      bad.plan = [];
      const batch = queue.batch({ messages: [queue.plan(large), bad] });
      await assert.rejects(queue.database.commit(batch), { code: 'database_refused' });
      await eventually(async () => assert.deepEqual(await objects(), []));
      await queue.database.commit(queue.batch({ messages: [queue.plan(large)] }));
      queue.arena.release(large.content);
      assert.equal(
        (await claimBytes()).length,
        300_000,
        'the spill file was still there to be committed alone',
      );
    });

    it('sweeps objects without a mail at start, and only those', async () => {
      await queue.add(['a@one.test'], 'PENDING', { content: Buffer.alloc(300_000, 1), spill: true });
      const gone = queue.message(['b@one.test'], { content: Buffer.alloc(300_000, 2), spill: true });
      await queue.database.commit(queue.batch({ messages: [queue.plan(gone)] }));
      const kept = (await objects()).length - 1;
      const { DatabaseSync } = await import('node:sqlite');
      await queue.database.close();
      const db = new DatabaseSync(join(queue.dataDir, 'queue.db'));
      for (const table of ['mails', 'mail_outbox', 'mail_recipients'])
        db.prepare(`DELETE FROM ${table} WHERE ${table === 'mails' ? 'id' : 'mail_id'} = ?`).run(
          gone.queueId,
        );
      db.close();
      await queue.restart();
      await queue.database.recover(1000);
      await eventually(async () => assert.equal((await objects()).length, kept));
      assert.equal((await claimBytes()).length, 300_000);
    });

    it('sets a message aside when its content is gone, and delivers the others', async () => {
      const lost = await queue.add(['a@one.test'], 'PENDING', {
        content: Buffer.alloc(300_000, 1),
        spill: true,
      });
      await provider.lose(queue.dataDir);
      const good = await queue.add(['b@one.test']);
      const { jobs } = await queue.database.claim({
        destination: 'one.test',
        limit: 9,
        maxRecipients: 10,
        nowMs: 1000,
        leaseUntilMs: 2000,
      });
      assert.deepEqual(
        jobs.map((job) => job.queueId),
        [good],
      );
      const [row] = (await queue.database.show(lost))?.rows ?? [];
      assert.deepEqual([row?.state, row?.reason], ['HELD', 'content_unavailable']);
      assert.match(row?.detail ?? '', /is not there/);
      // When the storage is back the row goes on, but not one that an operator holds.
      const { rows, changes } = await queue.database.operate('release', unreadRows(3000), 3000);
      assert.deepEqual([rows, changes], [1, [{ destination: 'one.test', rows: 1 }]]);
      assert.equal((await queue.database.operate('hold', { ids: [lost] }, 3000)).rows, 1);
      assert.equal((await queue.database.operate('release', unreadRows(3000), 3000)).rows, 0);
    });

    it('puts a message off when its content cannot be read now, and delivers the others', async (t) => {
      if (provider.block === undefined) return t.skip('cannot be brought about');
      const unread = await queue.add(['a@one.test'], 'PENDING', {
        content: Buffer.alloc(300_000, 1),
        spill: true,
      });
      const [object = ''] = await objects();
      const unblock = provider.block(queue.dataDir, object);
      const good = await queue.add(['b@one.test']);
      const claim = (nowMs: number) =>
        queue.database.claim({
          destination: 'one.test',
          limit: 9,
          maxRecipients: 10,
          nowMs,
          leaseUntilMs: 2000,
        });
      const { jobs, nextDueMs } = await claim(1000);
      assert.deepEqual(
        jobs.map((job) => job.queueId),
        [good],
      );
      assert.equal(nextDueMs, 61_000);
      const [row] = (await queue.database.show(unread))?.rows ?? [];
      assert.deepEqual([row?.state, row?.reason], ['PENDING', 'content_unavailable']);
      unblock();
      assert.equal((await queue.database.operate('flush', unreadRows(3000), 3000)).rows, 1);
      assert.equal((await queue.database.operate('flush', unreadRows(3000), 3000)).rows, 0, 'it is due');
      assert.deepEqual(
        (await claim(3000)).jobs.map((job) => job.queueId),
        [unread],
      );
    });

    it('finds content that was stored while the other provider was in use', async () => {
      const small = await queue.add(['a@one.test']);
      const large = await queue.add(['b@one.test'], 'PENDING', {
        content: Buffer.alloc(300_000, 7),
        spill: true,
      });
      const other = provider.name === 'local' ? 'database' : 'local';
      await queue.restart({ storage: { ...overrides.storage, provider: other } });
      await queue.database.recover(1000);
      assert.match((await queue.cat(small)) ?? '', /content of/);
      const { jobs } = await queue.database.claim({
        destination: 'one.test',
        limit: 9,
        maxRecipients: 10,
        nowMs: 1000,
        leaseUntilMs: 2000,
      });
      assert.deepEqual(
        jobs.map((job) => [job.queueId, queue.arena.bytes(job.content).length]),
        [
          [small, jobs[0]?.sizeBytes],
          [large, 300_000],
        ],
      );
    });
  });
}
