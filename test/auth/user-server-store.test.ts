/** `protorelay user` on the MariaDB of the queue: the program itself, and a relay that takes what it did at once. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { type Ran, run } from '../support/child.ts';
import { MAIN, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

const skip = skipWithoutMariaDb();
const options = { skip, timeout: 180_000 };
const AUTH = {
  backends: [{ type: 'database' }],
  allow_without_tls: true,
  failure_delay_ms: 0,
  cache_ttl_ms: 0,
};

type Cli = (args: string[], input?: string) => Promise<Ran>;

/** A relay that is not started yet, and the program on its config. */
function relayOn(
  t: TestContext,
  database: Settings,
  auth: Settings = AUTH,
): { relay: RelayFixture; user: Cli } {
  const mail = mkdtempSync(join(tmpdir(), 'users-mail-'));
  const relay = new RelayFixture({
    listeners: [{ host: '127.0.0.1', port: 0, auth: 'required' }],
    node_id: 'node-a',
    storage: { provider: 'local', local: { path: mail } },
    delivery: { enabled: false },
    database,
    auth,
  });
  t.after(async () => {
    await relay.destroy();
    rmSync(mail, { recursive: true, force: true });
  });
  const user: Cli = async (args, input = '') =>
    run(process.execPath, [MAIN, '-c', relay.configPath, 'user', ...args], { input });
  return { relay, user };
}

async function migrated(server: MariaDb): Promise<DatabaseAccess> {
  const access = await server.createDatabase();
  await migrate(serverConfig(server.admin(access)), Date.now());
  return access;
}

async function login(relay: RelayFixture, username: string, password: string): Promise<string> {
  const talk = await Talk.hello({ port: relay.port });
  const response = Buffer.from(`\0${username}\0${password}`).toString('base64');
  const reply = await talk.say(`AUTH PLAIN ${response}`);
  talk.socket.destroy();
  return reply.slice(0, 3);
}

test(
  'users of the queue’s server: added, changed and deleted by command, for a running relay at once',
  options,
  async (t) => {
    const server = await MariaDb.start();
    t.after(() => server.close());
    const access = await server.createDatabase();
    const { relay, user } = relayOn(t, { driver: 'mysql', ...access });
    const early = await user(['add', 'alice'], 'p\n');
    assert.equal(early.code, 65);
    assert.match(early.stderr, /users' doesn't exist; run "protorelay db migrate"/);
    await migrate(serverConfig(server.admin(access)), Date.now());
    await relay.start();
    assert.equal(await login(relay, 'alice', 'p'), '535');

    const added = await user(
      ['add', 'alice', 'senders=alice@x.test,@y.test', 'messages_per_day=5'],
      'pass ü\n',
    );
    assert.equal(added.code, 0, added.stderr);
    assert.equal(added.stdout, `alice added to mysql relay@127.0.0.1:${access.port}/${access.database}\n`);
    assert.equal(await login(relay, 'alice', 'pass ü'), '235');
    assert.equal(await login(relay, 'alice', 'other'), '535');
    for (const other of ['alice ', 'ALICE', 'alicé'])
      assert.equal(await login(relay, other, 'pass ü'), '535', `"${other}" is nobody`);
    assert.equal((await user(['add', 'alice'], 'p\n')).code, 65);
    assert.match((await user(['add', 'alice', 'color=red'], 'p\n')).stderr, /"color" is none of/);
    assert.equal((await user(['add', 'Ünal'], 'p\n')).code, 0);
    const list = await user(['list']);
    assert.equal(
      list.stdout,
      'alice  scram-sha-256  senders=alice@x.test,@y.test  messages_per_day=5\nÜnal   scram-sha-256\n',
    );
    assert.deepEqual(JSON.parse((await user(['list', '--json', '--of-queue'])).stdout)[0], {
      user: 'alice',
      scheme: 'scram-sha-256',
      rules: { senders: 'alice@x.test,@y.test', messages_per_day: 5 },
    });

    assert.equal((await user(['passwd', 'alice', '--scheme', 'argon2id'], 'new\n')).code, 0);
    assert.equal(await login(relay, 'alice', 'pass ü'), '535');
    assert.equal(await login(relay, 'alice', 'new'), '235');
    const sender = await Talk.hello({ port: relay.port });
    await sender.say(`AUTH PLAIN ${Buffer.from('\0alice\0new').toString('base64')}`);
    assert.match(
      await sender.say('MAIL FROM:<bob@x.test>'),
      /^553 5\.7\.1/,
      'rules are kept with the new password',
    );
    for (const [args, input] of [
      [['passwd', 'Alice'], 'p\n'],
      [['passwd', 'alice '], 'p\n'],
      [['delete', 'Alice'], ''],
    ] as const) {
      const none = await user([...args], input);
      assert.equal(none.code, 65);
      assert.match(none.stderr, /there is no .* in mysql relay@/);
    }
    // A relay that has asked must not keep operators from changing the table.
    await server.query(
      `SET lock_wait_timeout = 10; ALTER TABLE ${access.database}.users ADD COLUMN note TEXT`,
    );
    assert.equal((await user(['delete', 'alice'])).code, 0);
    assert.equal(await login(relay, 'alice', 'new'), '535');

    await server.stop();
    const away = await user(['list']);
    assert.equal(away.code, 69);
    assert.match(away.stderr, /^protorelay: mysql relay@127\.0\.0\.1:\d+\/relay1: .*ECONNREFUSED/);
    assert.ok(!JSON.stringify([early, added, list, away]).includes(access.password));
  },
);

