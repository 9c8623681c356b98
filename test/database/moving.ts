/** What every queue database must do when an operator ends recipients or reroutes them. Run by one test file per driver. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { ClaimResult, Database } from '../../src/database/database.ts';
import { bounced, deferred, delivered, type QueueFixture } from '../persistence/fixture.ts';
import type { Driver } from './conformance.ts';

const VIA = 'via:mx.other.test:25';
const SMARTHOST = { delivery: { smarthost: { host: '127.0.0.1', port: 2526 } } };

export function movingConformance(driver: Driver): void {
  describe(`moving recipients in database ${driver.name}`, { skip: driver.skip ?? false }, () => {
    let queue: QueueFixture;
    let db: Database;
    const claim = async (destination: string, nowMs = 2000): Promise<ClaimResult['jobs']> =>
      (await db.claim({ destination, limit: 100, maxRecipients: 1000, nowMs, leaseUntilMs: nowMs + 60_000 }))
        .jobs;
    const rows = async (queueId: string): Promise<unknown[][]> =>
      (await db.show(queueId))?.rows.map((r) => [r.destination, r.state, r.waiting, r.attempts]) ?? [];
    const seqs = (jobs: ClaimResult['jobs']): number[][] =>
      jobs.map((job) => job.recipients.map(({ seq }) => seq));
    const settled = async (destination: string, groups: Parameters<QueueFixture['settle']>[0]['groups']) => {
      const [job] = await claim(destination);
      assert.ok(job, `nothing is due at ${destination}`);
      const { queueId, fence } = job;
      assert.equal(await queue.settle({ queueId, destination, fence, groups }), true);
    };

    beforeEach(async () => {
      await driver.prepare?.();
      queue = driver.open({});
      db = queue.database;
      await db.recover(0);
    });
    afterEach(async () => {
      await queue.close();
    });

    it('ends what waits or is held, with what the operator said; the message goes with its last recipient', async () => {
      const queueId = await queue.add(['a@one.test', 'b@two.test', 'c@one.test']);
      await db.operate('hold', { destinations: ['two.test'] }, 1000);
      const result = await db.operate({ fail: 'no such customer' }, {}, 2000);
      assert.deepEqual([result.rows, result.sending], [2, 0]);
      const due = new Map(result.changes.map((change) => [change.destination, change.rows]));
      assert.deepEqual([due.get('one.test'), due.get('fail:one.test'), due.get('fail:two.test')], [-1, 1, 1]);
      const shown = (await db.show(queueId))?.rows.map((r) => [r.destination, r.state, r.reason, r.detail]);
      assert.deepEqual(shown, [
        ['one.test', 'PENDING', 'failed_by_operator', 'no such customer'],
        ['two.test', 'PENDING', 'failed_by_operator', 'no such customer'],
      ]);
      assert.deepEqual(await claim('one.test', 9e12), []);
      const [one] = await claim('fail:one.test');
      assert.equal(one?.operatorText, 'no such customer');
      assert.deepEqual(seqs([one as NonNullable<typeof one>]), [[0, 2]]);
      const fence = one?.fence as number;
      await queue.settle({ queueId, destination: 'fail:one.test', fence, groups: [bounced([0, 2])] });
      await settled('fail:two.test', [bounced([1])]);
      assert.equal(await db.purge(1000 + queue.config.queue.keep_failed_ms, 10), 1);
      assert.equal((await db.operate({ fail: '' }, {}, 3000)).rows, 0);
    });

    it('what ends is out of reach of a second command, and of a reroute', async () => {
      const queueId = await queue.add(['a@one.test']);
      await db.operate({ fail: 'first' }, { ids: [queueId] }, 1000);
      for (const action of [{ fail: 'second' }, { reroute: VIA }, { reroute: null }])
        assert.equal((await db.operate(action, { ids: [queueId] }, 1000)).rows, 0);
      assert.equal((await claim('fail:one.test'))[0]?.operatorText, 'first');
    });

    it('joins entries of a message that are rerouted to one next hop, and parts them again', async () => {
      const queueId = await queue.add(['a@one.test', 'b@two.test', 'c@three.test', 'd@one.test'], 'SENDING');
      const attempt = { queueId, attempts: 3, retryAtMs: 900_000 };
      await queue.settle({ ...attempt, destination: 'one.test', groups: [bounced([0]), deferred([3])] });
      await queue.settle({ ...attempt, destination: 'two.test', groups: [deferred([1])] });
      const result = await db.operate({ reroute: VIA }, {}, 2000);
      assert.deepEqual([result.rows, result.sending], [2, 1]);
      assert.deepEqual(await rows(queueId), [
        ['one.test', 'DEAD', 0, 3],
        ['three.test', 'SENDING', 1, 0],
        [VIA, 'RETRY', 2, 3],
      ]);
      await queue.settle({ queueId, destination: 'three.test', groups: [delivered([2])] });
      assert.equal((await db.operate({ reroute: VIA }, {}, 2000)).rows, 0, 'they are there');
      const back = await db.operate({ reroute: null }, {}, 2000);
      assert.equal(back.rows, 1);
      assert.deepEqual(await rows(queueId), [
        ['one.test', 'RETRY', 1, 3],
        ['three.test', 'SENT', 0, 1],
        ['two.test', 'RETRY', 1, 3],
      ]);
      await settled('one.test', [delivered([3])]);
      await settled('two.test', [delivered([1])]);
      assert.deepEqual(
        (await db.show(queueId))?.recipients.map(({ status }) => status),
        ['bounced', 'delivered', 'delivered', 'delivered'],
      );
      assert.equal(await db.purge(1000 + queue.config.queue.keep_failed_ms, 10), 1, 'open rows were counted');
    });

    it('keeps held entries held when they are rerouted', async () => {
      const queueId = await queue.add(['a@one.test']);
      await db.operate('hold', {}, 1000);
      assert.equal((await db.operate({ reroute: VIA }, { ids: [queueId] }, 2000)).rows, 1);
      assert.deepEqual(await rows(queueId), [[VIA, 'HELD', 1, 0]]);
      await db.operate('release', {}, 2000);
      assert.deepEqual(seqs(await claim(VIA)), [[0]]);
    });

    it('leaves an entry alone when another of the message is being sent to the next hop', async () => {
      const queueId = await queue.add(['a@one.test', 'b@two.test']);
      await db.operate({ reroute: VIA }, { destinations: ['one.test'] }, 1000);
      const [job] = await claim(VIA);
      const { rows: moved, sending } = await db.operate({ reroute: VIA }, { ids: [queueId] }, 2000);
      assert.deepEqual([moved, sending], [0, 1]);
      const fence = job?.fence as number;
      await queue.settle({ queueId, destination: VIA, fence, groups: [delivered([0])] });
      assert.equal((await db.operate({ reroute: VIA }, { ids: [queueId] }, 2000)).rows, 1);
      await settled(VIA, [delivered([1])]);
      assert.equal(await db.show(queueId), null);
    });

    it('a result of before the move is no result of after it', async () => {
      const queueId = await queue.add(['a@one.test']);
      const [old] = await claim('one.test', 1000);
      const fence = old?.fence as number;
      await db.release([{ queueId, destination: 'one.test', fence, reason: 'lease_lapsed' }], 1000);
      await db.operate({ reroute: VIA }, {}, 2000);
      await db.operate({ reroute: null }, {}, 2000);
      const [again] = await claim('one.test');
      assert.ok((again?.fence as number) > fence);
      const late = { queueId, destination: 'one.test', fence, groups: [delivered([0])] };
      assert.equal(await queue.settle(late), false);
    });

    it('goes on behind a slice that ends within a message', async () => {
      const many = Array.from({ length: 1200 }, (_, i) => `u@d${String(i).padStart(4, '0')}.test`);
      const [queueId, other] = [await queue.add(many), await queue.add(['a@one.test'])];
      assert.equal((await db.operate({ reroute: VIA }, {}, 2000)).rows, 1201);
      assert.deepEqual(await rows(queueId), [[VIA, 'PENDING', 1200, 0]]);
      const failed = await db.operate({ fail: '' }, { ids: [queueId, other] }, 2000);
      assert.deepEqual([failed.rows, failed.queueIds.sort()], [2, [queueId, other]]);
      const back = await claim(`fail:${VIA}`);
      assert.equal(back.length, 1, 'as many recipients as a claim may have');
      assert.equal(back[0]?.recipients.length, 1200);
    });

    it('moves single recipients of an entry, and those of a domain', async () => {
      const many = Array.from({ length: 10_000 }, (_, i) => `u${i}@one.test`);
      const queueId = await queue.add([...many, 'last@two.test']);
      const one = await db.operate({ fail: 'left' }, { recipients: ['u7@ONE.test'] }, 2000);
      assert.deepEqual([one.rows, one.recipients], [1, 1]);
      assert.deepEqual(await rows(queueId), [
        ['one.test', 'PENDING', 1, 0],
        ['one.test', 'PENDING', 9999, 0],
        ['two.test', 'PENDING', 1, 0],
      ]);
      await settled('fail:one.test', [bounced([7])]);
      await db.operate({ reroute: VIA }, { recipients: ['u7@one.test', 'u8@one.test'] }, 2000);
      const [rerouted] = await claim(VIA);
      assert.deepEqual(
        rerouted?.recipients.map(({ address }) => address),
        ['u8@one.test'],
      );
      const rest = await db.operate({ reroute: VIA }, { domains: ['one.test'] }, 2000);
      assert.deepEqual([rest.rows, rest.sending], [0, 1], 'one is being sent there');
      const fence = rerouted?.fence as number;
      await queue.settle({ queueId, destination: VIA, fence, groups: [delivered([8])] });
      assert.equal((await db.operate({ fail: '' }, { destinations: ['one.test'] }, 2000)).recipients, 9998);
      await settled('fail:one.test', [bounced(Array.from({ length: 10_000 }, (_, i) => i))]);
      await settled('two.test', [delivered([10_000])]);
      const fates = (await db.show(queueId))?.recipients.map(({ status }) => status) ?? [];
      assert.equal(fates.filter((status) => status === 'bounced').length, 9999);
      assert.equal(await db.purge(1000 + queue.config.queue.keep_failed_ms, 10), 1);
    });

    if (driver.survives)
      it('keeps what was rerouted, and what ends, over a restart with other routes', async () => {
        const rerouted = await queue.add(['a@one.test', 'b@two.test']);
        const ending = await queue.add(['c@three.test']);
        await db.operate({ reroute: VIA }, { destinations: ['one.test'] }, 1000);
        await db.operate({ fail: 'said before' }, { ids: [ending] }, 1000);
        await queue.restart(SMARTHOST);
        db = queue.database;
        assert.equal((await db.recover(1000)).rekeyed, 1);
        assert.deepEqual(await rows(rerouted), [
          ['smarthost', 'PENDING', 1, 0],
          [VIA, 'PENDING', 1, 0],
        ]);
        assert.equal((await claim('fail:three.test'))[0]?.operatorText, 'said before');
        assert.equal((await db.operate({ reroute: null }, {}, 2000)).rows, 1);
        assert.deepEqual(await rows(rerouted), [['smarthost', 'PENDING', 2, 0]]);
      });
  });
}
