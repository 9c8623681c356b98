/** What SCRAM says of names nobody has: the same on every node, in every process, after every restart. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { AuthAnswer } from '../../src/auth/auth.ts';
import { LoginDesk } from '../../src/auth/login-desk.ts';
import { Aside } from '../../src/base/aside.ts';
import { configSchema } from '../../src/config/schema.ts';
import { migrate } from '../../src/database/mysql/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { recordingLog } from '../session/dialog-fixture.ts';

type Said = { result: string; salt?: string; iterations?: number };

/** A node from start to stop, with a folder that outlives it: what it says of these names. */
async function node(settings: Record<string, unknown>, path: string, names: string[]): Promise<Said[]> {
  const answers = new Map<number, (answer: AuthAnswer) => void>();
  const port = { loginAnswered: (_: number, answer: AuthAnswer) => answers.get(answer.id)?.(answer) };
  const users = [{ username: 'real', password: 'p' }];
  const { auth: more, ...others } = settings as { auth?: object };
  const config = configSchema.parse({
    listeners: [{ port: 0, auth: 'required' }],
    auth: { backends: [{ type: 'memory', users }], path, ...more },
    ...others,
  });
  const desk = new LoginDesk(config, recordingLog([]), port, new Aside(recordingLog([])));
  try {
    return await Promise.all(
      names.map(async (username, id): Promise<Said> => {
        const answered = new Promise<AuthAnswer>((resolve) => answers.set(id, resolve));
        desk.take(0, {
          requests: [{ id, credentials: { kind: 'scram', username }, client: '192.0.2.1' }],
          failures: [],
          proofs: [],
        });
        const answer = await answered;
        if (answer.result !== 'keys') return { result: answer.result };
        const { salt, iterations } = answer.keys;
        return { result: 'keys', salt: Buffer.from(salt).toString('hex'), iterations };
      }),
    );
  } finally {
    await desk.close();
  }
}

function folders(t: TestContext): (name: string) => string {
  const dir = mkdtempSync(join(tmpdir(), 'shared-secret-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return (name) => join(dir, name);
}

const NAMES = ['nobody', 'real', 'ünknown', 'nobody2'];

test('nodes with one queue on servers say the same, over restarts, with the server away too', {
  skip: skipWithoutMariaDb(),
  timeout: 120_000,
}, async (t) => {
  const folder = folders(t);
  const maria = await MariaDb.start();
  t.after(() => maria.close());
  const access = await maria.createDatabase();
  const server = serverConfig(access);
  await migrate(serverConfig(maria.admin(access)), Date.now());
  const settings = { node_id: 'n', database: { ...server, driver: 'mysql' } };
  // Both at once: one of two secrets wins.
  const [one, two] = await Promise.all([
    node(settings, folder('a'), NAMES),
    node(settings, folder('b'), NAMES),
  ]);
  assert.deepEqual(one, two);
  assert.deepEqual(
    one.map(({ result }) => result),
    Array(4).fill('keys'),
  );
  assert.equal(new Set(one.map(({ salt }) => salt)).size, NAMES.length);
  assert.equal(new Set(one.map(({ iterations, salt }) => `${iterations} ${salt?.length}`)).size, 1);
  assert.deepEqual(await node(settings, folder('a'), NAMES), one, 'after a restart');
  assert.deepEqual(await node(settings, folder('new'), NAMES), one, 'a node that lost its data_dir');
  await maria.stop();
  assert.deepEqual(await node(settings, folder('a'), NAMES), one, 'by its copy');
  const never = await node(settings, folder('never'), NAMES);
  assert.deepEqual(
    never.map(({ result }) => result),
    Array(4).fill('unavailable'),
    'nobody is answered, whether he exists or not',
  );
});

test('relays with SQLite: each over its restarts, all of them with one auth.shared_secret', async (t) => {
  const folder = folders(t);
  const one = await node({}, folder('a'), NAMES);
  assert.deepEqual(await node({}, folder('a'), NAMES), one);
  assert.notDeepEqual(await node({}, folder('b'), NAMES), one);
  const auth = { shared_secret: 'the same on all of them' };
  const shared = await node({ auth }, folder('a'), NAMES);
  assert.deepEqual(await node({ auth }, folder('b'), NAMES), shared);
  assert.notDeepEqual(shared, one);
});
