/** Users in the MariaDB of the queue: found, changed, and found again after the server was away. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Authenticator } from '../../src/auth/authenticator.ts';
import { makeHash } from '../../src/auth/hashes.ts';
import { configSchema } from '../../src/config/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';

test('users of MariaDB', { skip: skipWithoutMariaDb(), timeout: 120_000 }, async (t) => {
  const maria = await MariaDb.start();
  t.after(() => maria.close());
  const access = await maria.createDatabase();
  const table = `${access.database}.users`;
  await maria.query(`CREATE TABLE ${table} (username VARCHAR(255) COLLATE utf8mb4_bin PRIMARY KEY,
    hash VARCHAR(512) NOT NULL, sender_policy VARCHAR(8), senders TEXT, messages_per_hour INT, messages_per_day INT,
    recipients_per_hour INT, recipients_per_day INT)`);
  const add = (name: string, hash: string): Promise<unknown> =>
    maria.query(`INSERT INTO ${table} (username, hash, messages_per_day) VALUES (?, ?, 5)`, [name, hash]);
  await add('ü', makeHash('p', 'argon2id'));
  await add('s', makeHash('p', 'scram-sha-256'));
  const logged: LogLine[] = [];
  const { auth } = configSchema.parse({ auth: { backends: [{ type: 'database' }], cache_ttl_ms: 0 } });
  const one = new Authenticator(auth, Buffer.alloc(32), recordingLog(logged), Date.now, serverConfig(access));
  t.after(() => one.close());
  const login = (username: string, password: string) =>
    one.answer({ id: 1, credentials: { kind: 'password', username, password }, client: '192.0.2.1' });
  const accepted = await login('ü', 'p');
  assert.ok(accepted.result === 'accepted', JSON.stringify(logged));
  assert.equal(accepted.user.rules.quotas.messagesPerDay, 5);
  assert.equal((await login('ü', 'q')).result, 'rejected');
  assert.equal((await login('Ü', 'p')).result, 'rejected');
  assert.equal((await login("x' OR '1'='1", 'p')).result, 'rejected');
  const keys = await one.answer({
    id: 1,
    credentials: { kind: 'scram', username: 's' },
    client: '192.0.2.1',
  });
  assert.ok(keys.result === 'keys' && keys.user?.name === 's');
  await maria.stop();
  assert.equal((await login('ü', 'p')).result, 'unavailable');
  assert.ok(!JSON.stringify(logged).includes(access.password));
  await maria.start();
  assert.equal((await login('ü', 'p')).result, 'accepted');
});
