import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mariadb';
import { Endpoints, hostOf } from '../../src/database/mysql/endpoints.ts';
import { isLost } from '../../src/database/mysql/errors.ts';
import { ConnectionPool } from '../../src/database/mysql/pool.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';

describe('connections to a server', { skip: skipWithoutMariaDb() }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;
  before(async () => {
    server = await MariaDb.start();
    access = await server.createDatabase();
  });
  after(() => server?.close());

  const pool = (changes: object): ConnectionPool => {
    const config = { ...serverConfig(access), connection_timeout_ms: 200, idle_timeout_ms: 150, ...changes };
    const endpoints = new Endpoints(config);
    return new ConnectionPool({ server: config, endpoints, maxConnections: 3, initialConnections: 1 });
  };
  const open = async (): Promise<number> => {
    const [row] = await server.query<{ n: bigint }[]>(
      "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE user = 'relay'",
    );
    return Number(row?.n);
  };

  it('initial_pool_size are opened at start, the others end after idle_timeout_ms', async () => {
    const connections = pool({});
    await connections.warm();
    assert.equal(await open(), 1);
    const lent = await Promise.all([connections.acquire(), connections.acquire(), connections.acquire()]);
    assert.equal(await open(), 3);
    for (const connection of lent) connections.release(connection);
    const until = Date.now() + 5000;
    while ((await open()) > 1 && Date.now() < until) await sleep(20);
    assert.equal(await open(), 1);
    await connections.close();
    while ((await open()) > 0 && Date.now() < until) await sleep(5);
    assert.equal(await open(), 0);
  });

  it('beyond max_pool_size a connection is waited for, not longer than connection_timeout_ms', async () => {
    const connections = pool({});
    const lent = await Promise.all([connections.acquire(), connections.acquire(), connections.acquire()]);
    await assert.rejects(connections.acquire(), /all 3 connections are in use \(max_pool_size\)/);
    const waiting = connections.acquire();
    connections.release(lent[0] as (typeof lent)[0]);
    assert.equal(await waiting, lent[0]);
    const anew = connections.acquire();
    connections.discard(lent[1] as (typeof lent)[0]);
    assert.notEqual(await anew, lent[1], 'one that was lost is replaced');
    await connections.close();
  });

  it('a connection that comes too late for whoever waited is there for the next', async () => {
    const config = { ...serverConfig(access), connection_timeout_ms: 100 };
    const real = new Endpoints(config);
    const late = Promise.withResolvers<Connection>();
    let opened = 0;
    const open = (): Promise<Connection> => (opened++ === 0 ? real.open() : late.promise);
    const connections = new ConnectionPool({
      server: config,
      endpoints: { open },
      maxConnections: 1,
      initialConnections: 1,
    });
    const first = await connections.acquire();
    const waiting = connections.acquire();
    connections.discard(first);
    await assert.rejects(waiting, /all 1 connections are in use/);
    const next = await real.open();
    late.resolve(next);
    assert.equal(await connections.acquire(), next);
    connections.release(next);
    await connections.close();
  });

  for (const over of ['TCP', 'a Unix socket'] as const)
    it(`a connection over ${over} that is given up takes along what was asked on it, without another`, async () => {
      const socket = over === 'TCP' ? null : server.socket;
      const connection = await new Endpoints({ ...serverConfig(access), socket }).open();
      const before = await server.query<{ Value: string }[]>("SHOW STATUS LIKE 'Connections'");
      const asked = ['SELECT SLEEP(5)', 'SELECT 2', 'SELECT 3'].map((sql) => connection.query(sql));
      asked.push(connection.execute('SELECT ?', [4]));
      connection.destroy();
      for (const { status, ...said } of await Promise.allSettled(asked)) {
        assert.equal(status, 'rejected');
        assert.ok(isLost((said as PromiseRejectedResult).reason));
      }
      assert.equal(connection.isValid(), false);
      connection.destroy();
      const after = await server.query<{ Value: string }[]>("SHOW STATUS LIKE 'Connections'");
      assert.equal(Number(after[0]?.Value) - Number(before[0]?.Value), 1, 'the one that asks');
    });

  it('the server gives up a statement that nobody waits for any more', async () => {
    const connection = await new Endpoints({ ...serverConfig(access), query_timeout_ms: 500 }).open();
    await assert.rejects(connection.query('SELECT SLEEP(9)'), /max_statement_time|interrupted/);
    await connection.end();
  });

  it('an idle connection the server closed is not lent', async () => {
    const connections = pool({ idle_timeout_ms: 60_000 });
    const first = await connections.acquire();
    connections.release(first);
    await server.query(`KILL ${first.threadId}`);
    await sleep(50);
    const next = await connections.acquire();
    assert.notEqual(next.threadId, first.threadId);
    connections.release(next);
    await connections.close();
  });

  it('an endpoint that cannot be reached, or is read-only, is passed over for the next', async (t) => {
    t.after(() => server.query('SET GLOBAL read_only = 0'));
    const here = `127.0.0.1:${access.port}`;
    const connections = pool({ port: 1, endpoints: ['127.0.0.1:2', here] });
    connections.release(await connections.acquire());
    await server.query('SET GLOBAL read_only = 1');
    connections.forgetIdle();
    await assert.rejects(connections.acquire(), /ECONNREFUSED|is read-only/);
    await server.query('SET GLOBAL read_only = 0');
    connections.release(await connections.acquire());
    await connections.close();
  });

  it('db migrate and what only reads go to endpoints too; a reader takes one that is read-only', async (t) => {
    t.after(() => server.query('SET GLOBAL read_only = 0'));
    const config = serverConfig(server.admin(access));
    const away = { ...config, port: 1, endpoints: [`127.0.0.1:${access.port}`] };
    const fresh = await server.createDatabase();
    const applied = await migrate({ ...away, database: fresh.database }, 0);
    assert.ok(applied.length > 0, 'its tables are made');
    assert.deepEqual(await migrate(serverConfig(server.admin(fresh)), 0), [], 'there');
    await server.query('SET GLOBAL read_only = 1');
    await assert.rejects(migrate(away, 0), /is read-only/);
    await assert.rejects(new Endpoints(away).open(), /is read-only/);
    const reader = await new Endpoints(away, { onlyReads: true }).open();
    assert.equal((await reader.query<{ n: number }[]>('SELECT 1 AS n'))[0]?.n, 1);
    await reader.end();
  });

  it('reads endpoints with and without a port', () => {
    assert.deepEqual(['db.example', 'db.example:3307', '[2001:db8::2]:3308', '[2001:db8::2]'].map(hostOf), [
      { host: 'db.example', port: 3306 },
      { host: 'db.example', port: 3307 },
      { host: '2001:db8::2', port: 3308 },
      { host: '2001:db8::2', port: 3306 },
    ]);
  });
});
