/** What every queue database must do, whatever engine lies below. Run by one test file per driver. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { RelayError } from '../../src/base/errors.ts';
import type { Database, OutboxPlan, QueueFilter, RemovedEntry } from '../../src/database/database.ts';
import { unread as unreadRows } from '../../src/database/outbox-rows.ts';
import { hashOf } from '../../src/mail/begun-slots.ts';
import type { Job } from '../../src/mail/job.ts';
import { QueueIds, queueIdAt } from '../../src/mail/queue-id.ts';
import { SUSPICION } from '../../src/mail/suspicion.ts';
import { CHUNK_BYTES, CONTENT_STATE, CONTENT_UNIT_BYTES } from '../../src/native.ts';
import { bounced, deferred, delivered, type QueueFixture } from '../persistence/fixture.ts';

export interface Driver {
  name: string;
  /** Whether the queue is still there after a restart. */
  survives: boolean;
  /** Why the engine cannot be tried here. */
  skip?: string | false;
  /** Before every test: nothing is left of the one before. */
  prepare?(): Promise<void>;
  open(overrides?: ConstructorParameters<typeof QueueFixture>[0]): QueueFixture;
}

export function databaseConformance(driver: Driver): void {
  describe(`database ${driver.name}`, { skip: driver.skip ?? false }, () => {
    let queue: QueueFixture;
    let db: Database;

    function use(overrides: Parameters<Driver['open']>[0]): void {
      queue = driver.open(overrides);
      db = queue.database;
    }
    const claim = (destination: string, nowMs = 1000, limit = 100, maxRecipients = 1000) =>
      db.claim({ destination, limit, maxRecipients, nowMs, leaseUntilMs: nowMs + 60_000 });
    const states = async (queueId: string): Promise<Record<string, string>> =>
      Object.fromEntries((await db.show(queueId))?.rows.map((row) => [row.destination, row.state]) ?? []);
    const fates = async (queueId: string): Promise<string[]> =>
      (await db.show(queueId))?.recipients.map((r) => r.status) ?? [];

    beforeEach(async () => {
      await driver.prepare?.();
      use({});
    });
    afterEach(async () => {
      await queue.close();
    });

    describe('commit', () => {
      it('stores message, recipients and rows as given', async () => {
        const message = queue.message(['a@one.test', 'b@two.test', 'c@one.test']);
        message.envelope.ret = 'HDRS';
        message.envelope.envid = 'QQ314159';
        message.envelope.submitter = 'e+3Dmc2@x.test';
        (message.envelope.recipients[1] as { orcpt?: string }).orcpt = 'rfc822;b@two.test';
        (message.envelope.recipients[1] as { notify: number }).notify = 6;
        await db.commit(queue.batch({ messages: [queue.plan(message)] }));
        const mail = await db.show(message.queueId);
        assert.equal(mail?.reversePath, 'sender@example.test');
        assert.equal(mail?.trace, message.trace);
        assert.equal(mail?.sizeBytes, message.sizeBytes);
        assert.deepEqual(
          mail?.recipients.map((r) => [r.seq, r.address, r.destination, r.status]),
          [
            [0, 'a@one.test', 'one.test', 'waiting'],
            [1, 'b@two.test', 'two.test', 'waiting'],
            [2, 'c@one.test', 'one.test', 'waiting'],
          ],
        );
        assert.deepEqual(
          mail?.rows.map((r) => [r.destination, r.state, r.waiting, r.attempts]),
          [
            ['one.test', 'PENDING', 2, 0],
            ['two.test', 'PENDING', 1, 0],
          ],
        );
        const [job] = (await claim('two.test')).jobs;
        assert.equal(job?.ret, 'HDRS');
        assert.equal(job?.envid, 'QQ314159');
        assert.equal(job?.submitter, 'e+3Dmc2@x.test');
        assert.deepEqual(job?.recipients, [
          { seq: 1, address: 'b@two.test', notify: 6, orcpt: 'rfc822;b@two.test' },
        ]);
      });

      it('keeps what a message is selected by, and forgets it with the message', async () => {
        const headers = [
          { name: 'x-campaign-id', value: 'März' },
          { name: 'subject', value: 'x'.repeat(1000) },
        ];
        const client = {
          address: '192.0.2.1',
          helo: 'c',
          protocol: 'ESMTPA',
          sessionId: 's',
          user: 'ann',
          listener: 'in',
        };
        const kept = queue.message(['a@one.test'], { message: { messageId: '1@c.test', headers, client } });
        const bare = queue.message(['b@one.test']);
        await db.commit(queue.batch({ messages: [queue.plan(kept), queue.plan(bare)] }));
        const { jobs } = await claim('one.test');
        assert.deepEqual(
          jobs.map(({ messageId, user }) => [messageId, user]),
          [
            ['1@c.test', 'ann'],
            [undefined, undefined],
          ],
        );
        for (const { queueId } of jobs)
          await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] });
        const again = queue.message(['a@one.test'], { message: { queueId: kept.queueId, headers, client } });
        await db.commit(queue.batch({ messages: [queue.plan(again)] }));
        assert.equal((await claim('one.test')).jobs.length, 1, 'no row of the first one stood in the way');
      });

      it('leaves out a message whose session gave up before, and takes its neighbours', async () => {
        const [early, gone, late] = [1, 2, 3].map((n) => queue.message([`u${n}@one.test`]));
        assert.ok(early && gone && late);
        queue.arena.moveState(gone.content, CONTENT_STATE.waiting, CONTENT_STATE.withdrawn);
        const { messages } = await db.commit(
          queue.batch({ messages: [early, gone, late].map((m) => queue.plan(m)) }),
        );
        assert.deepEqual(messages, ['committed', 'withdrawn', 'committed']);
        assert.equal(await db.show(gone.queueId), null);
        assert.equal((await db.stats()).mails, 2);
        assert.equal(
          queue.arena.moveState(early.content, CONTENT_STATE.waiting, CONTENT_STATE.withdrawn),
          false,
          'a session cannot withdraw what is being committed',
        );
      });

      it('takes a message abandoned during its commit away before it can be claimed', async () => {
        const [kept, gone] = [1, 2].map((n) => queue.message([`u${n}@one.test`]));
        assert.ok(kept && gone);
        const { committing, abandoned, committed } = CONTENT_STATE;
        const moveState = queue.arena.moveState.bind(queue.arena);
        queue.arena.moveState = (content, from, to) => {
          const moved = moveState(content, from, to);
          // Its session gives up the moment after the writer took it.
          if (content === gone.content && moved && to === committing)
            moveState(content, committing, abandoned);
          return moved;
        };
        const { messages } = await db.commit(
          queue.batch({ messages: [kept, gone].map((m) => queue.plan(m)) }),
        );
        queue.arena.moveState = moveState;
        assert.deepEqual(messages, ['committed', 'withdrawn']);
        const { jobs } = await claim('one.test');
        assert.deepEqual(
          jobs.map((job) => job.queueId),
          [kept.queueId],
        );
        assert.equal(await db.show(gone.queueId), null);
        assert.equal(
          moveState(kept.content, committing, abandoned),
          false,
          'nobody gives up once the commit is done',
        );
        assert.ok(moveState(kept.content, committed, committed));
      });

      it('deletes a withdrawn message with its rows and content', async () => {
        const kept = await queue.add(['k@one.test']);
        const queueId = await queue.add(['a@one.test', 'b@two.test'], 'SENDING');
        await db.commit(queue.batch({ withdrawals: [queueId, 'unknown00000000'] }));
        assert.equal(await db.show(queueId), null);
        assert.equal(await queue.cat(queueId), null);
        assert.notEqual(await queue.cat(kept), null);
      });

      it('takes no row of a withdrawn message from under an attempt, and all of it afterwards', async () => {
        const queueId = await queue.add(['a@one.test']);
        const other = await queue.add(['b@one.test', 'c@two.test'], 'SENDING');
        const { jobs } = await claim('one.test');
        const job = jobs[0] as Job;
        const withdrawn = await db.commit(queue.batch({ withdrawals: [queueId, other] }));
        assert.deepEqual(withdrawn.withdrawLater, [queueId]);
        assert.equal(await db.show(other), null, 'what its commit leased was not handed out');
        assert.equal((await db.show(queueId))?.rows[0]?.state, 'SENDING');
        const { destination, fence } = job;
        await db.release([{ queueId, destination, fence, reason: 'hand_off_released' }], 1000);
        queue.arena.release(job.content);
        const again = await db.commit(queue.batch({ withdrawals: [queueId] }));
        assert.equal(again.withdrawLater, undefined);
        assert.equal(await db.show(queueId), null);
      });

      it('does all of a batch or nothing', async () => {
        const sending = await queue.add(['s@one.test'], 'SENDING');
        const good = queue.message(['g@one.test']);
        const bad = queue.plan(queue.message(['x@one.test', 'y@one.test']));
        bad.plan = [{ destination: 'one.test', seqs: [0], state: 'PENDING' }];
        const batch = queue.batch({
          messages: [queue.plan(good), bad],
          settlements: [
            {
              queueId: sending,
              destination: 'one.test',
              fence: 1,
              attempts: 1,
              groups: [delivered([0])],
              retryAtMs: null,
              delayNotified: false,
            },
          ],
        });
        await assert.rejects(
          db.commit(batch),
          (error: RelayError) => error.code === 'database_refused' && !error.temporary,
        );
        assert.equal(await db.show(good.queueId), null);
        assert.deepEqual(await states(sending), { 'one.test': 'SENDING' });
        assert.equal(await db.fate(batch.token), null);
        await db.commit(queue.batch({ messages: [queue.plan(good)] }));
        assert.match(
          (await queue.cat(good.queueId)) ?? '',
          /content of/,
          'and a message of the failed batch can be committed again',
        );
      });

      it('refuses a message whose size is not that of its content', async () => {
        const message = queue.message(['a@one.test'], { message: { sizeBytes: 7 } });
        await assert.rejects(db.commit(queue.batch({ messages: [queue.plan(message)] })), {
          code: 'database_refused',
        });
      });

      it('refuses a queue id that is there', async () => {
        const message = queue.message(['a@one.test']);
        const { queueId } = message;
        const other = queue.message(['a@one.test'], { message: { queueId, sizeBytes: message.sizeBytes } });
        await db.commit(queue.batch({ messages: [queue.plan(message)] }));
        await assert.rejects(db.commit(queue.batch({ messages: [queue.plan(other)] })), {
          code: 'database_refused',
        });
      });

      it('tells the fate of the newest batch and of no other', async () => {
        const gone = queue.message(['a@one.test']);
        queue.arena.moveState(gone.content, CONTENT_STATE.waiting, CONTENT_STATE.withdrawn);
        const first = queue.batch({
          messages: [queue.plan(queue.message(['b@one.test'])), queue.plan(gone)],
        });
        const result = await db.commit(first);
        assert.deepEqual(await db.fate(first.token), result);
        const second = queue.batch({ messages: [queue.plan(queue.message(['c@one.test']))] });
        await db.commit(second);
        assert.equal(await db.fate(first.token), null);
        assert.deepEqual(await db.fate(second.token), { messages: ['committed'], settlements: [] });
      });

      it('commits a DSN only when its settlement is accepted', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        const settlement = {
          queueId,
          destination: 'one.test',
          attempts: 1,
          groups: [bounced([0])],
          retryAtMs: null,
          delayNotified: false,
        };
        const stale = queue.message(['sender@example.test']);
        const rejected = await db.commit(
          queue.batch({
            settlements: [{ ...settlement, fence: 9 }],
            messages: [{ ...queue.plan(stale), settlement: 0 }],
          }),
        );
        assert.deepEqual(rejected, { messages: ['withdrawn'], settlements: [false] });
        assert.equal(await db.show(stale.queueId), null);
        const dsn = queue.message(['sender@example.test']);
        const accepted = await db.commit(
          queue.batch({
            settlements: [{ ...settlement, fence: 1 }],
            messages: [{ ...queue.plan(dsn), settlement: 0 }],
          }),
        );
        assert.deepEqual(accepted, { messages: ['committed'], settlements: [true] });
        assert.notEqual(await db.show(dsn.queueId), null);
      });
    });

    describe('claim', () => {
      it('leases due rows of the destination, earliest first, content loaded', async () => {
        const later = await queue.add(['l@one.test']);
        const sooner = await queue.add(['s@one.test']);
        await queue.add(['o@two.test']);
        await db.operate('flush', { ids: [later] }, 5000);
        const { jobs, nextDueMs, short } = await claim('one.test', 6000);
        assert.deepEqual(
          jobs.map((job) => job.queueId),
          [sooner, later],
        );
        assert.deepEqual([nextDueMs, short], [null, false]);
        assert.equal(
          queue.arena.bytes(jobs[0]?.content as number).toString(),
          `Subject: test\r\n\r\ncontent of ${sooner}\r\n`,
        );
        assert.equal(jobs[0]?.fence, 1);
        assert.deepEqual(await states(sooner), { 'one.test': 'SENDING' });
        assert.deepEqual((await claim('one.test', 6000)).jobs, []);
      });

      it('leaves rows that are not due, and says when the next one is', async () => {
        const queueId = await queue.add(['a@one.test']);
        await db.operate('flush', { ids: [queueId] }, 9000);
        const { jobs, nextDueMs, short } = await claim('one.test', 8999);
        assert.deepEqual({ jobs, nextDueMs, short }, { jobs: [], nextDueMs: 9000, short: false });
      });

      it('brings of a destination only what was received before a time, where that is asked', async () => {
        const messages = [1_000_000, 2_000_000].map((ms) => {
          const message = queue.message(['a@one.test']);
          message.queueId = `${queueIdAt(ms)}0000000`;
          return message;
        });
        await db.commit(queue.batch({ messages: messages.map((message) => queue.plan(message)) }));
        const ask = {
          destination: 'one.test',
          limit: 10,
          maxRecipients: 10,
          nowMs: 1000,
          leaseUntilMs: 61_000,
        };
        const before = await db.claim({ ...ask, receivedBeforeMs: 2_000_000 });
        assert.deepEqual(
          before.jobs.map(({ queueId }) => queueId),
          [messages[0]?.queueId],
        );
        assert.deepEqual((await db.claim({ ...ask, receivedBeforeMs: 2_000_000 })).jobs, []);
        assert.equal((await db.claim({ ...ask, receivedBeforeMs: 2_000_001 })).jobs.length, 1);
        assert.equal(messages[0]?.queueId.length, 16);
      });

      it('keeps to the limits of rows and recipients, but claims one row however large', async () => {
        for (let i = 0; i < 4; i++) await queue.add([`a${i}@one.test`, `b${i}@one.test`, `c${i}@one.test`]);
        assert.equal((await claim('one.test', 1000, 10, 2)).jobs.length, 1);
        assert.equal((await claim('one.test', 1000, 10, 6)).jobs.length, 2);
        const last = await claim('one.test', 1000, 10, 6);
        assert.equal(last.jobs.length, 1);
        assert.equal(last.nextDueMs, null);
      });

      it('says so when the arena is full, and leases nothing it cannot load', async () => {
        for (let i = 0; i < 3; i++) await queue.add([`a${i}@one.test`]);
        const hoard: number[] = [];
        for (const size of [CHUNK_BYTES, 1])
          while (queue.arena.freeBytes() > size + CONTENT_UNIT_BYTES)
            hoard.push(queue.arena.store(Buffer.alloc(size)));
        const first = await claim('one.test');
        assert.equal(first.jobs.length, 1);
        assert.deepEqual([first.short, first.nextDueMs], [true, 1000]);
        for (const content of hoard) queue.arena.release(content);
        assert.equal((await claim('one.test')).jobs.length, 2);
      });

      it('hands out only the recipients that still wait', async () => {
        const queueId = await queue.add(['a@one.test', 'b@one.test', 'c@one.test'], 'SENDING');
        await queue.settle({
          queueId,
          destination: 'one.test',
          groups: [delivered([1]), deferred([0, 2])],
          retryAtMs: 2000,
        });
        const { jobs } = await claim('one.test', 2000);
        assert.deepEqual(
          jobs[0]?.recipients.map((r) => r.seq),
          [0, 2],
        );
        assert.equal(jobs[0]?.attempts, 1);
        assert.equal(jobs[0]?.fence, 2);
      });

      it('reads back interleaved recipients of many destinations', async () => {
        const addresses = Array.from({ length: 200 }, (_, i) => `u${i}@d${i % 2}.test`);
        await queue.add(addresses);
        const { jobs } = await claim('d1.test');
        assert.deepEqual(
          jobs[0]?.recipients.map((r) => r.address),
          addresses.filter((_, i) => i % 2 === 1),
        );
      });

      it('has nothing for held rows', async () => {
        await queue.add(['a@one.test'], 'HELD');
        const { jobs, nextDueMs, short } = await claim('one.test');
        assert.deepEqual({ jobs, nextDueMs, short }, { jobs: [], nextDueMs: null, short: false });
        assert.deepEqual(await db.backlog(), []);
      });
    });

    describe('settle', () => {
      it('drops a message at once when all of it is delivered', async () => {
        const queueId = await queue.add(['a@one.test', 'b@one.test'], 'SENDING');
        assert.equal(
          await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0, 1])] }),
          true,
        );
        assert.equal(await db.show(queueId), null);
        const { mails, contentBytes } = await db.stats();
        assert.deepEqual([mails, contentBytes], [0, 0]);
      });

      it('keeps a message until the last of its destinations is settled', async () => {
        const queueId = await queue.add(['a@one.test', 'b@two.test', 'c@three.test'], 'SENDING');
        await queue.settle({ queueId, destination: 'two.test', groups: [delivered([1])] });
        assert.deepEqual(await states(queueId), {
          'one.test': 'SENDING',
          'two.test': 'SENT',
          'three.test': 'SENDING',
        });
        assert.deepEqual(await fates(queueId), ['waiting', 'delivered', 'waiting']);
        await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] });
        await queue.settle({ queueId, destination: 'three.test', groups: [delivered([2])] });
        assert.equal(await db.show(queueId), null);
      });

      it('keeps what bounced as DEAD with its content, until its time is over', async () => {
        const queueId = await queue.add(['a@one.test', 'b@two.test'], 'SENDING');
        await queue.settle({ queueId, destination: 'one.test', groups: [bounced([0])] });
        await queue.settle({ queueId, destination: 'two.test', groups: [delivered([1])] });
        assert.deepEqual(await states(queueId), { 'one.test': 'DEAD', 'two.test': 'SENT' });
        assert.match((await queue.cat(queueId)) ?? '', /content of/);
        const mail = await db.show(queueId);
        assert.deepEqual(
          [mail?.recipients[0]?.reason, mail?.recipients[0]?.detail],
          [bounced([0]).reason, bounced([0]).detail],
        );
        const { keep_failed_ms } = queue.config.queue;
        assert.equal(await db.purge(1000 + keep_failed_ms - 1, 100), 0);
        assert.equal(await db.purge(1000 + keep_failed_ms, 100), 1);
        assert.equal(await db.show(queueId), null);
        assert.equal(await queue.cat(queueId), null);
      });

      it('keeps what was delivered for keep_delivered_ms when asked to', async () => {
        await queue.close();
        use({ queue: { keep_delivered_ms: 5000 } });
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] });
        assert.deepEqual(await states(queueId), { 'one.test': 'SENT' });
        assert.deepEqual(await fates(queueId), ['delivered']);
        assert.equal(await db.purge(5999, 100), 0);
        assert.equal(await db.purge(6000, 100), 1);
      });

      it('drops DEAD rows at once when they are not kept', async () => {
        await queue.close();
        use({ queue: { keep_failed_ms: 0 } });
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        await queue.settle({ queueId, destination: 'one.test', groups: [bounced([0])] });
        assert.equal(await db.show(queueId), null);
      });

      it('puts deferred recipients back with their reason and due time', async () => {
        const queueId = await queue.add(['a@one.test', 'b@one.test', 'c@one.test'], 'SENDING');
        await queue.settle({
          queueId,
          destination: 'one.test',
          groups: [bounced([0]), delivered([1]), deferred([2])],
          retryAtMs: 7000,
          attempts: 3,
          delayNotified: true,
        });
        const mail = await db.show(queueId);
        const [row] = mail?.rows ?? [];
        assert.deepEqual(
          [row?.state, row?.nextAttemptMs, row?.attempts, row?.waiting, row?.reason, row?.detail],
          ['RETRY', 7000, 3, 1, 'peer_4xx', deferred([2]).detail],
        );
        assert.deepEqual(await fates(queueId), ['bounced', 'delivered', 'waiting']);
        assert.deepEqual(await db.backlog(), [{ destination: 'one.test', rows: 1, nextDueMs: 7000 }]);
        const { jobs } = await claim('one.test', 7000);
        assert.equal(jobs[0]?.delayNotified, true);
        await queue.settle({ queueId, destination: 'one.test', fence: 2, groups: [delivered([2])] });
        assert.deepEqual(await states(queueId), { 'one.test': 'DEAD' }, 'the earlier bounce is remembered');
      });

      it('rejects a result with a stale fencing number, or for a row that is not being sent', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        const settlement = { queueId, destination: 'one.test', groups: [delivered([0])] };
        assert.equal(await queue.settle({ ...settlement, fence: 2 }), false);
        await db.release([{ queueId, destination: 'one.test', fence: 1, reason: 'shutdown' }], 1000);
        assert.equal(await queue.settle({ ...settlement, fence: 1 }), false);
        await claim('one.test');
        assert.equal(await queue.settle({ ...settlement, fence: 1 }), false, 'the lease before');
        assert.equal(await queue.settle({ ...settlement, fence: 2 }), true);
        assert.equal(await queue.settle({ ...settlement, fence: 2 }), false, 'twice');
      });

      it('settles 10,000 recipients of one message with one outcome', async () => {
        const addresses = Array.from({ length: 10_000 }, (_, i) => `u${i}@one.test`);
        const seqs = [...addresses.keys()];
        const queueId = await queue.add(addresses, 'SENDING');
        await queue.settle({ queueId, destination: 'one.test', groups: [deferred(seqs)], retryAtMs: 1500 });
        const { jobs } = await claim('one.test', 1500);
        assert.equal(jobs[0]?.recipients.length, 10_000);
        assert.equal(jobs[0]?.recipients[9999]?.address, 'u9999@one.test');
        await queue.settle({
          queueId,
          destination: 'one.test',
          fence: 2,
          groups: [bounced(seqs.slice(0, 1)), delivered(seqs.slice(1))],
        });
        const fate = await fates(queueId);
        assert.equal(fate[0], 'bounced');
        assert.equal(fate.filter((f) => f === 'delivered').length, 9999);
      });
    });

    describe('leases', () => {
      const due = async (nowMs: number): Promise<string[]> =>
        (await db.due(nowMs)).map(({ destination }) => destination);

      it('a row whose lease ended is due again, and the late result is rejected', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        const row = { queueId, destination: 'one.test' };
        assert.deepEqual(await due(60_999), []);
        assert.equal(await db.renew([row], 90_000), 1);
        assert.deepEqual(await due(89_999), [], 'renewed in time');
        assert.deepEqual((await claim('one.test', 89_999)).jobs, []);
        assert.deepEqual(await due(90_000), ['one.test']);
        const { jobs } = await claim('one.test', 90_000);
        assert.equal(jobs[0]?.fence, 2);
        assert.equal(await queue.settle({ ...row, groups: [delivered([0])], fence: 1 }), false);
        assert.equal(await queue.settle({ ...row, groups: [delivered([0])], fence: 2 }), true);
      });

      it('only rows being sent are renewed', async () => {
        const [waiting, sending] = [
          await queue.add(['a@one.test']),
          await queue.add(['b@one.test'], 'SENDING'),
        ];
        const rows = [waiting, sending, 'unknown00000000'].map((queueId) => ({
          queueId,
          destination: 'one.test',
        }));
        assert.equal(await db.renew(rows, 90_000), 1);
        assert.equal(await db.renew([], 90_000), 0);
        // Of two messages for two destinations each, some: the others neither count nor change.
        const one = await queue.add(['a@one.test', 'a@two.test'], 'SENDING');
        const two = await queue.add(['a@one.test', 'a@two.test'], 'SENDING');
        const settled = { queueId: two, destination: 'two.test', groups: [delivered([1])], fence: 1 };
        assert.equal(await queue.settle(settled), true);
        const some = [
          { queueId: one, destination: 'one.test' },
          { queueId: two, destination: 'two.test' },
        ];
        assert.equal(await db.renew(some, 95_000), 1, 'one is not ours any more');
        assert.deepEqual(
          (await due(94_999)).sort(),
          ['one.test', 'two.test'],
          'what was not asked for is not renewed',
        );
        assert.equal((await claim('one.test')).jobs[0]?.queueId, waiting, 'what waits is still due');
      });
    });

    describe('release', () => {
      it('gives a row back, due at once, only to the fence that holds it', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        await db.release([{ queueId, destination: 'one.test', fence: 7, reason: 'shutdown' }], 2000);
        assert.deepEqual(await states(queueId), { 'one.test': 'SENDING' });
        await db.release([{ queueId, destination: 'one.test', fence: 1, reason: 'hand_off_released' }], 2000);
        const row = (await db.show(queueId))?.rows[0];
        assert.deepEqual(
          [row?.state, row?.nextAttemptMs, row?.reason],
          ['PENDING', 2000, 'hand_off_released'],
        );
      });
    });

    describe('backlog, list, stats', () => {
      it('counts waiting rows by destination with the earliest due time', async () => {
        const [first] = [
          await queue.add(['a@one.test']),
          await queue.add(['b@one.test']),
          await queue.add(['c@two.test']),
        ];
        await queue.add(['d@three.test'], 'SENDING');
        await db.operate('flush', { ids: [first] }, 400);
        assert.deepEqual(
          (await db.backlog()).sort((a, b) => a.destination.localeCompare(b.destination)),
          [
            { destination: 'one.test', rows: 2, nextDueMs: 400 },
            { destination: 'two.test', rows: 1, nextDueMs: 1000 },
          ],
        );
      });

      it('lists by page and filter, never parting the rows of a mail', async () => {
        const ids = [
          await queue.add(['a@one.test', 'b@two.test']),
          await queue.add(['Carol@one.test'], 'HELD'),
          await queue.add(['d@three.test'], 'PENDING', {
            message: {
              envelope: {
                reversePath: '',
                body: '7BIT',
                smtpUtf8: false,
                recipients: [{ address: 'd@three.test', domain: 'three.test', class: 'external', notify: 0 }],
              },
            },
          }),
        ];
        const names = async (filter: Partial<QueueFilter>): Promise<string[]> =>
          (await db.list({ limit: 100, ...filter })).map((r) => r.queueId);
        assert.deepEqual(await names({}), [ids[0], ids[0], ids[1], ids[2]]);
        assert.deepEqual(await names({ limit: 1 }), [ids[0], ids[0]]);
        assert.deepEqual(await names({ limit: 1, afterQueueId: ids[0] ?? '' }), [ids[1]]);
        assert.deepEqual(await names({ afterQueueId: ids[2] ?? '' }), []);
        assert.deepEqual(await names({ selection: { states: ['HELD'] } }), [ids[1]]);
        assert.deepEqual(await names({ selection: { destinations: ['two.test'] } }), [ids[0]]);
        assert.deepEqual(await names({ selection: { senders: [''] } }), [ids[2]]);
        assert.deepEqual(await names({ selection: { recipients: ['carol@ONE.test'] } }), [ids[1]]);
        assert.deepEqual(await names({ selection: { recipients: ['nobody@one.test'] } }), []);
      });

      it('sums states, mails and content', async () => {
        const failed = await queue.add(['x@one.test', 'y@one.test'], 'SENDING', {
          message: { receivedAtMs: 1 },
        });
        await queue.settle({ queueId: failed, destination: 'one.test', groups: [bounced([0, 1])] });
        await queue.add(['a@one.test', 'b@two.test'], 'PENDING', { message: { receivedAtMs: 5 } });
        await queue.add(['c@one.test', 'e@one.test'], 'HELD');
        await queue.add(['d@one.test'], 'SENDING');
        const stats = await db.stats();
        assert.deepEqual(stats.rows, { PENDING: 2, SENDING: 1, SENT: 0, RETRY: 0, DEAD: 1, HELD: 1 });
        assert.deepEqual(stats.messages, { PENDING: 1, SENDING: 1, SENT: 0, RETRY: 0, DEAD: 1, HELD: 1 });
        assert.deepEqual(stats.recipients, { PENDING: 2, SENDING: 1, SENT: 0, RETRY: 0, DEAD: 2, HELD: 2 });
        assert.deepEqual([stats.mails, stats.oldestMs], [4, 5], 'the oldest that waits');
        assert.equal(
          stats.contentBytes,
          4 * Buffer.byteLength('Subject: test\r\n\r\ncontent of 06dk00000000000\r\n'),
        );
        assert.deepEqual(
          stats.destinations.map((one) => [one.destination, one.entries, one.recipients, one.states]),
          [
            ['one.test', 3, 4, [1, 1, 0, 2]],
            ['two.test', 1, 1, [1, 0, 0, 0]],
          ],
          'the biggest first',
        );
        assert.equal(stats.destinations[1]?.nextDueMs, 1000);
      });

      it('counts recipients by the age of their message, over any number of entries', async () => {
        const ids = new QueueIds(0, 0, () => at);
        let at = Date.now() - 3 * 86_400_000;
        const many = Array.from({ length: 6000 }, (_, i) => `u@d${i % 5999}.test`);
        const nowMs = Date.now();
        for (const minutes of [2000, 1000, 30, 4, 1]) {
          at = nowMs - minutes * 60_000;
          const queueId = ids.next();
          await queue.add(minutes === 30 ? many : ['a@d0.test'], 'PENDING', { message: { queueId } });
        }
        const stats = await db.stats();
        const [first] = stats.destinations;
        assert.deepEqual([first?.destination, first?.ages], ['d0.test', [2, 0, 0, 2, 0, 0, 0, 0, 1, 1]]);
        assert.equal(stats.destinations.length, 1000);
        assert.deepEqual(
          [stats.other.destinations, stats.other.recipients, stats.other.ages[3], stats.other.mayLack],
          [4999, 4999, 4999, 0],
        );
        assert.equal(stats.recipients.PENDING, 6004);
      });

      it('knows nothing of a queue id that is not there', async () => {
        assert.equal(await db.show('06dk0000000zzzz'), null);
        assert.equal(await db.content('06dk0000000zzzz', 0, 10), null);
      });

      it('reads trace and content as one stream', async () => {
        const queueId = await queue.add(['a@one.test']);
        assert.equal(
          await queue.cat(queueId),
          `Received: by relay.example.test id ${queueId}\r\nSubject: test\r\n\r\ncontent of ${queueId}\r\n`,
        );
      });
    });

    describe('operate', () => {
      it('holds, releases and retries by queue id, destination, or all', async () => {
        const [one, two] = [await queue.add(['a@one.test']), await queue.add(['b@two.test'])];
        const held = await db.operate('hold', {}, 2000);
        assert.equal(held.rows, 2);
        assert.deepEqual(
          held.changes.map((change) => change.rows),
          [-1, -1],
        );
        assert.equal((await claim('one.test', 9000)).jobs.length, 0);
        assert.equal((await db.operate('flush', {}, 2000)).rows, 0, 'flush leaves held rows alone');
        const released = await db.operate('release', { destinations: ['one.test'] }, 3000);
        assert.deepEqual(released.changes, [{ destination: 'one.test', rows: 1 }]);
        assert.deepEqual(
          [await states(one), await states(two)],
          [{ 'one.test': 'PENDING' }, { 'two.test': 'HELD' }],
        );
        assert.equal((await db.operate('release', { ids: [two] }, 3000)).rows, 1);
      });

      it('holds what rules hold, and remembers which of them it was released from', async () => {
        const settled = async (queueId: string, ...groups: { seqs: number[]; detail: string }[]) => {
          const all = groups.map(({ seqs, detail }) => ({
            seqs,
            kind: 'deferred' as const,
            reason: 'held_by_rule',
            detail,
          }));
          await queue.settle({ queueId, destination: 'one.test', groups: all, retryAtMs: null });
        };
        const queueId = await queue.add(['a@one.test', 'b@one.test'], 'SENDING');
        await settled(queueId, { seqs: [0], detail: 'rule look' }, { seqs: [1], detail: 'rule twice' });
        const row = (await db.show(queueId))?.rows[0];
        assert.deepEqual(
          [row?.state, row?.reason, row?.detail],
          ['HELD', 'held_by_rule', 'rule look, rule twice'],
        );
        assert.equal((await claim('one.test', 9000)).jobs.length, 0);
        assert.equal((await db.operate('release', { ids: [queueId] }, 3000)).rows, 1);
        const [job] = (await claim('one.test', 9000)).jobs;
        assert.equal(job?.operatorText, 'rule look, rule twice');
        queue.arena.release(job?.content ?? 0);
      });

      it('says how many recipients are due before an entry', async () => {
        const ids = [await queue.add(['a@one.test', 'b@one.test']), await queue.add(['c@two.test'])];
        const last = await queue.add(['d@one.test']);
        await db.operate('flush', { ids: [last] }, 5000);
        const before = async (queueId: string) => (await db.show(queueId))?.before;
        assert.deepEqual(await before(last), { 'one.test': 2 });
        assert.deepEqual(
          [await before(ids[0] as string), await before(ids[1] as string)],
          [{ 'one.test': 0 }, { 'two.test': 0 }],
        );
        await db.operate('hold', { ids: [ids[0] as string] }, 5000);
        assert.deepEqual(await before(last), { 'one.test': 0 });
        assert.deepEqual(await before(ids[0] as string), {});
      });

      it('wakes rows whose content could not be read, and no others', async () => {
        const deferredRow = async (reason: string): Promise<string> => {
          const queueId = await queue.add([`${reason}@one.test`], 'SENDING');
          const group = { ...deferred([0]), reason };
          await queue.settle({
            queueId,
            destination: 'one.test',
            groups: [group as ReturnType<typeof deferred>],
            retryAtMs: 70_000,
          });
          return queueId;
        };
        const [unread, held, other] = [
          await deferredRow('content_unavailable'),
          await deferredRow('content_unavailable'),
          await deferredRow('peer_4xx'),
        ];
        await db.operate('hold', { ids: [held] }, 2000);
        assert.equal((await db.operate('release', unreadRows(3000), 3000)).rows, 0, 'an operator holds it');
        const { rows, changes } = await db.operate('flush', unreadRows(3000), 3000);
        assert.deepEqual([rows, changes], [1, [{ destination: 'one.test', rows: 0 }]]);
        assert.equal((await db.operate('flush', unreadRows(3000), 3000)).rows, 0, 'it is due');
        assert.deepEqual(
          (await claim('one.test', 3000)).jobs.map((job) => job.queueId),
          [unread],
        );
        assert.deepEqual(await states(other), { 'one.test': 'RETRY' });
      });

      it('leaves rows that are being sent alone', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        for (const action of ['flush', 'hold', 'release', 'delete'] as const)
          assert.equal((await db.operate(action, { ids: [queueId] }, 2000)).rows, 0, action);
        assert.equal(
          await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] }),
          true,
        );
      });

      it('deletes a row: its waiting recipients are removed, the mail goes with the last row', async () => {
        const message = { messageId: '1@c.test' };
        const queueId = await queue.add(['a@one.test', 'b@two.test', 'c@one.test'], 'PENDING', { message });
        const { jobs } = await claim('two.test');
        const removed: RemovedEntry[] = [];
        await db.operate('delete', { ids: [queueId] }, 2000, (part) => removed.push(...part.removed));
        const reversePath = 'sender@example.test';
        const recipients = ['a@one.test', 'c@one.test'];
        assert.deepEqual(removed, [
          { queueId, destination: 'one.test', reversePath, messageId: '1@c.test', recipients },
        ]);
        assert.deepEqual(await fates(queueId), ['removed', 'waiting', 'removed']);
        assert.equal(
          await queue.settle({
            queueId,
            destination: 'two.test',
            fence: jobs[0]?.fence as number,
            groups: [delivered([1])],
          }),
          true,
        );
        assert.equal(await db.show(queueId), null);
      });

      it('deletes DEAD rows without removing anybody twice', async () => {
        const queueId = await queue.add(['a@one.test'], 'SENDING');
        await queue.settle({ queueId, destination: 'one.test', groups: [bounced([0])] });
        const removed: RemovedEntry[] = [];
        const result = await db.operate('delete', {}, 2000, (part) => removed.push(...part.removed));
        assert.deepEqual([result.rows, removed], [1, []]);
        assert.equal((await db.stats()).mails, 0);
      });
    });

    describe('operate on messages that are named', () => {
      it('changes all their rows, counts those being sent, and says which messages were changed', async () => {
        const two = await queue.add(['a@one.test', 'b@two.test']);
        const sending = await queue.add(['c@one.test'], 'SENDING');
        const other = await queue.add(['d@one.test']);
        const queueIds = [sending, two, '0123456789abcdef', two];
        const held = await db.operate('hold', { ids: queueIds }, 2000);
        assert.deepEqual([held.rows, held.sending, held.queueIds], [2, 1, [two]]);
        assert.deepEqual(new Map(held.changes.map((c) => [c.destination, c.rows])), new Map([['one.test', -1], ['two.test', -1]])); // biome-ignore format: one line
        assert.deepEqual([await states(two), await states(other)], [{ 'one.test': 'HELD', 'two.test': 'HELD' }, { 'one.test': 'PENDING' }]); // biome-ignore format: one line
        const released = await db.operate('release', { ids: queueIds }, 2000);
        assert.deepEqual(new Map(released.changes.map((c) => [c.destination, c.rows])), new Map([['one.test', 1], ['two.test', 1]])); // biome-ignore format: one line
        const removed: RemovedEntry[] = [];
        const gone = await db.operate('delete', { ids: queueIds }, 2000, (part) =>
          removed.push(...part.removed),
        );
        assert.deepEqual([gone.rows, gone.sending], [2, 1]);
        assert.deepEqual(
          removed.map(({ queueId, destination, recipients }) => [queueId, destination, recipients]),
          [
            [two, 'one.test', ['a@one.test']],
            [two, 'two.test', ['b@two.test']],
          ],
        );
        assert.equal((await db.operate('flush', { ids: [] }, 2000)).rows, 0);
      });

      it('goes on behind a slice that ends within a mail', async () => {
        const many = Array.from({ length: 1500 }, (_, i) => `u@d${String(i).padStart(4, '0')}.test`);
        const [first, second] = [await queue.add(many), await queue.add(['a@one.test'])];
        const held = await db.operate('hold', { ids: [second, first] }, 2000);
        assert.deepEqual([held.rows, held.queueIds.sort()], [1501, [first, second]]);
      });
    });

    describe('purge', () => {
      it('keeps the newest of what failed, as many and as much as fit', async () => {
        const fail = async (nowMs: number, lengthBytes: number): Promise<string> => {
          const content = Buffer.alloc(lengthBytes, 'x');
          const message = queue.message(['a@one.test'], { content });
          await db.commit(queue.batch({ messages: [queue.plan(message, 'SENDING')] }));
          const { queueId } = message;
          await queue.settle({ queueId, destination: 'one.test', groups: [bounced([0])] }, nowMs);
          return queueId;
        };
        const ids: string[] = [];
        for (const [nowMs, bytes] of [
          [1000, 10],
          [1000, 20],
          [1000, 30],
          [3000, 40],
          [2000, 50],
        ] as const)
          ids.push(await fail(nowMs, bytes));
        const left = async (): Promise<number[]> => {
          const rows = await db.list({ limit: 10 });
          return rows.map(({ queueId }) => ids.indexOf(queueId));
        };
        assert.equal(await db.purge(4000, 10, { messages: 5, bytes: 150 }), 0, 'all have room');
        assert.equal(await db.purge(6000, 10, { messages: 4, bytes: 1000 }), 1);
        assert.deepEqual(await left(), [1, 2, 3, 4], 'of those that failed at once, the older id');
        assert.equal(await db.purge(8000, 10, { messages: 4, bytes: 119 }), 2);
        assert.deepEqual(await left(), [3, 4]);
        assert.equal(await db.purge(10_000, 1, { messages: 1, bytes: 1000 }), 1);
        assert.deepEqual(await left(), [3]);
      });

      it('drops at most so many mails a call', async () => {
        for (let i = 0; i < 5; i++) {
          const queueId = await queue.add([`a${i}@one.test`], 'SENDING');
          await queue.settle({ queueId, destination: 'one.test', groups: [bounced([0])] });
        }
        const late = 1000 + queue.config.queue.keep_failed_ms;
        assert.deepEqual(
          [await db.purge(late, 3), await db.purge(late, 3), await db.purge(late, 3)],
          [3, 2, 0],
        );
      });
    });

    if (driver.survives) recovery();

    function recovery(): void {
      describe('recover', () => {
        const restart = async (
          overrides?: Parameters<Driver['open']>[0],
        ): Promise<Awaited<ReturnType<Database['recover']>>> => {
          await queue.restart(overrides);
          db = queue.database;
          return db.recover(8000);
        };

        it('gives back what was being sent, and keeps the rest as it was', async () => {
          const sending = await queue.add(['a@one.test'], 'SENDING');
          const held = await queue.add(['b@one.test'], 'HELD');
          const found = await restart();
          assert.deepEqual(found, { released: 1, rekeyed: 0, newestQueueId: held });
          const row = (await db.show(sending))?.rows[0];
          assert.deepEqual([row?.state, row?.nextAttemptMs], ['PENDING', 8000]);
          assert.deepEqual(await states(held), { 'one.test': 'HELD' });
          assert.equal(
            (await claim('one.test', 8000)).jobs[0]?.fence,
            2,
            'the fence of the life before is over',
          );
        });

        it('sets aside what was out alone when the process died, and nothing that was there besides', async () => {
          await db.recover(0);
          const begun = (queueId: string, fence: number) => ({ queueId, hash: hashOf('one.test'), fence });
          /** Whether those that are suspects are held. */
          const died = async (fences: Record<string, number>): Promise<Record<string, boolean>> => {
            await queue.restart();
            db = queue.database;
            const rows = Object.entries(fences).map(([queueId, fence]) => begun(queueId, fence));
            const suspected = await db.suspect(rows, 8000);
            await db.recover(8000);
            return Object.fromEntries(suspected.map(({ queueId, held }) => [queueId, held]));
          };
          const guilty = await queue.add(['a@one.test', 'b@two.test'], 'SENDING');
          const innocent = await queue.add(['b@one.test'], 'SENDING');
          const waited = await queue.add(['c@one.test'], 'SENDING');
          const claimed = async (): Promise<(number | undefined)[]> => {
            const { jobs } = await claim('one.test', 8000);
            const found = new Map(jobs.map((job) => [job.queueId, job.suspicion]));
            return [guilty, innocent, waited, settled].map((queueId) => found.get(queueId));
          };
          const settled = await queue.add(['d@one.test'], 'SENDING');
          const first = { [guilty]: 1, [innocent]: 1, [settled]: 1 };
          const notHeld = { [guilty]: false, [innocent]: false, [settled]: false };
          assert.deepEqual(await died(first), notHeld);
          assert.deepEqual(await claimed(), [
            SUSPICION.suspect,
            SUSPICION.suspect,
            undefined,
            SUSPICION.suspect,
          ]);
          const settle = { destination: 'one.test', attempts: 1, groups: [deferred([0])], retryAtMs: 8000 };
          await queue.settle({ ...settle, queueId: settled, fence: 2 });
          const out = (queueId: string, fence: number, suspicion: number) => ({
            queueId,
            destination: 'one.test',
            fence,
            suspicion,
          });
          // One that has been out alone for long, and one that is now; an older lease's word counts for nothing.
          const { alone, suspect } = SUSPICION;
          await db.markSuspects([out(innocent, 2, alone), out(waited, 1, alone)]);
          await db.markSuspects([out(innocent, 2, suspect), out(guilty, 2, alone)]);
          // A number of an older lease, a row that was settled since, another destination of the mail: none of these.
          assert.deepEqual(await died({ [guilty]: 2, [innocent]: 2, [waited]: 3, [settled]: 2 }), {
            [guilty]: true,
            [innocent]: false,
          });
          assert.deepEqual(await states(guilty), { 'one.test': 'HELD', 'two.test': 'PENDING' });
          const row = (await db.show(guilty))?.rows[0];
          assert.equal(row?.reason, 'suspected_poison');
          assert.equal((await db.stats()).suspectedPoison, 1);
          assert.deepEqual(await claimed(), [undefined, SUSPICION.suspect, undefined, undefined]);
          await db.operate('release', { ids: [guilty] }, 8000);
          assert.equal((await db.stats()).suspectedPoison, 0);
          const again = (await claim('one.test', 8000)).jobs.find(({ queueId }) => queueId === guilty);
          assert.equal(again?.suspicion, undefined);
          assert.equal(again?.fence, 3);
        });

        it('knows nothing of a message that was never committed', async () => {
          const found = await restart();
          assert.deepEqual(found, { released: 0, rekeyed: 0, newestQueueId: null });
        });

        it('keys rows anew whose domain was stored as it was written', async () => {
          await db.recover(0);
          const queueId = await queue.add(['a@B\u00fccher.test', 'b@xn--bcher-kva.test', 'c@other.test']);
          const hop = { host: '127.0.0.1', port: 2526 };
          await restart({ delivery: { routes: { 'b\u00fccher.test': hop } } });
          const rows = (await db.show(queueId))?.rows.map((r) => [r.destination, r.waiting]);
          assert.deepEqual(rows, [
            ['other.test', 1],
            ['xn--bcher-kva.test', 2],
          ]);
        });

        it('joins the rows of a mail when a smarthost comes', async () => {
          await db.recover(0);
          const queueId = await queue.add(['a@one.test', 'b@two.test', 'c@routed.test']);
          const { jobs } = await claim('two.test');
          await queue.settle({
            queueId,
            destination: 'two.test',
            fence: jobs[0]?.fence as number,
            groups: [deferred([1])],
            retryAtMs: 500,
            attempts: 4,
          });
          const smarthost = { host: '127.0.0.1', port: 2526 };
          const found = await restart({ delivery: { smarthost, routes: { 'routed.test': smarthost } } });
          assert.equal(found.rekeyed, 2);
          const rows = (await db.show(queueId))?.rows.map((r) => [
            r.destination,
            r.waiting,
            r.attempts,
            r.nextAttemptMs,
          ]);
          assert.deepEqual(rows, [
            ['routed.test', 1, 0, 1000],
            ['smarthost', 2, 4, 500],
          ]);
          const again = await claim('smarthost');
          assert.deepEqual(
            again.jobs[0]?.recipients.map((r) => r.seq),
            [0, 1],
          );
          await queue.settle({
            queueId,
            destination: 'smarthost',
            fence: again.jobs[0]?.fence as number,
            groups: [delivered([0, 1])],
          });
          const last = await claim('routed.test');
          await queue.settle({
            queueId,
            destination: 'routed.test',
            fence: last.jobs[0]?.fence as number,
            groups: [delivered([2])],
          });
          assert.equal(await db.show(queueId), null, 'open rows were counted anew');
        });

        it('parts them again when the smarthost goes, and leaves settled recipients where they were', async () => {
          await queue.close();
          const smarthost = { host: '127.0.0.1', port: 2526 };
          use({ delivery: { smarthost } });
          await db.recover(0);
          const queueId = await queue.add(
            ['a@one.test', 'b@two.test', 'c@one.test', 'd@three.test'],
            'SENDING',
          );
          await queue.settle({
            queueId,
            destination: 'smarthost',
            groups: [bounced([3]), deferred([0, 1, 2])],
            retryAtMs: 700,
            attempts: 2,
          });
          const found = await restart({});
          assert.equal(found.rekeyed, 1);
          const mail = await db.show(queueId);
          assert.deepEqual(
            mail?.rows.map((r) => [r.destination, r.state, r.waiting, r.attempts]),
            [
              ['one.test', 'RETRY', 2, 2],
              ['smarthost', 'DEAD', 0, 2],
              ['two.test', 'RETRY', 1, 2],
            ],
          );
          for (const [destination, seqs] of [
            ['one.test', [0, 2]],
            ['two.test', [1]],
          ] as const) {
            const { jobs } = await claim(destination);
            await queue.settle({
              queueId,
              destination,
              fence: jobs[0]?.fence as number,
              groups: [delivered([...seqs])],
            });
          }
          assert.deepEqual(await fates(queueId), ['delivered', 'delivered', 'delivered', 'bounced']);
          assert.equal(
            await db.purge(1000 + queue.config.queue.keep_failed_ms, 10),
            1,
            'the mail is settled, and dead',
          );
        });

        it('does not look at rows again when the routes are those of the last start', async () => {
          await restart();
          await queue.add(['a@one.test']);
          assert.equal((await restart()).rekeyed, 0);
        });
      });
    }

    it('leaks no content', async () => {
      const queueId = await queue.add(['a@one.test']);
      const { jobs } = await claim('one.test');
      const message = queue.message(['b@one.test']);
      await db.commit(queue.batch({ messages: [queue.plan(message, 'HELD' satisfies OutboxPlan['state'])] }));
      await queue.settle({ queueId, destination: 'one.test', groups: [delivered([0])] });
      queue.arena.release(message.content);
      queue.arena.release(jobs[0]?.content as number);
      assert.equal(queue.arena.held, 0);
    });
  });
}