test('several shards: users are in the first, where the backend reads them', options, async (t) => {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const [one, two] = [await migrated(server), await migrated(server)];
  const shards = [
    { name: 'north', ...one },
    { name: 'south', ...two },
  ];
  const users = { type: 'file', path: 'users.txt' };
  const { relay, user } = relayOn(
    t,
    { driver: 'mysql_distributed', shards },
    { ...AUTH, backends: [users, { type: 'database' }] },
  );
  assert.equal((await user(['add', 'filed'], 'p\n')).code, 0, 'without a word it is the first backend');
  const added = await user(['add', 'bob', '--of-queue'], 'p\n');
  assert.equal(added.code, 0, added.stderr);
  assert.match(added.stdout, new RegExp(`/${one.database}\n$`));
  const names = (access: DatabaseAccess) =>
    server.query<{ username: string }[]>(`SELECT username FROM ${access.database}.users`);
  assert.deepEqual(
    (await names(one)).map(({ username }) => username),
    ['bob'],
  );
  assert.deepEqual(
    (await names(two)).map(({ username }) => username),
    [],
  );
  await relay.start();
  assert.equal(await login(relay, 'bob', 'p'), '235');
  assert.equal(await login(relay, 'filed', 'p'), '235');
  const both = await user(['list', '--of-queue', '--path', 'users.txt']);
  assert.equal(both.code, 64);
});

test('users over TLS, as the config has it for the queue', {
  skip: skip === false ? lacksOpenssl : skip,
  timeout: 120_000,
}, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const { certFile, keyFile } = authority.issue(['localhost', '127.0.0.1']);
  const server = await MariaDb.start({ args: [`--ssl-cert=${certFile}`, `--ssl-key=${keyFile}`] });
  t.after(() => server.close());
  const access = await migrated(server);
  await server.query("ALTER USER relay@'127.0.0.1' REQUIRE SSL");
  const database = { driver: 'mysql', ...access };
  const bare = relayOn(t, database);
  const refused = await bare.user(['add', 'eve'], 'p\n');
  assert.equal(refused.code, 69);
  assert.match(refused.stderr, /Access denied/);
  const { relay, user } = relayOn(t, { ...database, tls: 'verify', tls_ca_file: authority.caFile });
  const added = await user(['add', 'eve'], 'p\n');
  assert.equal(added.code, 0, added.stderr);
  await relay.start();
  assert.equal(await login(relay, 'eve', 'p'), '235');
  const other = new Authority();
  t.after(() => other.remove());
  relay.configure({ database: { tls_ca_file: other.caFile } });
  assert.equal((await user(['list'])).code, 69, 'another authority did not sign it');
});
