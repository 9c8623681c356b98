/** Taking messages over from a journal: exactly once, whatever became of the word of it. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { RelayError } from '../../src/base/errors.ts';
import type { CommitBatch } from '../../src/database/database.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import type { Message } from '../../src/mail/message.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import { delivered, QueueFixture } from '../persistence/fixture.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';

const skip = skipWithoutMariaDb();
const JOURNAL = '0123456789abcdef';

describe('mysql: taking over from a journal', { skip }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;
  let queue: QueueFixture;

  before(async () => {
    server = await MariaDb.start();
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
  });
  after(() => server?.close());
  beforeEach(async () => {
    await server.empty(access);
    queue = new QueueFixture({ database: { driver: 'mysql', ...access }, storage: { provider: 'local' } });
  });
  afterEach(() => queue.close());

  /** Acknowledged, as the journal leaves them. */
  const messages = (count: number): Message[] =>
    Array.from({ length: count }, (_, i) => {
      const message = queue.message([`r${i}@a.test`]);
      queue.arena.moveState(message.content, CONTENT_STATE.waiting, CONTENT_STATE.committing);
      queue.arena.moveState(message.content, CONTENT_STATE.committing, CONTENT_STATE.committed);
      return message;
    });
  const transfer = (
    list: Message[],
    seqs: number[],
    seq = Math.max(...seqs),
    pending: number[] = [],
  ): CommitBatch =>
    queue.batch({
      messages: list.map((message) => queue.plan(message)),
      journal: { journal: JOURNAL, seqs, mark: { seq, pending } },
    });
  const mark = async () => (await queue.database.journalMark(JOURNAL)).mark;
  const mails = async (): Promise<number> => (await queue.database.stats()).mails;

  it('knows nothing of a journal it never heard of; its queue has a name that stays', async () => {
    const { mark: none, queue: name } = await queue.database.journalMark(JOURNAL);
    assert.deepEqual(none, { seq: 0, pending: [] });
    assert.match(name, /^[0-9a-f]{12}$/);
    await queue.restart();
    assert.equal((await queue.database.journalMark(JOURNAL)).queue, name);
  });

  it('takes acknowledged messages and remembers how far it is', async () => {
    const { messages: outcomes } = await queue.database.commit(transfer(messages(3), [5, 6, 8]));
    assert.deepEqual(outcomes, ['committed', 'committed', 'committed']);
    assert.deepEqual([await mails(), await mark()], [3, { seq: 8, pending: [] }]);
  });

  it('the same again inserts nothing, also when the mails were delivered and are gone', async () => {
    const list = messages(2);
    await queue.database.commit(transfer(list, [1, 2]));
    const { jobs } = await queue.database.claim({
      destination: 'a.test',
      limit: 10,
      maxRecipients: 10,
      nowMs: 2000,
      leaseUntilMs: 9000,
    });
    for (const { queueId, destination, fence } of jobs)
      await queue.settle({ queueId, destination, fence, groups: [delivered([0])] });
    assert.equal(await mails(), 0);
    await queue.restart();
    const { messages: outcomes } = await queue.database.commit(transfer(list, [1, 2]));
    assert.deepEqual(outcomes, ['committed', 'committed']);
    assert.equal(await mails(), 0);
  });

  it('one that is pending is still taken, once', async () => {
    const [a, b] = messages(2) as [Message, Message];
    await queue.database.commit(transfer([b], [2], 2, [1]));
    assert.deepEqual(await mark(), { seq: 2, pending: [1] });
    for (let i = 0; i < 2; i++) await queue.database.commit(transfer([a], [1], 2, []));
    assert.deepEqual([await mails(), await mark()], [2, { seq: 2, pending: [] }]);
  });

  it('refuses a batch of which it has a part, and changes nothing', async () => {
    const [a, b] = messages(2) as [Message, Message];
    await queue.database.commit(transfer([a], [1]));
    await assert.rejects(queue.database.commit(transfer([a, b], [1, 2])), (error: RelayError) => {
      assert.equal(error.code, 'database_refused');
      assert.match(error.message, /1 of 2 messages of journal 0123456789abcdef are here already/);
      return true;
    });
    assert.deepEqual([await mails(), await mark()], [1, { seq: 1, pending: [] }]);
  });

  it('a batch that fails leaves the mark where it was', async () => {
    const [message] = messages(1) as [Message];
    const broken = { ...transfer([message], [4]), messages: [{ message, plan: [] }] };
    await assert.rejects(queue.database.commit(broken));
    assert.deepEqual([await mails(), await mark()], [0, { seq: 0, pending: [] }]);
  });
});

it('a sqlite queue takes nothing over', async () => {
  const queue = new QueueFixture();
  await assert.rejects(queue.database.journalMark(JOURNAL), /takes nothing over from a journal/);
  await queue.close();
});
