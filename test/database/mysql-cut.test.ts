/**
 * A connection breaks at each statement of each operation in turn: whoever asked is told, or the operation is done
 * again. An error that nobody waits for would end the process (an unhandled rejection fails the test it comes up in).
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { RelayError } from '../../src/base/errors.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { hashOf } from '../../src/mail/begun-slots.ts';
import { delivered, QueueFixture } from '../persistence/fixture.ts';
import { CommitProxy } from '../services/commit-proxy.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';

/** More than any operation sends. */
const MOST_STATEMENTS = 60;
/** Operations that find something else when they are done again. */
const USES_UP = new Set(['commit', 'withdrawal', 'claim']);

describe('mysql: a connection that breaks at any statement', { skip: skipWithoutMariaDb() }, () => {
  let server: MariaDb;
  let access: DatabaseAccess;
  let proxy: CommitProxy;
  let queue: QueueFixture;
  let nowMs = 0;

  before(async () => {
    server = await MariaDb.start({ args: ['--innodb-flush-log-at-trx-commit=0'] }); // nothing of it has to last
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
    proxy = await CommitProxy.start(server.port);
    queue = new QueueFixture({
      database: { driver: 'mysql', ...access, port: proxy.port, query_timeout_ms: 20_000 },
      storage: { provider: 'local' },
    });
  });
  after(async () => {
    await queue?.close();
    await proxy?.close();
    await server?.close();
  });

  const addresses = (count: number, domain: string): string[] =>
    Array.from({ length: count }, (_, i) => `u${i}@${domain}`);
  /** Mails whose recipients are read in each of the ways there are. */
  async function fill(): Promise<string> {
    await queue.add(addresses(6, 'one.test'));
    await queue.add([...addresses(2, 'one.test'), ...addresses(110, 'two.test'), 'last@one.test']);
    return queue.add(['a@one.test'], 'SENDING');
  }
  const message = () => {
    const [one, many] = [queue.message(['new@one.test']), queue.message(addresses(6, 'two.test'))];
    return { messages: [queue.plan(one), queue.plan(many)] };
  };

  const operations: Record<string, (queueId: string) => Promise<unknown>> = {
    commit: (queueId) => {
      const parts = { queueId, destination: 'one.test', fence: 1, attempts: 1, groups: [delivered([0])] };
      const settlement = { ...parts, retryAtMs: null, delayNotified: false };
      return queue.database.commit(queue.batch({ settlements: [settlement], ...message() }));
    },
    withdrawal: (queueId) => queue.database.commit(queue.batch({ withdrawals: [queueId] })),
    claim: () => {
      nowMs += 100_000;
      const request = { destination: 'one.test', limit: 500, maxRecipients: 5000, nowMs };
      return queue.database.claim({ ...request, leaseUntilMs: nowMs + 60_000 });
    },
    renewing: (queueId) => queue.database.renew([{ queueId, destination: 'one.test' }], 90_000),
    release: (queueId) =>
      queue.database.release([{ queueId, destination: 'one.test', fence: 1, reason: 'drain' }], 5000),
    suspects: (queueId) => queue.database.suspect([{ queueId, hash: hashOf('one.test'), fence: 1 }], 5000),
    recovery: () => queue.database.recover(5000),
    list: () => queue.database.list({ limit: 100 }),
    show: (queueId) => queue.database.show(queueId),
    stats: () => queue.database.stats(),
    hold: (queueId) => queue.database.operate('hold', { ids: [queueId] }, 5000),
    purge: () => queue.database.purge(5000, 100),
  };

  for (const [name, operation] of Object.entries(operations))
    it(`${name}: nothing is left that nobody waits for`, async () => {
      let met = 0;
      let queueId = '';
      for (let at = 1; at <= MOST_STATEMENTS; at++) {
        if (at === 1 || USES_UP.has(name)) {
          await server.empty(access);
          queueId = await fill();
        }
        proxy.frozen = false;
        proxy.freezeAfter = at;
        let over = false;
        const work = operation(queueId).then(
          () => null,
          (error: RelayError) => error,
        );
        void work.then(() => {
          over = true;
        });
        while (!over && !proxy.frozen) await turn();
        proxy.freezeAfter = null;
        if (!proxy.frozen) break;
        met++;
        proxy.cutAll();
        // Where it is not known whether a COMMIT happened, that is the answer.
        const error = await work;
        assert.ok(error === null || error.code === 'database_unavailable', `statement ${at}: ${error}`);
      }
      assert.ok(met > 0 && met < MOST_STATEMENTS, `${met} statements`);
    });
});
