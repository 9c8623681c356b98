/** Users in the MariaDB of the queue: found, changed, and found again after the server was away. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Authenticator } from '../../src/auth/authenticator.ts';
import { makeHash } from '../../src/auth/hashes.ts';
import { configSchema } from '../../src/config/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';
import { eventually } from '../support/wait.ts';

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
  const logged: LogLine[] = [];
  const { auth } = configSchema.parse({ auth: { backends: [{ type: 'database' }], cache_ttl_ms: 0 } });
  const one = new Authenticator(auth, Buffer.alloc(32), recordingLog(logged), Date.now, serverConfig(access));
  t.after(() => one.close());
  assert.deepEqual(await one.serves(), { scram: false, cram: false }, 'argon2id is all there is');
  await add('s', makeHash('p', 'scram-sha-256'));
  one.reconfigure(auth);
  assert.deepEqual(await one.serves(), { scram: true, cram: false });
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
  // A server that hangs costs its own users their login, not those of another backend.
  const dir = mkdtempSync(join(tmpdir(), 'user-server-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'users.txt');
  writeFileSync(path, `f:${makeHash('p', 'bcrypt')}\n`);
  const backends = [{ type: 'file', path }, { type: 'database' }];
  const both = configSchema.parse({ auth: { backends, cache_ttl_ms: 0 } }).auth;
  const two = new Authenticator(both, Buffer.alloc(32), recordingLog(logged), Date.now, serverConfig(access));
  t.after(() => two.close());
  const at = async (username: string): Promise<string> => {
    const credentials = { kind: 'password', username, password: 'p' } as const;
    return (await two.answer({ id: 1, credentials, client: '192.0.2.1' })).result;
  };
  // The first one makes the connection; on a busy machine that may take longer than a login may.
  await eventually(async () => assert.deepEqual([await at('ü'), await at('f')], ['accepted', 'accepted']));
  maria.pause();
  const hanging = ['ü', 's', 'ü', 's'].map(at);
  let answered = 0;
  for (const one of hanging) void one.then(() => answered++);
  assert.deepEqual([await at('f'), await at('f')], ['accepted', 'accepted']);
  assert.equal(answered, 0, 'while the others wait');
  assert.deepEqual(await Promise.all(hanging), Array(4).fill('unavailable'));
  maria.resume();
  await eventually(async () => assert.equal(await at('ü'), 'accepted', 'once it answers again'));
  const elsewhere = { ...serverConfig(access), port: 1, endpoints: [`127.0.0.1:${access.port}`] };
  const three = new Authenticator(auth, Buffer.alloc(32), recordingLog(logged), Date.now, elsewhere);
  t.after(() => three.close());
  const credentials = { kind: 'password', username: 'ü', password: 'p' } as const;
  const found = await three.answer({ id: 1, credentials, client: '192.0.2.1' });
  assert.equal(found.result, 'accepted', 'an endpoint has taken its place');
  await maria.stop();
  assert.equal((await login('ü', 'p')).result, 'unavailable');
  assert.ok(!JSON.stringify(logged).includes(access.password));
  await maria.start();
  await eventually(async () => assert.equal((await login('ü', 'p')).result, 'accepted'));
});
