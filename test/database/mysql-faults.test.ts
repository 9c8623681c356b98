/** What a queue on MariaDB does when server, network or tables are not as they should be. */
import assert from 'node:assert/strict';
import { copyFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Connection } from 'mariadb';
import type { RelayError } from '../../src/base/errors.ts';
import { openConnection } from '../../src/database/mysql/connection.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import { deferred, delivered, QueueFixture } from '../persistence/fixture.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';

const skip = skipWithoutMariaDb();
/** The numbers of the scripts. */
const STEPS = readdirSync(join(import.meta.dirname, '../../config/sql/mysql'))
  .map((name) => Number.parseInt(name, 10))
  .sort((a, b) => a - b);

describe('mysql faults', { skip }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;
  let queue: QueueFixture;
  let proxy: CommitProxy | null = null;

  before(async () => {
    server = await MariaDb.start();
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
  });
  after(() => server?.close());
  beforeEach(async () => {
    await server.empty(access);
    open();
  });
  afterEach(async () => {
    server.resume();
    await queue.close();
    await proxy?.close();
    proxy = null;
  });

  function open(changes: object = {}, of: DatabaseAccess = access): void {
    queue = new QueueFixture({
      database: { driver: 'mysql', ...of, connection_timeout_ms: 2000, query_timeout_ms: 2000, ...changes },
      storage: { provider: 'local' },
    });
  }
  async function reopen(changes: object, of?: DatabaseAccess): Promise<void> {
    await queue.close();
    open(changes, of);
  }
  const refusal = async (code: string, text: RegExp): Promise<void> => {
    await assert.rejects(queue.database.recover(0), (error: RelayError) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, text);
      assert.ok(error.message.includes(access.host), 'names the server');
      assert.ok(!error.message.includes(access.password), 'not the password');
      return true;
    });
  };

  describe('at start', () => {
    it('refuses a database without tables, and says how to make them', async () => {
      const empty = await server.createDatabase();
      await reopen({}, empty);
      await refusal('schema_unknown', /no tables of a relay: run "protorelay db migrate"/);
    });

    it('refuses a schema from the future', async () => {
      const future = await server.createDatabase();
      await migrate(serverConfig(server.admin(future)), 0);
      await server.query(`INSERT INTO ${future.database}.relay_schema VALUES (99, 0)`);
      await reopen({}, future);
      await refusal('schema_unknown', /version 99, this relay knows up to \d+: run the newer relay/);
    });

    it('migrates once, and again without harm', async () => {
      const fresh = await server.createDatabase();
      const admin = serverConfig(server.admin(fresh));
      const [first, second] = await Promise.all([migrate(admin, 1), migrate(admin, 2)]);
      assert.deepEqual([...first, ...second], STEPS, 'two at once do it once');
      assert.deepEqual(await migrate(admin, 3), []);
    });

    it('goes on after an interruption: what a step did already is no fault', async () => {
      const fresh = await server.createDatabase();
      const admin = serverConfig(server.admin(fresh));
      await migrate(admin, 1);
      await server.query(`DELETE FROM ${fresh.database}.relay_schema WHERE version > 1`);
      const { database } = fresh;
      await server.query(`INSERT INTO ${database}.mail_outbox (mail_id, destination, state, attempts, fence, seqs, waiting, reason)
        VALUES ('a', 'one.test', 'HELD', 2, 1, '0', 1, 'suspected-poison')`);
      assert.deepEqual(await migrate(admin, 2), STEPS.slice(1));
      const [row] = await server.query<{ reason: string }[]>(`SELECT reason FROM ${database}.mail_outbox`);
      assert.equal(row?.reason, 'suspected_poison', 'as an earlier release wrote it');
    });

    it('a relay’s user may not make tables: migrate says so', async () => {
      const fresh = await server.createDatabase();
      await assert.rejects(migrate(serverConfig(fresh), 0), (error: RelayError) => {
        assert.match(error.message, /CREATE command denied/);
        return error.code === 'database_unavailable';
      });
    });

    it('refuses a database that is another shard', async () => {
      await queue.database.recover(0);
      const { name: _, ...shard } = { name: '', ...access };
      await queue.close();
      queue = new QueueFixture({
        database: { driver: 'mysql_distributed', shards: [{ name: 'moved', id: 7, ...shard }] },
        storage: { provider: 'local' },
      });
      const { DatabaseClient } = await import('../../src/persistence/database-client.ts');
      const client = new DatabaseClient(queue.pool, { shard: 7 });
      await assert.rejects(client.recover(0), (error: RelayError) => {
        assert.match(error.message, /holds the mail of shard 0, the config has it as shard 7/);
        return error.code === 'schema_unknown';
      });
    });

    it('says that the password is wrong, and that nobody listens', async () => {
      await reopen({ password: 'wrong' });
      await refusal('database_unavailable', /Access denied.*check user and password/s);
      await reopen({ port: 1 });
      await refusal('database_unavailable', /ECONNREFUSED/);
    });

    it('connects over the Unix socket', async () => {
      await reopen({ socket: server.socket, host: 'nowhere.invalid' });
      assert.deepEqual(await queue.database.recover(0), { released: 0, rekeyed: 0, newestQueueId: null });
    });
  });

  it('max_allowed_packet is too small for a message: that one is refused, the server is not taken for lost', async () => {
    await server.query('SET GLOBAL max_allowed_packet = 1048576');
    try {
      await reopen({});
      const message = queue.message(Array.from({ length: 2000 }, (_, i) => `u${i}@one.test`));
      for (const recipient of message.envelope.recipients) recipient.orcpt = `rfc822;${'x'.repeat(500)}`;
      const request = queue.batch({ messages: [queue.plan(message)] });
      await assert.rejects(queue.database.commit(request), (error: RelayError) => {
        assert.match(error.message, /max_allowed_packet.*; set it to 16 MiB or more/);
        return error.code === 'database_refused';
      });
      await queue.add(['u@one.test']);
    } finally {
      await server.query('SET GLOBAL max_allowed_packet = 16777216');
    }
  });

  describe('a connection lost at COMMIT', () => {
    beforeEach(async () => {
      proxy = await CommitProxy.start(server.port);
      await reopen({ port: proxy.port });
      await queue.add(['warm@one.test'], 'HELD');
    });

    for (const cut of ['before', 'after'] as const)
      it(`${cut} the server did it: every message is there once, and said to be`, async () => {
        const sending = await queue.add(['s@one.test'], 'SENDING');
        const messages = [1, 2, 3].map((n) => queue.message([`u${n}@one.test`]));
        (proxy as CommitProxy).cuts = [cut];
        const result = await queue.database.commit(
          queue.batch({
            messages: messages.map((message) => queue.plan(message)),
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
          }),
        );
        assert.deepEqual(result, {
          messages: ['committed', 'committed', 'committed'],
          settlements: [true],
        });
        assert.equal((proxy as CommitProxy).cuts.length, 0, 'the connection was cut');
        assert.equal((await queue.database.stats()).mails, 4);
        for (const { queueId } of messages) assert.match((await queue.cat(queueId)) ?? '', /content of/);
      });

    it('waits for a server that is away, and then knows', async () => {
      const message = queue.message(['u@one.test']);
      (proxy as CommitProxy).cuts = ['after'];
      const commit = queue.database.commit(queue.batch({ messages: [queue.plan(message)] }));
      while ((proxy as CommitProxy).cuts.length > 0) await new Promise((done) => setTimeout(done, 5));
      await server.kill();
      await server.start();
      assert.deepEqual((await commit).messages, ['committed']);
      assert.equal((await queue.database.stats()).mails, 2);
    });

    it('a message whose session gave up meanwhile is gone again', async () => {
      const message = queue.message(['u@one.test']);
      (proxy as CommitProxy).cuts = ['after'];
      const commit = queue.database.commit(queue.batch({ messages: [queue.plan(message)] }));
      while ((proxy as CommitProxy).cuts.length > 0) await new Promise((done) => setTimeout(done, 1));
      queue.arena.moveState(message.content, CONTENT_STATE.committing, CONTENT_STATE.abandoned);
      assert.deepEqual((await commit).messages, ['withdrawn']);
      assert.equal(await queue.database.show(message.queueId), null);
    });

    it('a claim leases nothing that nobody learns of', async () => {
      await queue.add(['a@one.test']);
      const request = {
        destination: 'one.test',
        limit: 9,
        maxRecipients: 9,
        nowMs: 1000,
        leaseUntilMs: 61_000,
      };
      (proxy as CommitProxy).cuts = ['after'];
      await assert.rejects(queue.database.claim(request), { code: 'database_unavailable' });
      const until = Date.now() + 5000;
      let jobs = (await queue.database.claim(request)).jobs;
      while (jobs.length === 0 && Date.now() < until) jobs = (await queue.database.claim(request)).jobs;
      assert.equal(jobs.length, 1, 'it was given back');
      assert.equal(jobs[0]?.fence, 2);
    });
  });

  it('goes on after the server was restarted, without an error in between', async () => {
    await queue.add(['a@one.test']);
    await server.stop();
    await server.start();
    await queue.add(['b@one.test']);
    assert.equal((await queue.database.stats()).mails, 2);
  });

  it('gives up a server that hangs, after query_timeout_ms, and works when it goes on', async () => {
    await queue.add(['a@one.test']);
    server.pause();
    const sinceMs = Date.now();
    await assert.rejects(queue.database.backlog(), (error: RelayError) => {
      assert.equal(error.code, 'database_unavailable');
      assert.match(error.message, /no answer within 2000 ms/);
      return true;
    });
    assert.ok(Date.now() - sinceMs < 10_000);
    server.resume();
    assert.equal((await queue.database.backlog()).length, 1);
  });

  describe('a server that cannot do the work', () => {
    const admin = async (sql: string): Promise<void> => {
      await server.query(sql);
    };
    const cases: [string, string, string][] = [
      ['is read-only', 'SET GLOBAL read_only = 1', 'SET GLOBAL read_only = 0'],
      [
        'lets us read only',
        "REVOKE INSERT, UPDATE, DELETE ON DB.* FROM relay@'127.0.0.1'",
        "GRANT INSERT, UPDATE, DELETE ON DB.* TO relay@'127.0.0.1'",
      ],
      [
        'lets us delete nothing',
        "REVOKE DELETE ON DB.* FROM relay@'127.0.0.1'",
        "GRANT DELETE ON DB.* TO relay@'127.0.0.1'",
      ],
    ];
    for (const [name, begins, ends] of cases)
      it(`${name}: the probe says so, and is well again afterwards without a restart`, async () => {
        await queue.add(['a@one.test']);
        await queue.database.ping();
        await admin(begins.replace('DB', access.database));
        // A connection keeps the rights on its database that it had.
        if (begins.startsWith('REVOKE')) await reopen({});
        try {
          await assert.rejects(
            queue.database.ping(),
            (error: RelayError) => error.code === 'database_unavailable',
          );
          const message = queue.message(['b@one.test']);
          const batch = queue.batch({ messages: [queue.plan(message)], withdrawals: ['none'] });
          if (!begins.includes('REVOKE DELETE'))
            await assert.rejects(queue.database.commit(batch), { code: 'database_unavailable' });
        } finally {
          await admin(ends.replace('DB', access.database));
        }
        await queue.database.ping();
        assert.equal((await queue.database.stats()).mails, 1, 'the probe leaves nothing behind');
        const [left] = await server.query<{ n: bigint }[]>(
          `SELECT COUNT(*) AS n FROM ${access.database}.relay_commits WHERE lane LIKE '%probe%'`,
        );
        assert.equal(Number(left?.n), 0);
      });
  });

  describe('locks', () => {
    let other: Connection;
    beforeEach(async () => {
      other = await server.connect(access.database);
    });
    afterEach(() => other.end());

    it('a deadlock undoes also what was sent behind the statement that met it', async () => {
      const queueId = await queue.add(['a@one.test'], 'SENDING');
      await other.query('START TRANSACTION');
      for (let i = 0; i < 200; i++)
        await other.query('INSERT INTO relay_state VALUES (?, ?)', [`x${i}`, 'x']);
      await other.query("UPDATE mail_recipients SET reason = 'held' WHERE mail_id = ?", [queueId]);
      // It locks the row and the mail, then waits for the recipient; the row's new state is on its way behind that.
      const settled = queue.settle({
        queueId,
        destination: 'one.test',
        groups: [deferred([0])],
        retryAtMs: 5000,
      });
      for (;;) {
        const [waits] = await server.query<{ n: bigint }[]>(
          "SELECT COUNT(*) AS n FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
        );
        if (Number(waits?.n) > 0) break;
      }
      await other.query('UPDATE mails SET dead = 0 WHERE id = ?', [queueId]);
      await other.query('COMMIT');
      assert.equal(await settled, true, 'done again as if the first time had never been');
      const mail = await queue.database.show(queueId);
      assert.deepEqual(
        mail?.rows.map(({ state, nextAttemptMs }) => [state, nextAttemptMs]),
        [['RETRY', 5000]],
      );
    });

    it('rows another node is claiming are skipped, not waited for', async () => {
      const [first, second] = [await queue.add(['a@one.test']), await queue.add(['b@one.test'])];
      await other.query('START TRANSACTION');
      await other.query('SELECT * FROM mail_outbox WHERE mail_id = ? FOR UPDATE', [first]);
      const request = {
        destination: 'one.test',
        limit: 9,
        maxRecipients: 9,
        nowMs: 1000,
        leaseUntilMs: 61_000,
      };
      const { jobs } = await queue.database.claim(request);
      assert.deepEqual(
        jobs.map(({ queueId }) => queueId),
        [second],
      );
      await other.query('ROLLBACK');
    });
  });
});

