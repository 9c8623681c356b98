/** Several databases as one: here each is a sqlite queue of its own, so that merging is tested apart from servers. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { RelayError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { ShardedDatabase } from '../../src/database/sharded-database.ts';
import { DatabaseClient, type TaskPool } from '../../src/persistence/database-client.ts';
import { delivered, QueueFixture } from '../persistence/fixture.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A queue that can be away, or silent. */
class Part {
  readonly queue = new QueueFixture();
  away = false;
  hold: Promise<void> | null = null;
  readonly client: DatabaseClient;

  constructor() {
    const { pool } = this.queue;
    const faulty: TaskPool = {
      run: async (task, shard) => {
        if (this.hold !== null) await this.hold;
        if (this.away) throw new RelayError('database_unavailable', 'connection refused');
        return pool.run(task, shard);
      },
      destroy: async () => {},
    };
    this.client = new DatabaseClient(faulty);
  }
}

describe('sharded database', () => {
  let parts: Part[];
  let db: ShardedDatabase;
  let usable: number;
  let nowMs: number;
  let swept: number;

  beforeEach(() => {
    parts = [new Part(), new Part()];
    nowMs = 1000;
    swept = 0;
    db = new ShardedDatabase(
      parts.map(({ client }, i) => ({
        id: i + 1,
        name: `s${i}`,
        weight: 1 - i,
        maxConnections: 10 + i,
        silenceMs: 5000,
        client,
      })),
      {
        retryDelayMs: 1000,
        maxRetryDelayMs: 4000,
        log: silentLog,
        now: () => nowMs,
        usable: (mask) => {
          usable = mask;
        },
        close: async () => {},
        sweep: async () => ++swept,
      },
    );
  });
  afterEach(async () => {
    for (const { queue } of parts) await queue.close();
  });

  /** One message into the shard (1 or 2), PENDING. */
  async function add(shard: number, to: string, state: 'PENDING' | 'SENDING' = 'PENDING'): Promise<string> {
    const { queue } = parts[shard - 1] as Part;
    const message = queue.message([to]);
    message.queueId = `${message.queueId}${shard}`;
    await db.commit(queue.batch({ messages: [queue.plan(message, state)] }));
    return message.queueId;
  }
  const claim = (limit = 10, maxRecipients = 100) =>
    db.claim({ destination: 'one.test', limit, maxRecipients, nowMs: 2000, leaseUntilMs: 60_000 });
  /** Lets the health of the shards look around at that time. */
  async function at(ms: number): Promise<void> {
    nowMs = ms;
    db.look();
    for (let i = 0; i < 5; i++) await turn();
  }

  it('puts a message where its queue id says, and finds it there', async () => {
    const [a, b] = [await add(1, 'a@one.test'), await add(2, 'b@one.test')];
    assert.equal((await parts[0]?.client.stats())?.mails, 1);
    assert.equal((await db.show(b))?.recipients[0]?.address, 'b@one.test');
    assert.equal(await parts[1]?.client.show(a), null);
    assert.match(Buffer.from((await db.content(a, 0, 1000)) as Uint8Array).toString(), /^Received/);
    await assert.rejects(db.show('06dk0000000zzzz7'), /no shard has the number 7/);
  });

  it('merges what waits, lists, counts and operates over all', async () => {
    const ids = [await add(1, 'a@one.test'), await add(2, 'b@one.test'), await add(2, 'c@two.test')];
    assert.deepEqual(
      (await db.backlog()).sort((x, y) => x.destination.localeCompare(y.destination)),
      [
        { destination: 'one.test', rows: 2, nextDueMs: 1000 },
        { destination: 'two.test', rows: 1, nextDueMs: 1000 },
      ],
    );
    const listed = async (filter: object): Promise<string[]> =>
      (await db.list({ limit: 10, ...filter })).map(({ queueId }) => queueId);
    assert.deepEqual((await listed({})).sort(), [...ids].sort());
    assert.equal((await listed({ limit: 2 })).length, 2);
    assert.deepEqual(await listed({ limit: 10, afterQueueId: (await listed({})).at(1) }), [
      (await listed({})).at(2),
    ]);
    assert.deepEqual([(await db.stats()).mails, (await db.stats()).rows.PENDING], [3, 3]);
    const held = await db.operate('hold', {}, 1500);
    assert.equal(held.rows, 3);
    assert.equal(
      held.changes.reduce((sum, { rows }) => sum + rows, 0),
      -3,
    );
    assert.equal((await db.operate('release', { ids: [ids[1] as string] }, 1500)).rows, 1);
  });

  it('claims of one destination come from all shards, each first in its turn', async () => {
    for (const shard of [1, 1, 2, 2]) await add(shard, 'a@one.test');
    const first = await claim(1);
    const second = await claim(1);
    assert.notEqual(first.jobs[0]?.queueId.at(-1), second.jobs[0]?.queueId.at(-1));
    assert.equal(first.nextDueMs, 2000, 'more is due');
    const rest = await claim(10, 1);
    assert.equal(rest.jobs.length, 1, 'the limit of recipients holds over all');
    assert.equal((await claim()).jobs.length, 1);
    const { shards = [], ...none } = await claim();
    assert.deepEqual(none, { jobs: [], nextDueMs: null, short: false });
    assert.deepEqual(shards.map(({ shard, nextDueMs }) => [shard, nextDueMs]).sort(), [
      [1, null],
      [2, null],
    ]);
  });

  it('a shard that was away is left to the owners of its rows for a while: leases that ended stay theirs', async () => {
    const asked: (boolean | undefined)[] = [];
    const returned: number[] = [];
    const [part] = parts as [Part];
    const claim = part.client.claim.bind(part.client);
    part.client.claim = (request) => {
      asked.push(request.takeOver);
      return claim(request);
    };
    db = new ShardedDatabase(
      [{ id: 1, name: 's', weight: 1, maxConnections: 9, silenceMs: 5000, client: part.client }],
      {
        retryDelayMs: 1000,
        maxRetryDelayMs: 4000,
        takeOverPauseMs: 500,
        log: silentLog,
        now: () => nowMs,
        returned: (shard) => void returned.push(shard),
        usable() {},
        close: async () => {},
        sweep: async () => 0,
      },
    );
    const request = { destination: 'one.test', limit: 9, maxRecipients: 9, nowMs: 0, leaseUntilMs: 1 };
    await db.claim(request);
    nowMs += 500;
    await db.claim(request);
    part.away = true;
    await assert.rejects(db.claim(request));
    part.away = false;
    await at(nowMs + 1000);
    assert.deepEqual(returned, [1], 'whoever has results for it hears of it');
    await db.claim(request);
    nowMs += 500;
    await db.claim(request);
    assert.deepEqual(asked, [false, true, true, false, true]);
  });

  it('asks the shards a claim names only, and tells what each has next', async () => {
    for (const shard of [1, 1, 2]) await add(shard, 'a@one.test');
    const request = { destination: 'one.test', maxRecipients: 100, nowMs: 2000, leaseUntilMs: 60_000 };
    const second = await db.claim({ ...request, limit: 10, shards: 1 << 2 });
    assert.deepEqual(
      second.jobs.map(({ queueId }) => queueId.at(-1)),
      ['2'],
    );
    assert.deepEqual(second.shards, [{ shard: 2, nextDueMs: null }]);
    assert.deepEqual(
      (await db.backlogByShard()).map(({ shard, rows }) => [shard, rows]),
      [[1, 2]],
    );
    assert.equal((await db.claim({ ...request, limit: 10 })).jobs.length, 2);
  });

  it('results of an earlier life are written before anything of a shard is recovered: at the start, or when it is back', async () => {
    const order: string[] = [];
    const shards = parts.map(({ client }, i) => {
      const recover = client.recover.bind(client);
      client.recover = (now, fresh) => {
        order.push(`recover ${i + 1}`);
        return recover(now, fresh);
      };
      return { id: i + 1, name: `s${i}`, weight: 1, maxConnections: 9, silenceMs: 5000, client };
    });
    let refuse = true;
    const kept = {
      async replay(shard: number, commit: typeof db.commit): Promise<void> {
        await commit((parts[shard - 1] as Part).queue.batch({}));
        if (shard === 1 && refuse) throw new RelayError('database_unavailable', 'locked');
        order.push(`replay ${shard}`);
      },
    };
    const begun = {
      of(shard: number) {
        order.push(`begun ${shard}`);
        return [];
      },
      marked() {},
      held() {},
    };
    const options = { retryDelayMs: 1000, maxRetryDelayMs: 1000, log: silentLog, now: () => nowMs };
    const rest = { usable() {}, close: async () => {}, sweep: async () => 0 };
    (parts[1] as Part).away = true;
    db = new ShardedDatabase(shards, { ...options, ...rest, kept, begun });
    await assert.rejects(db.recover(nowMs), { code: 'database_unavailable' });
    assert.deepEqual(order, [], 'neither: what cannot be replayed is not recovered');
    refuse = false;
    await at(nowMs + 1000);
    assert.deepEqual(order, ['replay 1', 'begun 1', 'recover 1']);
    (parts[1] as Part).away = false;
    await at(nowMs + 1000);
    assert.deepEqual(order.slice(3), ['replay 2', 'begun 2', 'recover 2']);
    assert.equal((await db.report()).filter(({ up }) => up).length, 2);
  });

  it('settles, renews and releases where the row is', async () => {
    const [a, b] = [await add(1, 'a@one.test', 'SENDING'), await add(2, 'b@one.test', 'SENDING')];
    const rows = [a, b].map((queueId) => ({ queueId, destination: 'one.test' }));
    assert.equal(await db.renew(rows, 90_000), 2);
    await db.release([{ ...(rows[0] as (typeof rows)[0]), fence: 1, reason: 'shutdown' }], 1000);
    assert.equal((await db.show(a))?.rows[0]?.state, 'PENDING');
    const settlement = {
      queueId: b,
      destination: 'one.test',
      fence: 1,
      attempts: 1,
      groups: [delivered([0])],
      retryAtMs: null,
      delayNotified: false,
    };
    const { queue } = parts[1] as Part;
    assert.deepEqual((await db.commit(queue.batch({ settlements: [settlement] }))).settlements, [true]);
  });

  it('a shard that fails is left alone, tried again after growing pauses, and recovered when it is back', async () => {
    const waiting = await add(1, 'a@one.test');
    const stuck = await add(2, 'b@one.test', 'SENDING');
    assert.equal(usable, 0b10, 'weight 0 takes no new mail');
    (parts[1] as Part).away = true;
    assert.equal((await claim()).jobs[0]?.queueId, waiting, 'the other one answers');
    const asked = (parts[1] as Part).client;
    await assert.rejects(db.show(stuck), /shard s1 is down: connection refused/);
    assert.equal(asked.running, 0);
    assert.equal(db.freeConnections, 10, 'of the shard that is up');
    (parts[0] as Part).away = true;
    await assert.rejects(db.backlog(), { code: 'database_unavailable' });
    assert.deepEqual([usable, db.freeConnections], [0, 0]);
    await at(1999);
    await at(2000);
    await at(3999);
    (parts[0] as Part).away = false;
    (parts[1] as Part).away = false;
    await at(3999);
    assert.equal(usable, 0, 'not tried before the pause is over');
    await at(4000);
    assert.equal(usable, 0b10);
    assert.equal(
      (await db.show(stuck))?.rows[0]?.state,
      'PENDING',
      'what our earlier life left there was given back',
    );
    const [, report] = await db.report();
    assert.deepEqual(
      [
        report?.name,
        report?.up,
        report?.weight,
        report?.mails,
        report?.waitingRows,
        (report?.errors ?? 0) > 0,
      ],
      ['s1', true, 0, 1, 1, true],
    );
  });

  it('a shard that is silent for too long counts as down', async () => {
    let go = (): void => {};
    (parts[0] as Part).hold = new Promise((resolve) => {
      go = resolve;
    });
    const adding = add(1, 'a@one.test');
    await turn();
    await at(6000);
    assert.equal(usable, 0b10);
    await at(6001);
    assert.equal(usable, 0b100, 'mail goes to the shard without weight rather than nowhere');
    (parts[0] as Part).hold = null;
    go();
    await adding;
    await at(7001);
    assert.equal(usable, 0b10);
  });

  it('starts without a shard that is away, but not without all, nor with a schema it does not know', async () => {
    (parts[0] as Part).away = true;
    assert.deepEqual(await db.recover(1000), { released: 0, rekeyed: 0, newestQueueId: null });
    (parts[1] as Part).away = true;
    await assert.rejects(db.recover(1000), { code: 'database_unavailable' });
    const unknown = {
      ...(parts[0] as Part).client,
      recover: () => Promise.reject(new RelayError('schema_unknown', 'x')),
    };
    Object.assign((parts[0] as Part).client, unknown);
    await assert.rejects(db.recover(1000), { code: 'schema_unknown' });
  });

  it('sweeps only when every shard answers', async () => {
    (parts[1] as Part).away = true;
    await db.purge(1000, 10);
    assert.equal(swept, 0);
    (parts[1] as Part).away = false;
    await at(2000);
    await db.purge(1000 + 7 * 3_600_000, 10);
    assert.equal(swept, 1);
  });
});
