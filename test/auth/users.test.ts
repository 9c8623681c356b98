/** Files of users, rules, and what `protorelay user` does to files and tables. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { verifyHash } from '../../src/auth/hashes.ts';
import { openUserStore } from '../../src/auth/open-user-store.ts';
import { readRules, rulesOf } from '../../src/auth/rules.ts';
import { changeUser, parseUserFile } from '../../src/auth/user-file.ts';
import { UserTable } from '../../src/auth/user-table.ts';
import { changePassword, createUser, deleteUser, listUsers } from '../../src/cli/user.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { run } from '../support/child.ts';
import { MAIN } from '../support/relay-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'auth-users-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const BCRYPT = '$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe';

test('a file of users: comments, hashes of other programs, rules, and lines that are wrong', () => {
  const { users, problems } = parseUserFile(`# users
alice:${BCRYPT}
bob:{BLF-CRYPT}${BCRYPT} senders=bob@x.test,@y.test messages_per_day=5

carol
dave:nothing
erin:${BCRYPT} senders
frank:${BCRYPT} color=red
alice:${BCRYPT}
gus tav:${BCRYPT}
heidi:${BCRYPT} messages_per_day=-1
`);
  assert.deepEqual([...users.keys()], ['alice', 'bob']);
  assert.deepEqual(users.get('bob'), {
    hash: BCRYPT,
    rules: { senders: ['bob@x.test', '@y.test'], messages_per_day: 5 },
  });
  assert.deepEqual(
    problems.map((problem) => problem.split(':')[0]),
    ['line 5', 'line 6', 'line 7', 'line 8', 'line 9', 'line 10', 'line 11'],
  );
  assert.ok(!problems.join().includes('m0CrhHm'), 'no problem shows a hash');
});

test('changes keep the other lines, the mode, and never leave half a file', () => {
  const path = join(dir, 'keep.txt');
  writeFileSync(path, '# mine\nalice:one a=1\n\nbob:two\n', { mode: 0o640 });
  changeUser(path, 'alice', (rest) => `new ${rest?.split(' ')[1]}`);
  changeUser(path, 'carol', (rest) => (rest === null ? 'three' : null));
  changeUser(path, 'bob', () => null);
  assert.equal(readFileSync(path, 'utf8'), '# mine\nalice:new a=1\n\ncarol:three\n');
  assert.equal(statSync(path).mode & 0o777, 0o640);
  assert.throws(() =>
    changeUser(path, 'alice', () => {
      throw new Error('stop');
    }),
  );
  assert.ok(!existsSync(`${path}.new`));
  writeFileSync(`${path}.new`, '');
  assert.throws(() => changeUser(path, 'alice', () => null), /another command is changing/);
});

test('rules: those of the config for a user over those of the backend over those for all', () => {
  const auth = configSchema.parse({
    auth: {
      messages_per_hour: 10,
      recipients_per_hour: 20,
      users: { alice: { messages_per_hour: 3, sender_policy: 'any' } },
    },
  }).auth;
  const given = { senders: ['A@X.Test', '@Y.test'], messages_per_hour: 5, messages_per_day: 50 };
  assert.deepEqual(rulesOf(auth, 'alice', given), {
    senderPolicy: 'any',
    senders: ['A@x.test', '@y.test'],
    quotas: { messagesPerHour: 3, messagesPerDay: 50, recipientsPerHour: 20, recipientsPerDay: 0 },
  });
  const bob = rulesOf(auth, 'bob', given);
  assert.equal(bob.senderPolicy, 'list', 'whoever has a list keeps to it');
  assert.equal(bob.quotas.messagesPerHour, 5);
  assert.equal(rulesOf(auth, 'constructor', {}).senderPolicy, 'any', 'names of Object are names');
});

test('rules as words, columns and JSON', () => {
  assert.deepEqual(readRules({ senders: 'a@x,@y', messages_per_day: '7', sender_policy: 'login' }, true), {
    senders: ['a@x', '@y'],
    messages_per_day: 7,
    sender_policy: 'login',
  });
  assert.deepEqual(readRules({ ok: true, senders: null, recipients_per_day: 3 }, false), {
    recipients_per_day: 3,
  });
  assert.match(readRules({ ok: true }, true) as string, /"ok" is none of/);
  for (const bad of [
    { messages_per_day: 'x' },
    { messages_per_day: 1.5 },
    { sender_policy: 'all' },
    { senders: 7 },
    { senders: ['', 'a'] },
  ])
    assert.match(readRules(bad, false) as string, /has a value it cannot have/);
});

const noServer = (): never => assert.fail('no server is asked');

function configWith(type: 'file' | 'database', path: string): Config {
  return configSchema.parse({
    auth: {
      backends: [
        { type: 'memory', users: [] },
        { type, path },
      ],
    },
  });
}

for (const type of ['file', 'database'] as const) {
  test(`user commands on a ${type}`, async () => {
    const path = join(dir, `commands.${type}`);
    const store = openUserStore(configWith(type, path), {}, noServer);
    let out = '';
    let err = '';
    const printed = (text: string): void => {
      out += text;
    };
    const complained = (text: string): void => {
      err += text;
    };
    let typed: string | null = 'secret';
    const ports = {
      out: { write: printed },
      err: { write: complained },
      password: async () => typed,
    };
    const scheme = 'bcrypt' as const;
    const rules = ['senders=@x.test', 'messages_per_day=5'];
    assert.equal(await createUser(store, 'alice', { words: rules, scheme }, ports), 0);
    assert.equal(await createUser(store, 'alice', { words: [], scheme }, ports), 65);
    assert.equal(await createUser(store, 'a b', { words: [], scheme }, ports), 64);
    assert.equal(await createUser(store, 'b'.repeat(256), { words: [], scheme }, ports), 64);
    assert.equal(await createUser(store, 'bob', { words: ['color=red'], scheme }, ports), 64);
    assert.equal(await createUser(store, 'bob', { words: ['red'], scheme }, ports), 64);
    for (const senders of ['foo', 'a@', '@', 'a@x.test,bar', '@x..test', 'a@-x.test']) {
      const before = err.length;
      assert.equal(
        await createUser(store, 'bob', { words: [`senders=${senders}`], scheme }, ports),
        64,
        senders,
      );
      assert.match(
        err.slice(before),
        /senders: "[^"]*" is neither an address .* nor a domain|"senders" has a value/,
      );
    }
    typed = 'x'.repeat(73);
    assert.equal(await createUser(store, 'bob', { words: [], scheme }, ports), 64);
    typed = '';
    assert.equal(await createUser(store, 'bob', { words: [], scheme }, ports), 64);
    typed = null;
    assert.equal(await changePassword(store, 'alice', { scheme }, ports), 64);
    typed = 'other';
    assert.equal(await changePassword(store, 'alice', { scheme: 'scram-sha-256' }, ports), 0);
    assert.equal(await changePassword(store, 'nobody', { scheme }, ports), 65);
    out = '';
    assert.equal(await listUsers(store, false, ports), 0);
    assert.match(out, /^alice {2}scram-sha-256 {2}senders=@x\.test {2}messages_per_day=5\n$/);
    out = '';
    await listUsers(store, true, ports);
    assert.equal(JSON.parse(out)[0].user, 'alice');
    assert.ok(!out.includes('SCRAM-SHA-256$'), 'no hash is shown');
    const found =
      type === 'file'
        ? parseUserFile(readFileSync(path, 'utf8')).users.get('alice')
        : new UserTable(path).find('alice');
    assert.ok(found && verifyHash(found.hash, 'other'));
    assert.deepEqual(found.rules, { senders: ['@x.test'], messages_per_day: 5 });
    assert.equal(await deleteUser(store, 'alice', ports), 0);
    assert.equal(await deleteUser(store, 'alice', ports), 65);
    await store.close();
    assert.match(err, /alice exists already.*cannot be a user name.*"color" is none of/s);
  });
}

test('without a file or table there is nothing to change', () => {
  assert.throws(() => openUserStore(configSchema.parse({}), {}, noServer), /auth\.backends has no backend/);
  assert.throws(
    () => openUserStore(configWith('file', '/x/a'), { path: '/x/b' }, noServer),
    /no backend with the path \/x\/b/,
  );
});

test('protorelay user: the password comes by standard input, the file is made beside the data', {
  timeout: 60_000,
}, async () => {
  const config = join(dir, 'relay.json');
  writeFileSync(
    config,
    JSON.stringify({ data_dir: '.', auth: { backends: [{ type: 'file', path: 'users.txt' }] } }),
  );
  const user = (args: string[], input = '') =>
    run(process.execPath, [MAIN, '-c', config, 'user', ...args], { input });
  const added = await user(['add', 'alice', 'senders=@x.test', '--scheme', 'scrypt'], 'pass word\n');
  assert.equal(added.code, 0, added.stderr);
  assert.match(added.stdout, /^alice added to .*users\.txt\n$/);
  const { users } = parseUserFile(readFileSync(join(dir, 'users.txt'), 'utf8'));
  assert.ok(verifyHash(users.get('alice')?.hash ?? '', 'pass word'));
  assert.equal(statSync(join(dir, 'users.txt')).mode & 0o777, 0o600);
  assert.equal((await user(['passwd', 'alice'], 'new\n')).code, 0);
  assert.match((await user(['list'])).stdout, /^alice {2}scram-sha-256 {2}senders=@x\.test\n$/);
  assert.equal((await user(['delete', 'alice'])).code, 0);
  assert.equal((await user(['delete', 'alice'])).code, 65);
  assert.equal((await user(['add', 'x', '--scheme', 'rot13'])).code, 64);
  // Before the first start there is no data folder.
  const backends = [{ type: 'file', path: 'users.txt' }];
  writeFileSync(config, JSON.stringify({ data_dir: 'new/data', auth: { backends } }));
  assert.equal((await user(['add', 'x'], 'p\n')).code, 0);
  assert.equal(statSync(join(dir, 'new/data')).mode & 0o777, 0o700);
  writeFileSync(config, JSON.stringify({ data_dir: 'users.txt/data', auth: { backends } }));
  const nowhere = await user(['add', 'x'], 'p\n');
  assert.equal(nowhere.code, 73);
  assert.match(nowhere.stderr, /users cannot be changed: ENOTDIR.*check the file, its folder/);
});
