/** What comes after a commit must not undo it in the eyes of whoever waits for the answer. */
import assert from 'node:assert/strict';
import type { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Claimer } from '../../src/database/sqlite/claim.ts';
import { openConnection } from '../../src/database/sqlite/connection.ts';
import { MailEraser } from '../../src/database/sqlite/erase.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { QueueFixture } from '../persistence/fixture.ts';

const SQL_DIR = fileURLToPath(new URL('../../config/sql/sqlite/', import.meta.url));

describe('after a commit', () => {
  it('an object that cannot be deleted is no failure', async () => {
    const db = openConnection({ path: ':memory:', sqlDir: SQL_DIR });
    const storage = { remove: () => Promise.reject(new Error('EIO')) } as unknown as Storage;
    const eraser = new MailEraser(db, storage);
    eraser.begin();
    eraser.mayOrphan('2026-01-01/x.bundle');
    await eraser.removeObjects();
    db.close();
  });

  it('a claim that cannot tell the next due time leases nothing and holds no content', async () => {
    const queue = new QueueFixture();
    const queueId = await queue.add(['a@one.test']);
    const { database } = queue.config;
    const path = database.driver === 'sqlite' ? database.path : '';
    const db = openConnection({ path, sqlDir: SQL_DIR });
    const failing = new Proxy(db, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown;
        if (name === 'prepare')
          return (sql: string) =>
            sql.startsWith('SELECT due_at')
              ? { get: () => assert.fail('disk I/O error') }
              : target.prepare(sql);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    }) as DatabaseSync;
    const storage = { load: async () => queue.arena.store(Buffer.from('content')) } as unknown as Storage;
    const request = {
      destination: 'one.test',
      limit: 10,
      maxRecipients: 10,
      nowMs: 5000,
      leaseUntilMs: 9000,
    };
    await assert.rejects(new Claimer(failing, storage, queue.arena).claim(request, 'owner'), /disk I\/O/);
    db.close();
    assert.equal((await queue.database.show(queueId))?.rows[0]?.state, 'PENDING');
    assert.equal(queue.arena.held, 0);
    await queue.close();
  });
});
