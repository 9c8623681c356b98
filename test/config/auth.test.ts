/** Options of AUTH: paths, rules between keys, and that no secret is shown where it is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, type LoadedConfig, loadConfig } from '../../src/config/load.ts';

function load(config: object, environment: Record<string, string> = {}): LoadedConfig {
  const read = (): string => JSON.stringify(config);
  return loadConfig('/etc/relay/relay.json', environment, { read, machineName: 'machine.test' });
}

function problems(config: object): string[] {
  try {
    load(config);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map((text) => text.replace('/etc/relay/relay.json:1: ', ''));
  }
  return assert.fail('no problem found');
}

const users = [{ username: 'test', password: 'pass' }];
const backends = [{ type: 'memory', users }];

test('the contract of the documentation is a config; paths are those of data_dir', () => {
  const { config } = load(
    {
      data_dir: '/data',
      listeners: [
        { host: '0.0.0.0', port: 25, auth: 'off' },
        { host: '0.0.0.0', port: 587, auth: 'required' },
      ],
      auth: {
        backends: [...backends, { type: 'file', path: 'users.txt' }, { type: 'pam', config_dir: 'pam.d' }],
        mechanisms: ['SCRAM-SHA-256', 'PLAIN', 'LOGIN', 'CRAM-MD5'],
        allow_without_tls: false,
      },
      delivery: {
        smarthost: {
          host: 'smtp.example.net',
          port: 587,
          auth: { username: 'u', password: '${SMARTHOST_PASSWORD}' },
        },
        routes: { 'a.test': { host: 'b.test', auth: { username: 'u', access_token_file: 'token' } } },
      },
    },
    { SMARTHOST_PASSWORD: 'secret' },
  );
  assert.equal(config.auth.backends[1]?.path, '/data/users.txt');
  assert.equal(config.auth.backends[2]?.config_dir, '/data/pam.d');
  assert.equal(config.auth.path, '/data/auth');
  assert.equal(config.delivery.smarthost?.auth?.password, 'secret');
  assert.equal(config.delivery.routes['a.test']?.auth?.access_token_file, '/data/token');
});

test('each type of backend has its keys', () => {
  const found = problems({
    auth: {
      backends: [
        { type: 'memory' },
        { type: 'file', url: 'http://x.test/' },
        { type: 'database', path: 'u.db', query: 'SELECT 1' },
        { type: 'http' },
        { type: 'database' },
        { type: 'pam', users: [] },
        { type: 'memory', users: [...users, ...users] },
      ],
    },
  });
  assert.deepEqual(found, [
    'auth.backends[0]: "users" is missing: a memory backend needs it',
    'auth.backends[1]: "path" is missing: a file backend needs it',
    'auth.backends[1].url: has no meaning with a file backend',
    'auth.backends[2].query: must have exactly one "?", for the user name',
    'auth.backends[3]: "url" is missing: a http backend needs it',
    'auth.backends[4]: "path" is missing: with the sqlite queue a database backend needs it',
    'auth.backends[5].users: has no meaning with a pam backend',
    'auth.backends[6].users[1]: names "test" again',
  ]);
});

test('with a queue on MariaDB or MySQL the users may be in its database', () => {
  const { config } = load({
    node_id: 'n1',
    database: { driver: 'mysql' },
    storage: { provider: 'local' },
    auth: { backends: [{ type: 'database' }] },
  });
  assert.equal(config.auth.backends[0]?.path, undefined);
});

test('AUTH where nobody could log in is refused', () => {
  const listeners = [{ host: '127.0.0.1', port: 25, auth: 'optional' }];
  assert.match(
    problems({ listeners })[0] as string,
    /^listeners\[0\]\.auth: must be "off" while auth\.backends is empty/,
  );
  const auth = { backends: [{ type: 'pam' }], mechanisms: ['CRAM-MD5'] };
  assert.match(problems({ listeners, auth })[0] as string, /^auth\.mechanisms: must have PLAIN or LOGIN/);
});

test('AUTH at a next hop needs a secret, and a mechanism that it is for', () => {
  const hop = (auth: object) => ({
    delivery: { smarthost: { host: 'x.test', auth: { username: 'u', ...auth } } },
  });
  assert.match(problems(hop({}))[0] as string, /needs "password", "access_token" or "access_token_file"/);
  assert.match(problems(hop({ access_token: 'a', access_token_file: 'b' }))[0] as string, /takes either/);
  assert.match(
    problems(hop({ password: 'p', mechanisms: ['XOAUTH2'] }))[0] as string,
    /has none that the given/,
  );
  assert.match(
    problems({ delivery: { routes: { 'a.test': { host: 'x', auth: { username: 'u' } } } } })[0] as string,
    /a\.test/,
  );
  assert.match(
    load(hop({ password: 'p', allow_without_tls: true })).warnings[0] as string,
    /travel readable/,
  );
});

test('a secret of a wrong kind is named, not shown', () => {
  const found = problems({
    auth: { backends: [{ type: 'memory', users: [{ username: 'test', password: 123456 }] }] },
    delivery: { smarthost: { host: 'x.test', auth: { username: 'u', password: 654321 } } },
  });
  assert.equal(found.length, 2);
  for (const one of found) {
    assert.match(one, /password: must be a string, is something else$/);
    assert.ok(!/123456|654321/.test(one));
  }
});

test('CRAM-MD5 is offered where passwords are at hand, or where it is named', () => {
  const offered = (auth: object) => load({ auth }).config.auth.mechanisms;
  const all = ['SCRAM-SHA-256', 'PLAIN', 'LOGIN', 'CRAM-MD5'];
  assert.deepEqual(offered({ backends }), all);
  const file = { type: 'file', path: 'users.txt' };
  assert.deepEqual(offered({ backends: [...backends, file] }), ['SCRAM-SHA-256', 'PLAIN', 'LOGIN']);
  assert.deepEqual(offered({ backends: [file], mechanisms: all }), all);
});
