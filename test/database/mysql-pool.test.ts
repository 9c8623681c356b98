import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mariadb';
import type { ServerConfig } from '../../src/config/schema.ts';
import { Endpoints, hostOf } from '../../src/database/mysql/endpoints.ts';
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

/** A connection that is only counted. */
class Counted extends EventEmitter {
  readonly isValid = () => true;
  readonly ping = async () => {};
  readonly end = async () => {};
  readonly destroy = () => {};
}

describe('places for connections', () => {
  it('none is lost where a server answers after who waited has given up', async () => {
    let connectMs = 0;
    const open = async () => {
      await sleep(connectMs);
      return new Counted() as unknown as Connection;
    };
    const server = { connection_timeout_ms: 40, idle_timeout_ms: 60_000 } as ServerConfig;
    const pool = new ConnectionPool({
      server,
      endpoints: { open },
      maxConnections: 2,
      initialConnections: 1,
    });
    for (let round = 0; round < 3; round++) {
      connectMs = 0;
      const lent = await Promise.all([pool.acquire(), pool.acquire()]);
      connectMs = 80;
      const waiting = Promise.allSettled([pool.acquire(), pool.acquire()]);
      for (const connection of lent) pool.discard(connection);
      assert.deepEqual([...new Set((await waiting).map(({ status }) => status))], ['rejected']);
      await sleep(100);
    }
    connectMs = 0;
    const lent = await Promise.all([pool.acquire(), pool.acquire()]);
    await assert.rejects(pool.acquire(), /all 2 connections are in use/);
    for (const connection of lent) pool.release(connection);
    await pool.close();
  });
});
