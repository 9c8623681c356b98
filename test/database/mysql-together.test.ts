/** Actions on MariaDB change the rows of a slice together: what comes of it is what comes of it entry by entry. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Connection } from 'mariadb';
import type { OperateAction } from '../../src/database/database.ts';
import { openConnection } from '../../src/database/mysql/connection.ts';
import { operateSlice } from '../../src/database/mysql/operate.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import type { OperateSlice } from '../../src/database/slices.ts';
import { routeTable } from '../../src/persistence/queue-thread.ts';
import { bounced, deferred, delivered, QueueFixture } from '../persistence/fixture.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';

const ACTIONS: OperateAction[] = [
  'hold',
  'release',
  'flush',
  { reroute: 'via:mx.test:25' },
  { reroute: null },
  { fail: 'said' },
  'delete',
];
const NOW_MS = 5000;
const TABLES = ['mails', 'mail_outbox', 'mail_recipients', 'attachments', 'mail_headers'];

describe('mysql: rows of a slice together', { skip: skipWithoutMariaDb() }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;
  let queue: QueueFixture;
  let connection: Connection;
  let admin: Connection;

  before(async () => {
    server = await MariaDb.start();
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
    queue = new QueueFixture({ database: { driver: 'mysql', ...access }, storage: { provider: 'local' } });
    connection = await openConnection(serverConfig(access));
    admin = await server.connect(access.database);
    await admin.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
    await make();
  });
  after(async () => {
    await connection?.end();
    await admin?.end();
    await queue?.close();
    await server?.close();
  });

  /** Messages with one row, or some, in every state; kept in tables of their own. */
  async function make(): Promise<void> {
    const kept = [{ name: 'x-kept', value: 'yes' }];
    for (let i = 0; i < 36; i++) {
      const addresses = [`u@one${i % 5}.test`];
      if (i % 6 === 0) addresses.push('v@two.test', 'w@two.test');
      const state = i % 9 === 4 ? 'HELD' : i % 6 === 0 || i % 7 === 3 ? 'SENDING' : 'PENDING';
      const id = await queue.add(addresses, state, i % 8 === 1 ? { message: { headers: kept } } : {});
      if (i % 6 !== 0) continue;
      const groups = [delivered([1]), i % 12 === 0 ? deferred([2]) : bounced([2])];
      await queue.settle({ queueId: id, destination: 'two.test', groups });
    }
    for (const table of TABLES) await admin.query(`CREATE TABLE kept_${table} LIKE ${table}`);
    await copy('', 'kept_');
  }

  async function copy(from: string, to: string): Promise<void> {
    for (const table of TABLES) {
      const columns = await admin.query<{ Field: string; Extra: string }[]>(`SHOW COLUMNS FROM ${table}`);
      const names = columns.filter(({ Extra }) => !/GENERATED/.test(Extra)).map(({ Field }) => Field);
      await admin.query(
        `DELETE FROM ${to}${table}; INSERT INTO ${to}${table} (${names}) SELECT ${names} FROM ${from}${table}`,
      );
    }
  }
  const fill = (): Promise<void> => copy('kept_', '');

  async function act(action: OperateAction, most: number, byEntry: boolean): Promise<OperateSlice[]> {
    const slices: OperateSlice[] = [];
    const routes = routeTable(queue.config);
    for (let next: string | null = ''; next !== null; ) {
      const bounds = { action, selection: {}, nowMs: NOW_MS, after: next, most, byEntry };
      const { slice } = await operateSlice(connection, bounds, routes);
      await connection.query('COMMIT');
      slices.push(slice);
      next = slice.next;
    }
    return slices;
  }

  async function content(): Promise<unknown[]> {
    const found: unknown[] = [];
    for (const table of TABLES) found.push(await admin.query(`SELECT * FROM ${table} ORDER BY 1, 2`));
    return found;
  }

  /** Without the order, which nobody is promised. */
  const told = (slices: OperateSlice[]) =>
    slices.map(({ changes, removed, ...rest }) => ({
      ...rest,
      changes: changes
        .filter(({ rows }) => rows !== 0)
        .sort((a, b) => (a.destination < b.destination ? -1 : 1)),
      removed: removed.map((entry) => JSON.stringify(entry)).sort(),
    }));

  for (const action of ACTIONS)
    it(`${JSON.stringify(action)}: as entry by entry`, async () => {
      const outcomes = [];
      for (const byEntry of [false, true]) {
        await fill();
        if (typeof action === 'object' && 'reroute' in action && action.reroute === null)
          await act({ reroute: 'via:mx.test:25' }, 7, true);
        outcomes.push({ slices: told(await act(action, 7, byEntry)), content: await content() });
      }
      const [together, each] = outcomes;
      assert.deepEqual(together?.slices, each?.slices);
      assert.deepEqual(together?.content, each?.content);
      assert.ok((together?.slices.reduce((sum, { rows }) => sum + rows, 0) ?? 0) > 0);
    });

  it('what another transaction has is left out, and nobody waits for it', async () => {
    await fill();
    const [row] = await admin.query<{ id: string }[]>(
      "SELECT mail_id AS id FROM mail_outbox WHERE state = 'PENDING' ORDER BY mail_id LIMIT 1 OFFSET 5",
    );
    await admin.query('START TRANSACTION');
    await admin.query('SELECT * FROM mail_outbox WHERE mail_id = ? FOR UPDATE', [row?.id]);
    const before = await admin.query('SELECT * FROM mail_outbox WHERE mail_id = ?', [row?.id]);
    for (const action of ACTIONS) {
      const slices = await act(action, 1000, false);
      const sending = slices.flatMap((slice) => slice.sending);
      if (action !== 'release' && typeof action === 'string') assert.ok(sending.includes(String(row?.id)));
    }
    const now = await admin.query('SELECT * FROM mail_outbox WHERE mail_id = ?', [row?.id]);
    assert.deepEqual(now, before);
    await admin.query('ROLLBACK');
  });
});