describe('mysql over TLS', { skip }, () => {
  it('is encrypted; with verify a certificate nobody signed is refused', async () => {
    const { certificate } = await import('../services/certificate.ts');
    const tls = certificate();
    const server = await MariaDb.start({ args: [`--ssl-cert=${tls.cert}`, `--ssl-key=${tls.key}`] });
    try {
      const access = await server.createDatabase();
      const admin = serverConfig(server.admin(access));
      await migrate({ ...admin, tls: 'encrypt' }, 0);
      await server.query(`ALTER USER relay@'127.0.0.1' REQUIRE SSL`);
      const open = (changes: object): QueueFixture =>
        new QueueFixture({
          database: { driver: 'mysql', ...access, ...changes },
          storage: { provider: 'local' },
        });
      const cases = [
        [{ tls: 'off' }, 'Access denied'],
        [{ tls: 'encrypt' }, ''],
        [{ tls: 'verify' }, 'self-signed certificate'],
        [{ tls: 'verify', host: 'localhost', tls_ca_file: tls.cert }, ''],
        // By its address: what the certificate says of addresses counts.
        [{ tls: 'verify', host: '127.0.0.1', tls_ca_file: tls.cert }, ''],
      ] as const;
      for (const [changes, wrong] of cases) {
        const queue = open(changes);
        const said = await queue.database.recover(0).then(
          () => '',
          (error: Error) => error.message,
        );
        if (wrong === '') assert.equal(said, '', JSON.stringify(changes));
        else assert.ok(said.includes(wrong), said);
        await queue.close();
      }
      // A certificate that has a name and no address.
      const named = certificate('DNS:localhost');
      copyFileSync(named.cert, tls.cert);
      copyFileSync(named.key, tls.key);
      named.remove();
      await server.query('FLUSH SSL');
      const queue = open({ tls: 'verify', host: '127.0.0.1', tls_ca_file: tls.cert });
      await assert.rejects(queue.database.recover(0), /IP: 127\.0\.0\.1 is not in the cert's list/);
      await queue.close();
      const connection = await openConnection(serverConfig({ ...access, tls: 'encrypt' } as DatabaseAccess));
      const asked = connection.query('SELECT SLEEP(5)');
      connection.destroy();
      await assert.rejects(asked, /was given up/);
    } finally {
      await server.close();
      tls.remove();
    }
  });
});
