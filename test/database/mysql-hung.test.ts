/**
 * What a node that hangs or is cut off inside a transaction does to the others: it keeps its own rows until the server
 * ends the connection, and nothing else, at whichever statement it stood still.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperateAction, Settlement } from '../../src/database/database.ts';
import { nodeLockName } from '../../src/database/mysql/node-lock.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { hashOf } from '../../src/mail/begun-slots.ts';
import { nameOf } from '../../src/mail/operator-action.ts';
import { SUSPICION } from '../../src/mail/suspicion.ts';
import { delivered, QueueFixture } from '../persistence/fixture.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { eventually } from '../support/wait.ts';

/** A third of it is what the server lets a transaction lie idle: 1 s. */
const QUERY_TIMEOUT_MS = 3000;
/** A healthy node waits no longer for anything, however many hang. */
const SOON_MS = 1500;
/** Statements of the commit below, and some more. */
const STATEMENTS = 14;

describe('mysql: a node that hangs in a transaction', { skip: skipWithoutMariaDb() }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;

  before(async () => {
    server = await MariaDb.start();
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
  });
  after(() => server?.close());
  beforeEach(() => server.empty(access));

  const open = (name: string, port: number): QueueFixture =>
    new QueueFixture({
      node_id: name,
      database: {
        driver: 'mysql',
        ...access,
        port,
        connection_timeout_ms: 2000,
        query_timeout_ms: QUERY_TIMEOUT_MS,
      },
      storage: { provider: 'local' },
    });
  const settlement = (queueId: string): Settlement => ({
    queueId,
    destination: 'one.test',
    fence: 1,
    attempts: 1,
    groups: [delivered([0])],
    retryAtMs: null,
    delayNotified: false,
  });
  async function soon<T>(what: string, work: Promise<T>): Promise<T> {
    const sinceMs = Date.now();
    const value = await work;
    assert.ok(Date.now() - sinceMs < SOON_MS, `${what} took ${Date.now() - sinceMs} ms`);
    return value;
  }

  it('holds up nobody, and its rows are free within a third of query_timeout_ms', async (t) => {
    const other = open('other', server.port);
    t.after(() => other.close());
    const rows: string[] = [];
    let sequence = 0;
    // All in one queue: their ids must differ.
    const nextId = (): string => `06dk1000000${(sequence++).toString(16).padStart(4, '0')}`;
    const add = async (queue: QueueFixture, state: 'SENDING' | 'PENDING' = 'SENDING'): Promise<string> => {
      const message = queue.message(['u@one.test']);
      message.queueId = nextId();
      await queue.database.commit(queue.batch({ messages: [queue.plan(message, state)] }));
      return message.queueId;
    };
    const nodes: { queue: QueueFixture; proxy: CommitProxy; row: string }[] = [];
    for (let at = 1; at <= STATEMENTS; at++) {
      const proxy = await CommitProxy.start(server.port);
      const queue = open(`hung${at}`, proxy.port);
      nodes.push({ queue, proxy, row: await add(queue) });
    }
    const hung = nodes.map(({ queue, proxy, row }, i) => {
      rows.push(row);
      const message = queue.message(['new@two.test']);
      message.queueId = nextId();
      proxy.freezeAfter = i + 1;
      const batch = queue.batch({ settlements: [settlement(row)], messages: [queue.plan(message)] });
      let over = false;
      const commit = queue.database.commit(batch).then(
        () => {
          over = true;
        },
        () => {},
      );
      return { queue, proxy, commit, stopped: () => proxy.frozen || over };
    });
    t.after(async () => {
      for (const { proxy } of hung) proxy.freezeAfter = null;
      await Promise.all(hung.map(({ commit }) => commit));
      for (const { queue, proxy } of hung) {
        await queue.close();
        await proxy.close();
      }
    });
    for (const untilMs = Date.now() + 5000; !hung.every(({ stopped }) => stopped()); await sleep(5))
      assert.ok(Date.now() < untilMs, 'the nodes do not stand still');
    const frozen = hung.filter(({ proxy }) => proxy.frozen).length;
    assert.ok(
      frozen >= 7 && frozen < STATEMENTS,
      `${frozen} stand still: each statement, and no more, is to be met`,
    );

    const mine = await soon('a new message', add(other));
    const waits = await soon('a message for whoever claims it', add(other, 'PENDING'));
    const batch = other.batch({ settlements: [mine, ...rows].map(settlement) });
    const { settlements } = await soon('a batch with rows of all of them', other.database.commit(batch));
    assert.equal(settlements[0], true, 'the rest is settled');
    assert.ok(settlements.includes(null), 'some rows are locked');
    const request = {
      destination: 'one.test',
      limit: 50,
      maxRecipients: 50,
      nowMs: 2000,
      leaseUntilMs: 62_000,
    };
    const { jobs } = await soon('a claim', other.database.claim(request));
    assert.deepEqual(
      jobs.map(({ queueId }) => queueId),
      [waits],
    );
    const renewed = await soon(
      'renewing',
      other.database.renew([{ queueId: waits, destination: 'one.test' }], 90_000),
    );
    assert.equal(renewed, 1);
    await soon('recovery', other.database.recover(3000));
    await soon('a probe', other.database.ping());
    await soon('a look for due work', other.database.due(5000));
    const slot = { slot: 1, node: 'other', nowMs: 90_000_000, staleBeforeMs: 0 };
    assert.equal(await soon('its number', other.database.enroll(slot)), true);

    // A row whose batch was committed is gone, or settled; the others are to be had.
    const left = rows.filter((_, i) => settlements[i + 1] === null);
    for (const untilMs = Date.now() + QUERY_TIMEOUT_MS; ; await sleep(50)) {
      const again = await other.database.commit(other.batch({ settlements: left.map(settlement) }));
      if (!again.settlements.includes(null)) break;
      assert.ok(Date.now() < untilMs, 'a row is still locked');
    }
  });

  it('leases that ended are left to their owners while a claim takes over nothing', async (t) => {
    const queue = open('a', server.port);
    t.after(() => queue.close());
    const [ended, waits] = [await queue.add(['a@one.test'], 'SENDING'), await queue.add(['b@one.test'])];
    const request = {
      destination: 'one.test',
      limit: 9,
      maxRecipients: 9,
      nowMs: 100_000,
      leaseUntilMs: 160_000,
    };
    const claimed = async (takeOver: boolean): Promise<string[]> =>
      (await queue.database.claim({ ...request, takeOver })).jobs.map(({ queueId }) => queueId);
    assert.deepEqual(await claimed(false), [waits]);
    assert.deepEqual(await claimed(true), [ended]);
  });

  it('who takes rows over knows what was out when its node died; of one that hangs nothing is held', async (t) => {
    // Who has a lease plays no part: one node with its content stands for all.
    const queue = open('a', server.port);
    const life = await server.connect(access.database);
    t.after(async () => {
      await life.end();
      await queue.close();
    });
    const [alone, company, suspect, unmarked, waited] = [
      await queue.add(['a@one.test'], 'SENDING'),
      await queue.add(['b@one.test'], 'SENDING'),
      await queue.add(['c@one.test'], 'SENDING'),
      await queue.add(['d@one.test'], 'SENDING'),
      await queue.add(['e@one.test']),
    ];
    let fence = 1;
    let nowMs = 100_000;
    const goesOut = (queueId: string, suspicion: number) => ({
      queueId,
      destination: 'one.test',
      fence,
      suspicion,
    });
    const mark = (): Promise<void> =>
      queue.database.markSuspects([
        goesOut(alone, SUSPICION.alone),
        goesOut(company, SUSPICION.inCompany),
        goesOut(suspect, SUSPICION.suspect),
      ]);
    const takeOver = async (): Promise<[Record<string, number | undefined>, string[]]> => {
      nowMs += 100_000;
      const leaseUntilMs = nowMs + 60_000;
      const request = { destination: 'one.test', limit: 9, maxRecipients: 9, nowMs, leaseUntilMs };
      const { jobs, held = [] } = await queue.database.claim(request);
      fence++;
      const suspicions = jobs.map(({ queueId, suspicion }) => [queueId, suspicion]);
      return [Object.fromEntries(suspicions), held.map(({ queueId }) => queueId)];
    };
    const { takenOver } = SUSPICION;
    const all = { [alone]: 3, [company]: 1, [suspect]: 2, [unmarked]: takenOver };
    await mark();
    assert.deepEqual(await takeOver(), [{ ...all, [waited]: undefined }, []], 'a node that is not known');
    await life.query("INSERT INTO relay_lives VALUES ('a', 'a#life1', 'here', 0, 0)");
    await life.query('SELECT GET_LOCK(?, 0)', [nodeLockName(access.database, 'a')]);
    for (let i = 0; i < 3; i++) {
      await mark();
      assert.deepEqual(await takeOver(), [{ ...all, [waited]: takenOver }, []], 'it hangs, or is cut off');
    }
    await mark();
    await life.query("UPDATE relay_lives SET life = 'a#life0'");
    await life.query('DO RELEASE_ALL_LOCKS()');
    assert.deepEqual(await takeOver(), [{ ...all, [waited]: takenOver }, []], 'another life of it died');
    await mark();
    await life.query("UPDATE relay_lives SET life = 'a#life1'");
    const left = { [company]: 2, [suspect]: 2, [unmarked]: takenOver, [waited]: takenOver };
    assert.deepEqual(await takeOver(), [left, [alone]]);
    const [row] = (await queue.database.show(alone))?.rows ?? [];
    assert.deepEqual([row?.state, row?.reason], ['HELD', 'suspected_poison']);

    // The first comes back from its death: what it had begun goes alone, and is held by no death but the next.
    const begun = (queueId: string, fence: number) => ({ queueId, hash: hashOf('one.test'), fence });
    const late = await queue.database.suspect([begun(unmarked, 1)], nowMs);
    assert.deepEqual(
      late.map(({ queueId, destination, held }) => ({ queueId, destination, held })),
      [{ queueId: unmarked, destination: 'one.test', held: false }],
    );
    assert.deepEqual(await takeOver(), [{ ...left, [unmarked]: 2 }, []]);
    // What went out in company and had not begun is no suspect of its own node's next start.
    await queue.database.markSuspects([goesOut(waited, SUSPICION.inCompany)]);
    await queue.restart();
    await queue.database.recover(nowMs);
    assert.deepEqual(await takeOver(), [{ ...left, [unmarked]: 2, [waited]: undefined }, []]);
    // An attempt that ends well ends it.
    const settled = queue.batch({ settlements: [{ ...settlement(suspect), fence }] });
    assert.deepEqual((await queue.database.commit(settled)).settlements, [true]);
  });

  it('an operator waits for nothing that another transaction has: it counts as being sent', async (t) => {
    const queue = open('a', server.port);
    const other = await server.connect(access.database);
    t.after(async () => {
      await other.end();
      await queue.close();
    });
    const [row, mail, free] = [
      await queue.add(['a@one.test']),
      await queue.add(['b@one.test']),
      await queue.add(['c@one.test']),
    ];
    const all = { ids: [row, mail, free] };
    await other.query('START TRANSACTION');
    await other.query('SELECT * FROM mail_outbox WHERE mail_id = ? FOR UPDATE', [row]);
    await other.query('SELECT * FROM mails WHERE id = ? FOR UPDATE', [mail]);
    for (const action of ['flush', 'hold', 'release', 'delete'] as const) {
      const { queueIds, sending } = await soon(action, queue.database.operate(action, all, 5000));
      assert.deepEqual(queueIds, [free], action);
      assert.equal(sending, action === 'release' ? 0 : 2, action);
    }
    await other.query('ROLLBACK');
    const { rows, sending } = await queue.database.operate('delete', {}, 5000);
    assert.deepEqual([rows, sending], [2, 0]);
  });

  it('an operator waits for no mail that is being committed, however small the queue is', async (t) => {
    const queue = open('a', server.port);
    const other = await server.connect(access.database);
    t.after(async () => {
      await other.end();
      await queue.close();
    });
    for (let i = 0; i < 12; i++) await queue.add([`u${i}@one.test`, `u${i}@two.test`]);
    // The server reads a small table as a whole rather than by key, if it may.
    for (const table of ['mails', 'mail_outbox', 'mail_recipients'])
      await other.query(`ANALYZE TABLE ${table}`);
    // What it copies stays unlocked.
    await other.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    await other.query('START TRANSACTION');
    for (const [table, key] of Object.entries({
      mails: 'id',
      mail_outbox: 'mail_id',
      mail_recipients: 'mail_id',
    })) {
      const fields = await other.query<{ Field: string; Extra: string }[]>(`SHOW COLUMNS FROM ${table}`);
      const names = fields.filter(({ Extra }) => !/GENERATED/.test(Extra)).map(({ Field }) => Field);
      const values = names.map((name) => (name === key ? `'06dk0000000zzzz'` : name));
      await other.query(
        `INSERT INTO ${table} (${names}) SELECT ${values} FROM ${table} ORDER BY ${key} LIMIT 1`,
      );
    }
    const actions: [OperateAction, number][] = [
      ['flush', 24],
      ['hold', 24],
      ['release', 24],
      [{ reroute: 'via:mx.test:25' }, 24],
      [{ reroute: null }, 12],
      ['delete', 24],
    ];
    for (const [action, rows] of actions) {
      const operated = await soon(nameOf(action), queue.database.operate(action, {}, 5000));
      assert.deepEqual([operated.rows, operated.sending], [rows, 0], nameOf(action));
    }
    await other.query('ROLLBACK');
  });

  it('an action that waited for a lock in vain is tried again', async (t) => {
    const queue = open('a', server.port);
    const other = await server.connect(access.database);
    t.after(async () => {
      await other.end();
      await queue.close();
    });
    const ids = [
      await queue.add(['a@one.test']),
      await queue.add(['b@one.test']),
      await queue.add(['c@one.test']),
    ];
    await other.query('START TRANSACTION');
    await other.query('SELECT * FROM mail_recipients WHERE mail_id = ? FOR UPDATE', [ids[1]]);
    const waits = async (): Promise<number> => {
      const status = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'";
      return Number((await server.query<{ Value: string }[]>(status))[0]?.Value);
    };
    const before = await waits();
    const operated = queue.database.operate('delete', {}, 5000);
    await eventually(async () => assert.ok((await waits()) > before + 1, 'it waits once more'));
    await other.query('ROLLBACK');
    assert.equal((await operated).rows, 3);
    assert.equal((await queue.database.stats()).mails, 0);
  });

  it('a lease that another transaction has at the moment is ours all the same', async (t) => {
    const queue = open('a', server.port);
    const other = await server.connect(access.database);
    t.after(async () => {
      await other.end();
      await queue.close();
    });
    const [locked, free] = [
      await queue.add(['a@one.test'], 'SENDING'),
      await queue.add(['b@one.test'], 'SENDING'),
    ];
    await other.query('START TRANSACTION');
    await other.query('SELECT * FROM mail_outbox WHERE mail_id = ? FOR UPDATE', [locked]);
    const keys = [locked, free].map((queueId) => ({ queueId, destination: 'one.test' }));
    assert.equal(await soon('renewing', queue.database.renew(keys, 70_000)), 2);
    const due = await server.query<{ due: bigint }[]>(
      `SELECT due_at AS due FROM ${access.database}.mail_outbox ORDER BY mail_id`,
    );
    assert.equal(Number(due[1]?.due), 70_000);
    // A message withdrawn meanwhile stays for the next try.
    const { withdrawLater } = await soon(
      'a withdrawal',
      queue.database.commit(queue.batch({ withdrawals: [locked, free] })),
    );
    assert.deepEqual(withdrawLater, [locked]);
    await other.query('ROLLBACK');
    const again = await queue.database.commit(queue.batch({ withdrawals: [locked] }));
    assert.equal(again.withdrawLater, undefined);
    assert.equal((await queue.database.stats()).mails, 0);
  });
});
