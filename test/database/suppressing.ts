/** What every queue database must do as a table of the suppression list. Run by one test file per driver. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import {
  countKey,
  isCount,
  MAX_COUNTED,
  type Suppression,
  type SuppressionOrder,
  suppressionHash,
} from '../../src/mail/suppression.ts';
import type { DatabaseClient } from '../../src/persistence/database-client.ts';
import { bounced, type QueueFixture } from '../persistence/fixture.ts';
import type { Driver } from './conformance.ts';

const entry = (target: string, fields: Partial<Suppression> = {}): Suppression => ({
  tenant: '',
  target,
  scope: 'all',
  reason: 'invalid_recipient',
  source: 'reply',
  detail: '550 5.1.1 nobody',
  createdAtMs: 1000,
  expiresAtMs: null,
  ...fields,
});

const order = (target: string, fields: Partial<SuppressionOrder> = {}): SuppressionOrder => ({
  ...entry(target),
  after: 1,
  withinMs: 10_000,
  about: 'message1',
  ...fields,
});

export function suppressingConformance(driver: Driver): void {
  describe(`the suppression list in database ${driver.name}`, { skip: driver.skip ?? false }, () => {
    let queue: QueueFixture;
    let db: DatabaseClient;
    const put = (entries: Suppression[], replace = false) => db.suppression({ op: 'put', entries, replace });
    const find = (...targets: string[]) =>
      db.suppression({ op: 'find', pairs: targets.map((target) => ({ tenant: '', target })) });

    beforeEach(async () => {
      await driver.prepare?.();
      queue = driver.open({});
      db = queue.database;
      await db.recover(0);
    });
    afterEach(() => queue.close());

    it('keeps an entry once; the one that holds longer stays, unless it is replaced', async () => {
      const first = entry('a@one.test', { expiresAtMs: 5000 });
      assert.deepEqual(await put([first, entry('one.test', { reason: 'operator' })]), {
        added: 2,
        changed: 0,
      });
      assert.deepEqual(await put([entry('a@one.test', { expiresAtMs: 4000 })]), { added: 0, changed: 0 });
      assert.deepEqual(await put([entry('a@one.test', { expiresAtMs: 9000, reason: 'complaint' })]), {
        added: 0,
        changed: 1,
      });
      assert.deepEqual(await find('a@one.test', 'b@one.test'), [
        entry('a@one.test', { expiresAtMs: 9000, reason: 'complaint' }),
      ]);
      assert.deepEqual(await put([first], true), { added: 0, changed: 1 });
      assert.deepEqual(await find('a@one.test'), [first]);
      assert.equal((await put([entry('a@one.test', { tenant: 'shop' })])).added, 1);
      assert.equal((await find('a@one.test')).length, 1);
      const keys = [{ tenant: '', target: 'a@one.test', scope: 'all' }];
      assert.equal(await db.suppression({ op: 'remove', keys }), 1);
      assert.equal(await db.suppression({ op: 'remove', keys }), 0);
      assert.deepEqual(await find('a@one.test'), []);
    });

    it('tells by version what is new, by hash all there is, and lists it page by page', async () => {
      const before = await db.suppression({ op: 'mark' });
      const targets = Array.from({ length: 150 }, (_, i) => `u${i}@one.test`);
      await put(targets.slice(0, 100).map((target) => entry(target)));
      const middle = await db.suppression({ op: 'mark' });
      await put(targets.slice(100).map((target) => entry(target, { reason: 'unsubscribe' })));
      assert.ok(middle.epoch > 0 && middle.version > before.version);
      const read = async (by: 'version' | 'hash', from: number): Promise<Set<number>> => {
        const all = new Set<number>();
        for (let after: number | null = from; after !== null; ) {
          const start: number = after;
          const page = await db.suppression({ op: 'hashes', by, after: start, limit: 20 });
          for (const hash of page.hashes) all.add(hash);
          after = page.last;
        }
        return all;
      };
      const hashesOf = (some: string[]) => new Set(some.map((target) => suppressionHash('', target)));
      assert.deepEqual(await read('hash', -1), hashesOf(targets).intersection(await read('hash', -1)));
      assert.equal((await read('hash', -1)).size, 150);
      assert.deepEqual(
        [...(await read('version', middle.version))].sort(),
        [...hashesOf(targets.slice(100))].sort(),
      );
      const listed: string[] = [];
      for (let after: string | null = ''; after !== null; ) {
        const from: string = after;
        const page = await db.suppression({
          op: 'list',
          after: from,
          limit: 20,
          tenant: null,
          reason: 'unsubscribe',
        });
        listed.push(...page.entries.map(({ target }) => target));
        after = page.next;
      }
      assert.deepEqual(listed.sort(), targets.slice(100).sort());
    });

    it('removes what is over, and nothing else', async () => {
      await put([
        entry('a@one.test', { expiresAtMs: 2000 }),
        entry('b@one.test', { expiresAtMs: 9000 }),
        entry('c@one.test'),
      ]);
      assert.equal(await db.suppression({ op: 'purge', nowMs: 5000, limit: 10 }), 1);
      assert.equal(await db.suppression({ op: 'purge', nowMs: 5000, limit: 10 }), 0);
      assert.equal((await find('a@one.test', 'b@one.test', 'c@one.test')).length, 2);
    });

    it('writes an entry with the settlement that calls for it, or not at all', async () => {
      const queueId = await queue.add(['a@one.test', 'b@one.test'], 'SENDING');
      const settlement = { queueId, destination: 'one.test', suppressed: [order('a@one.test')] };
      assert.equal(await queue.settle({ ...settlement, fence: 99, groups: [bounced([0, 1])] }), false);
      assert.deepEqual(await find('a@one.test'), []);
      assert.equal(await queue.settle({ ...settlement, groups: [bounced([0, 1])] }), true);
      assert.deepEqual(await find('a@one.test'), [entry('a@one.test')]);
    });

    it('counts messages that end so, and writes the entry once they are enough within the time', async () => {
      const bounce = async (createdAtMs: number): Promise<number> => {
        const queueId = await queue.add(['full@one.test'], 'SENDING');
        const about = countKey(queueId, 0);
        const suppressed = [order('full@one.test', { after: 3, createdAtMs, about, reason: 'mailbox_full' })];
        const settlement = { queueId, destination: 'one.test', suppressed, groups: [bounced([0])] };
        assert.equal(await queue.settle(settlement), true);
        return (await find('full@one.test')).filter((one) => !isCount(one)).length;
      };
      assert.equal(await bounce(1000), 0);
      assert.equal(await bounce(2000), 0);
      assert.equal(await bounce(11_500), 0, 'the first is too long ago');
      const listed = await db.suppression({ op: 'list', after: '', limit: 9, tenant: null, reason: null });
      assert.deepEqual(listed.entries, [], 'a count is no entry');
      assert.equal(await bounce(11_600), 1);
      await db.suppression({ op: 'remove', keys: [{ tenant: '', target: 'full@one.test', scope: 'all' }] });
      assert.equal(await bounce(11_700), 0, 'counting begins anew');
    });

    it('counts a message once, however often it is told of it, also as the last one', async () => {
      const learn = async (message: number): Promise<boolean> => {
        const about = countKey(`message ${message}`, 0);
        const fields = { after: MAX_COUNTED, createdAtMs: 1000 + message, withinMs: 90_000, about };
        await db.suppression({ op: 'learn', order: order('full@one.test', fields) });
        return (await find('full@one.test')).some((one) => !isCount(one));
      };
      for (let message = 1; message < MAX_COUNTED; message++)
        for (let time = 0; time < 2; time++) assert.equal(await learn(message), false);
      assert.equal(await learn(MAX_COUNTED), true);
      await db.suppression({ op: 'remove', keys: [{ tenant: '', target: 'full@one.test', scope: 'all' }] });
      for (const message of [MAX_COUNTED, 100]) assert.equal(await learn(message), false);
    });

    it('keeps the entries of an address for several lists apart', async () => {
      const scopes = ['all', 'bulk', `list:${'é'.repeat(128)}`];
      await put(scopes.map((scope) => entry('a@one.test', { scope })));
      const found = await find('a@one.test');
      assert.deepEqual(found.map(({ scope }) => scope).sort(), [...scopes].sort());
      await db.suppression({ op: 'remove', keys: [entry('a@one.test', { scope: 'all' })] });
      assert.equal((await find('a@one.test')).length, 2);
    });
  });
}
