import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { RelayError } from '../../src/base/errors.ts';
import { migrations } from '../../src/database/migrations.ts';
import { compactFile } from '../../src/database/sqlite/compact.ts';
import { openConnection } from '../../src/database/sqlite/connection.ts';
import { delivered, QueueFixture } from '../persistence/fixture.ts';

const SQL_DIR = fileURLToPath(new URL('../../config/sql/sqlite/', import.meta.url));
const folder = (): string => mkdtempSync(join(tmpdir(), 'queue-faults-'));

/** A small tmpfs; null where mounting is not allowed. */
function mountSmall(size: string, options = ''): string | null {
  const path = folder();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}${options}`, 'tmpfs', path], {
      stdio: 'ignore',
    });
    return path;
  } catch {
    rmSync(path, { recursive: true });
    return null;
  }
}
function unmount(path: string): void {
  execFileSync('umount', [path]);
  rmSync(path, { recursive: true });
}
const canMount = ((): boolean => {
  const path = mountSmall('1m');
  if (path !== null) unmount(path);
  return path !== null;
})();
const needsMount = canMount ? {} : { skip: 'mounting a tmpfs needs root' };

describe('sqlite at start', () => {
  it('refuses a file that is not a database, names it and says what to do', async () => {
    const queue = new QueueFixture();
    writeFileSync(join(queue.dataDir, 'queue.db'), Buffer.alloc(20_000, 'this is no database '));
    await assert.rejects(queue.database.recover(0), (error: RelayError) => {
      assert.equal(error.code, 'database_corrupt');
      assert.equal(error.temporary, false);
      assert.ok(error.message.includes(join(queue.dataDir, 'queue.db')));
      assert.match(error.message, /restore it from a backup/);
      return true;
    });
    await queue.close();
  });

  it('finds damage within a database when it meets it, and goes on when the file is whole again', async () => {
    const queue = new QueueFixture();
    for (let i = 0; i < 50; i++) await queue.add([`u${i}@one.test`]);
    await queue.database.close();
    const path = join(queue.dataDir, 'queue.db');
    const whole = join(queue.dataDir, 'copy.db');
    copyFileSync(path, whole);
    const fd = openSync(path, 'r+');
    for (let at = 8192; at < statSync(path).size; at += 8192)
      writeSync(fd, Buffer.alloc(4096, 0xff), 0, 4096, at);
    closeSync(fd);
    await queue.restart();
    await assert.rejects(queue.database.recover(0), { code: 'database_corrupt' });
    copyFileSync(whole, path);
    await queue.restart();
    assert.equal((await queue.database.stats()).mails, 50);
    await queue.close();
  });

  it('refuses a schema from the future', async () => {
    const queue = new QueueFixture();
    await queue.database.recover(0);
    await queue.database.close();
    const db = new DatabaseSync(join(queue.dataDir, 'queue.db'));
    db.exec("UPDATE relay_state SET value = '99' WHERE name = 'schema_version'");
    db.close();
    await queue.restart();
    await assert.rejects(queue.database.recover(0), (error: RelayError) => {
      assert.equal(error.code, 'schema_unknown');
      assert.match(error.message, /version 99, this relay knows up to \d+/);
      return true;
    });
    await queue.close();
  });

  it("refuses somebody else's database", async () => {
    const queue = new QueueFixture();
    const db = new DatabaseSync(join(queue.dataDir, 'queue.db'));
    db.exec('CREATE TABLE recipes (id INTEGER PRIMARY KEY)');
    db.close();
    await assert.rejects(queue.database.recover(0), { code: 'schema_unknown' });
    await queue.close();
  });

  it('upgrades an older schema, step by step, and all of a step or nothing', () => {
    const dir = folder();
    const sqlDir = join(dir, 'sql');
    mkdirSync(sqlDir);
    copyFileSync(join(SQL_DIR, '001-queue.sql'), join(sqlDir, '001-queue.sql'));
    const path = join(dir, 'queue.db');
    openConnection({ path, sqlDir }).close();
    writeFileSync(join(sqlDir, '002-more.sql'), 'CREATE TABLE more (a); INSERT INTO more VALUES (1);');
    writeFileSync(join(sqlDir, '003-broken.sql'), 'CREATE TABLE half (a); SELECT nonsense;');
    assert.throws(() => openConnection({ path, sqlDir }), { code: 'database_refused' });
    const db = new DatabaseSync(path);
    assert.equal(db.prepare("SELECT value FROM relay_state WHERE name = 'schema_version'").get()?.value, '2');
    assert.equal(db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'half'").get(), undefined);
    db.close();
    writeFileSync(join(sqlDir, '003-broken.sql'), 'ALTER TABLE more ADD COLUMN b DEFAULT 7;');
    const upgraded = openConnection({ path, sqlDir });
    assert.equal(upgraded.prepare('SELECT b FROM more').get()?.b, 7);
    upgraded.close();
    rmSync(dir, { recursive: true });
  });

  it('has the tables of the contract', () => {
    const db = openConnection({ path: ':memory:', sqlDir: SQL_DIR });
    const names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all();
    assert.deepEqual(
      names.map((row) => row.name),
      [
        'attachments',
        'content',
        'mail_headers',
        'mail_outbox',
        'mail_recipients',
        'mails',
        'relay_state',
        'sqlite_sequence',
        'suppressions',
      ],
    );
    db.close();
  });

  it('reasons that an earlier release wrote with hyphens are rewritten by the upgrade', () => {
    const dir = folder();
    const sqlDir = join(dir, 'sql');
    mkdirSync(sqlDir);
    for (const name of readdirSync(SQL_DIR).filter((name) => name < '005'))
      copyFileSync(join(SQL_DIR, name), join(sqlDir, name));
    const path = join(dir, 'queue.db');
    const before = openConnection({ path, sqlDir });
    before.exec(`INSERT INTO mail_outbox (mail_id, destination, state, attempts, fence, seqs, waiting, reason)
      VALUES ('a', 'one.test', 'HELD', 2, 1, '0', 1, 'suspected-poison')`);
    before.close();
    const after = openConnection({ path, sqlDir: SQL_DIR });
    assert.equal(after.prepare('SELECT reason FROM mail_outbox').get()?.reason, 'suspected_poison');
    after.close();
    rmSync(dir, { recursive: true });
  });

  it('migrations are numbered without gaps, each number once', () => {
    for (const dir of [SQL_DIR, join(SQL_DIR, '../mysql')]) {
      const numbers = readdirSync(dir).map((name) => Number(name.slice(0, 3)));
      assert.deepEqual(
        numbers.sort((a, b) => a - b),
        numbers.map((_, i) => i + 1),
      );
    }
    const twice = folder();
    for (const name of ['001-a.sql', '001-b.sql']) writeFileSync(join(twice, name), '');
    assert.throws(() => migrations(twice), /two scripts for version 1/);
    rmSync(twice, { recursive: true });
    assert.ok(readFileSync(join(SQL_DIR, '001-queue.sql'), 'utf8').includes('CREATE TABLE mail_outbox'));
  });

  it('says that the folder is missing', async () => {
    const queue = new QueueFixture();
    await queue.restart({ database: { path: join(queue.dataDir, 'nowhere', 'queue.db') } });
    await assert.rejects(queue.database.recover(0), (error: RelayError) => {
      assert.equal(error.code, 'database_unavailable');
      assert.match(error.message, /nowhere.*folder exists/);
      return true;
    });
    mkdirSync(join(queue.dataDir, 'nowhere'));
    assert.equal((await queue.database.recover(0)).released, 0, 'and works once it is there');
    await queue.close();
  });

  const asUser = process.getuid?.() === 0 ? { skip: 'permissions do not bind root' } : {};
  it('says that it may not write there', asUser, async () => {
    const queue = new QueueFixture();
    chmodSync(queue.dataDir, 0o500);
    await assert.rejects(queue.database.recover(0), { code: 'database_unavailable' });
    chmodSync(queue.dataDir, 0o700);
    await queue.close();
  });

  it('says that a read-only file system cannot be written', needsMount, async () => {
    const path = mountSmall('8m') as string;
    const queue = new QueueFixture({}, path);
    await queue.database.recover(0);
    await queue.database.close();
    execFileSync('mount', ['-o', 'remount,ro', path]);
    await queue.restart();
    await assert.rejects(queue.database.recover(0), (error: RelayError) => {
      assert.equal(error.code, 'database_unavailable');
      assert.match(error.message, /writ/);
      return true;
    });
    execFileSync('mount', ['-o', 'remount,rw', path]);
    assert.equal((await queue.database.recover(0)).released, 0, 'and works once it can');
    await queue.database.close();
    unmount(path);
  });
});

describe('sqlite on a full disk', () => {
  for (const provider of ['database', 'local'] as const)
    it(
      `refuses whole batches and works again when there is space (${provider} storage)`,
      needsMount,
      async () => {
        const path = mountSmall('6m') as string;
        const queue = new QueueFixture({ storage: { provider } }, path);
        const sending = await queue.add(['s@one.test'], 'SENDING');
        const kept: string[] = [];
        let refused: RelayError | null = null;
        while (refused === null && kept.length < 200) {
          const pair = [1, 2].map((n) =>
            queue.message([`u${n}@one.test`], { content: Buffer.alloc(60_000, 'x') }),
          );
          try {
            await queue.database.commit(queue.batch({ messages: pair.map((m) => queue.plan(m)) }));
            kept.push(...pair.map((m) => m.queueId));
          } catch (error) {
            refused = error as RelayError;
          }
          for (const { content } of pair) queue.arena.release(content);
        }
        assert.match(refused?.code ?? '', /^(database|storage)_full$/);
        assert.equal(refused?.temporary, true);
        assert.equal(
          (await queue.database.stats()).mails,
          kept.length + 1,
          'nothing of the refused batch is there',
        );
        execFileSync('mount', ['-o', 'remount,size=24m', path]);
        const after = await queue.add(['later@one.test'], 'PENDING', { content: Buffer.alloc(60_000, 'y') });
        assert.ok((await queue.cat(after))?.endsWith('yyy'));
        for (const queueId of kept) assert.ok((await queue.cat(queueId))?.endsWith('xxx'), queueId);
        assert.equal(
          await queue.settle({ queueId: sending, destination: 'one.test', groups: [delivered([0])] }),
          true,
        );
        await queue.database.close();
        unmount(path);
      },
    );
});

describe('sqlite :memory:', () => {
  const open = (): QueueFixture => new QueueFixture({ database: { path: ':memory:', max_messages: 3 } });

  it('refuses messages beyond max_messages before it begins, and takes them when there is room', async () => {
    const queue = open();
    const first = await queue.add(['a@one.test'], 'SENDING');
    await queue.add(['b@one.test']);
    const pair = [1, 2].map((n) => queue.message([`u${n}@one.test`]));
    await assert.rejects(
      queue.database.commit(queue.batch({ messages: pair.map((m) => queue.plan(m)) })),
      (error: RelayError) => {
        assert.equal(error.code, 'database_full');
        assert.match(error.message, /database\.max_messages/);
        return true;
      },
    );
    assert.equal(queue.database.mails, 2);
    await queue.settle({ queueId: first, destination: 'one.test', groups: [delivered([0])] });
    assert.equal(queue.database.mails, 1);
    await queue.database.commit(queue.batch({ messages: pair.map((m) => queue.plan(m)) }));
    assert.equal(queue.database.mails, 3);
    await queue.close();
  });

  it('takes our own DSNs beyond max_messages, so that settlements never wait for room they would make', async () => {
    const queue = open();
    const [first] = [
      await queue.add(['a@one.test'], 'SENDING'),
      await queue.add(['b@one.test']),
      await queue.add(['c@one.test']),
    ];
    const dsn = queue.message(['sender@example.test'], {
      message: { client: { address: 'internal', helo: '', protocol: '', sessionId: '' } },
    });
    const result = await queue.database.commit(
      queue.batch({
        messages: [{ ...queue.plan(dsn), settlement: 0 }],
        settlements: [
          {
            queueId: first as string,
            destination: 'one.test',
            fence: 1,
            attempts: 1,
            groups: [delivered([0])],
            retryAtMs: null,
            delayNotified: false,
          },
        ],
      }),
    );
    assert.deepEqual(result, { messages: ['committed'], settlements: [true] });
    assert.equal(queue.database.mails, 3);
    await queue.close();
  });

  it('counts what withdrawal, operator and purge take away', async () => {
    const queue = open();
    const [a, b] = [
      await queue.add(['a@one.test'], 'SENDING'),
      await queue.add(['b@one.test']),
      await queue.add(['c@one.test']),
    ];
    await queue.database.commit(queue.batch({ withdrawals: [a as string] }));
    await queue.database.operate('delete', { ids: [b as string] }, 0);
    assert.equal(queue.database.mails, 1);
    assert.equal((await queue.database.stats()).mails, 1);
    await queue.close();
  });
});

describe('contents of messages that were deleted many at a time', () => {
  const contentsIn = (queue: QueueFixture): number => {
    const db = new DatabaseSync(join(queue.dataDir, 'queue.db'), { readOnly: true });
    try {
      return db.prepare('SELECT count(*) AS n FROM content').get()?.n as number;
    } finally {
      db.close();
    }
  };
  const addMany = async (queue: QueueFixture, count: number): Promise<void> => {
    const messages = Array.from({ length: count }, () => queue.plan(queue.message(['a@one.test'])));
    await queue.database.commit(queue.batch({ messages }));
  };

  it('go with the next purges, some at a time, also in another life; what came since stays', async () => {
    const queue = new QueueFixture();
    await addMany(queue, 700);
    const deleted = await queue.database.operate('delete', {}, 0);
    assert.equal(deleted.recipients, 700);
    assert.equal((await queue.database.stats()).mails, 0);
    assert.equal(contentsIn(queue), 700, 'the transaction that deletes the messages has not written them');
    await queue.restart();
    await queue.database.recover(0);
    const fresh = await queue.add(['b@one.test']);
    assert.equal(await queue.database.purge(0, 300), 300);
    assert.equal(contentsIn(queue), 401);
    await queue.restart();
    const later = await queue.add(['c@one.test']);
    assert.equal(await queue.database.purge(0, 300), 300);
    assert.equal(await queue.database.purge(0, 300), 0);
    assert.equal(contentsIn(queue), 2);
    for (const queueId of [fresh, later]) assert.match((await queue.cat(queueId)) ?? '', /content of/);
    await queue.close();
  });

  it('are deleted with few messages, and with those whose neighbours stay', async () => {
    const queue = new QueueFixture();
    await addMany(queue, 300);
    const kept = await queue.add(['kept@two.test']);
    await addMany(queue, 100);
    await queue.database.operate('delete', { destinations: ['one.test'] }, 0);
    assert.equal(contentsIn(queue), 1);
    assert.match((await queue.cat(kept)) ?? '', /content of/);
    await queue.close();
  });

  it('are left once when the deletion did not happen', async () => {
    const queue = new QueueFixture();
    await addMany(queue, 400);
    const other = new DatabaseSync(join(queue.dataDir, 'queue.db'));
    other.exec("CREATE TRIGGER refuse BEFORE DELETE ON mails BEGIN SELECT raise(ABORT, 'no'); END");
    await assert.rejects(queue.database.operate('delete', {}, 0));
    other.exec('DROP TRIGGER refuse');
    other.close();
    assert.equal(await queue.database.purge(0, 1000), 0);
    assert.equal(contentsIn(queue), 400);
    assert.equal((await queue.database.operate('delete', {}, 0)).recipients, 400);
    assert.equal(await queue.database.purge(0, 1000), 0);
    assert.equal(contentsIn(queue), 0);
    await queue.close();
  });
});

describe('the file of a queue', () => {
  const MIB = 1_048_576;

  /** A queue that had much mail, of which one message and this much are left. */
  async function emptied(queue: QueueFixture, keptMib: number): Promise<string> {
    const path = join(queue.dataDir, 'queue.db');
    await queue.add(['a@one.test']);
    const db = new DatabaseSync(path);
    db.exec('BEGIN');
    const insert = db.prepare('INSERT INTO content (id, bytes) VALUES (?, zeroblob(1048576))');
    for (let id = 1; id <= 80; id++) insert.run(id + 1000);
    db.exec('COMMIT');
    db.exec(`DELETE FROM content WHERE id > ${1000 + keptMib}; PRAGMA wal_checkpoint(TRUNCATE)`);
    db.close();
    return path;
  }

  it('gives free space back once most is free and little is left, without losing what is', async () => {
    const queue = new QueueFixture();
    const path = await emptied(queue, 2);
    assert.equal(await queue.database.compact(), true);
    const { mails, file } = await queue.database.stats();
    assert.equal(mails, 1);
    assert.ok(file !== undefined && file.bytes < 4 * MIB && file.freeBytes === 0, JSON.stringify(file));
    assert.equal(statSync(path).size, file.bytes);
    assert.equal(await queue.database.compact(), false, 'there is nothing to give back');
    await queue.add(['b@one.test']);
    await queue.close();
  });

  it('is left alone while more is in use than can be copied quickly; of a stopped relay it is compacted', async () => {
    const queue = new QueueFixture();
    const path = await emptied(queue, 20);
    assert.equal(await queue.database.compact(), false);
    await queue.database.close();
    const { before, after } = compactFile(path);
    assert.ok(before.freeBytes > 50 * MIB && after.freeBytes === 0, JSON.stringify({ before, after }));
    assert.equal(statSync(path).size, after.bytes);
    await queue.restart();
    assert.equal((await queue.database.stats()).mails, 1);
    await queue.close();
  });

  it('is whole when what compacts it is killed', { timeout: 60_000 }, async () => {
    const queue = new QueueFixture();
    const path = await emptied(queue, 40);
    await queue.database.close();
    const module = new URL('../../src/database/sqlite/compact.ts', import.meta.url).href;
    const script = `(await import(${JSON.stringify(module)})).compactFile(${JSON.stringify(path)})`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    while (child.exitCode === null && !(statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0))
      await new Promise((resolve) => setImmediate(resolve));
    child.kill('SIGKILL');
    await ended;
    const db = new DatabaseSync(path);
    assert.equal(db.prepare('PRAGMA integrity_check').get()?.integrity_check, 'ok');
    db.close();
    await queue.restart();
    assert.equal((await queue.database.stats()).mails, 1);
    await queue.close();
  });

  it('stays as it was when the disk has no room to compact it, and says so', needsMount, async () => {
    const mount = mountSmall('180m') as string;
    const queue = new QueueFixture({}, mount);
    await emptied(queue, 79);
    await queue.database.close();
    writeFileSync(join(mount, 'other'), Buffer.alloc(60 * MIB));
    assert.throws(
      () => compactFile(join(mount, 'queue.db')),
      (error: RelayError) => error.code === 'database_full',
    );
    rmSync(join(mount, 'other'));
    await queue.restart();
    assert.equal((await queue.database.stats()).mails, 1);
    await queue.database.close();
    unmount(mount);
  });
});
