import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConfigError, configFor, dataDirOf, type LoadedConfig, loadConfig } from '../../src/config/load.ts';

type Files = Record<string, string>;

/** Loads /etc/relay/relay.json from files in memory. */
function load(files: string | Files, environment: Record<string, string> = {}): LoadedConfig {
  const all: Files = typeof files === 'string' ? { '/etc/relay/relay.json': files } : files;
  const read = (path: string): string => {
    const text = all[path];
    if (text === undefined) throw new Error(`ENOENT: ${path}`);
    return text;
  };
  return loadConfig('/etc/relay/relay.json', environment, { read, machineName: 'machine.test' });
}

function problems(files: string | Files, environment: Record<string, string> = {}): string[] {
  try {
    load(files, environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, 'config_invalid');
    return error.problems.map((text) => text.replace('/etc/relay/relay.json:', ''));
  }
  return assert.fail('no problem found');
}

test('an empty object is a whole config', () => {
  const { config, warnings } = load('{}');
  assert.equal(config.hostname, 'machine.test');
  assert.deepEqual(config.listeners, [
    { host: '127.0.0.1', port: 2525, backlog: 1024, tls: 'off', client_certificate: 'off', auth: 'off' },
  ]);
  assert.equal(config.inbound_ack_mode, 'after_persist');
  assert.equal(config.delivery.smarthost, undefined);
  assert.deepEqual(warnings, []);
});

test('hostname defaults to the machine’s name and keeps what the file says, even localhost', () => {
  assert.equal(load('{ "hostname": "localhost" }').config.hostname, 'localhost');
});

test('all problems are listed at once, each with line, key and what would be right', () => {
  const text = `{
  "lisnteners": [],
  "max_message_size": "big",
  "smtp": {
    "max_recipient": 5,
    "vrfy": 1,
    "max_hops": 0
  },
  "session_threads": "many",
  "listeners": [{ "host": "127.0.0.1", "port": 99999 }],
  "delivery": { "routes": { "slow.test": { "prot": 25 } }, "ip_family": "ipx" },
  "retry": { "backoff_multiplier": 0.5 },
  "hostname": "a b",
  "relay_domains": ["ok.test", 7]
}`;
  assert.deepEqual(problems(text).sort(), [
    '10: listeners[0].port: must be a whole number from 0 to 65535, is 99999',
    '11: delivery.ip_family: must be "any" or "ipv4" or "ipv6", is "ipx"',
    '11: delivery.routes["slow.test"].prot: unknown key (did you mean "port"?)',
    '11: delivery.routes["slow.test"]: "host" is missing: a string',
    '12: retry.backoff_multiplier: must be a number from 1 to 100, is 0.5',
    '13: hostname: must be a host name or address, is "a b"',
    '14: relay_domains[1]: must be a string, is 7',
    '2: lisnteners: unknown key (did you mean "listeners"?)',
    '3: max_message_size: must be a whole number from 1024 to 1099511627776, is "big"',
    '5: smtp.max_recipient: unknown key (did you mean "max_recipients"?)',
    '6: smtp.vrfy: must be true or false, is 1',
    '7: smtp.max_hops: must be a whole number from 1 to 1000, is 0',
    '9: session_threads: must be "auto" or a whole number from 1 to 64, is "many"',
  ]);
});

test('a key unlike any other is answered with the known ones', () => {
  assert.deepEqual(problems('{ "scheduler": { "zzzz": 1 } }'), [
    '1: scheduler.zzzz: unknown key (known here: engine, poll_interval_ms, redis)',
  ]);
});

test('a wait of 0 ms and other senseless values are refused', () => {
  assert.match(
    problems('{ "inbound_persist_wait_timeout_ms": 0 }').join(),
    /must be a whole number from 10 to 600000, is 0/,
  );
  assert.match(problems('{ "listeners": [] }').join(), /listeners: must have at least 1 entry/);
  assert.match(
    problems('{ "persist_min_db_available_connections": 2 }').join(),
    /must be 0 or 1 with the sqlite driver/,
  );
});

test('the sqlite driver has one writer: persist_threads is 1 or auto', () => {
  assert.equal(load('{ "persist_threads": 1 }').config.persist_threads, 1);
  assert.match(problems('{ "persist_threads": 2 }').join(), /must be "auto" or 1 with the sqlite driver/);
});

test('of a file with very many unknown keys all are named, and the first get hints', () => {
  const keys = Array.from({ length: 2000 }, (_, i) => `hostnam${i}`);
  const found = problems(JSON.stringify(Object.fromEntries(keys.map((key) => [key, 1]))));
  assert.equal(found.length, 2000);
  assert.equal(found.filter((text) => text.includes('did you mean "hostname"?')).length, 200);
  assert.match(found.at(-1) ?? '', /hostnam1999: unknown key$/);
});

test('__proto__ is an unknown key like any other', () => {
  assert.match(problems('{ "__proto__": { "hostname": "x" } }').join(), /__proto__: unknown key/);
});

test('a file that is not there, or not JSON, is named', () => {
  assert.deepEqual(problems({}), ['1: cannot read /etc/relay/relay.json: ENOENT: /etc/relay/relay.json']);
  assert.deepEqual(problems('{\n"a": }'), [
    '2: column 6: } is not a value (is a comma or a quote missing before it?)',
  ]);
  assert.deepEqual(problems('[]'), ['1: the file must hold one object: { … }']);
});

test('${NAME} takes the environment’s value; $${NAME} is the text itself', () => {
  const text =
    '{ "node_id": "${NODE}", "max_message_size": "${SIZE}", "log": { "file": "${DIR}/a-$${X}.log" } }';
  const { config } = load(text, { NODE: '7', SIZE: '2048', DIR: '/var/log' });
  assert.equal(config.node_id, '7');
  assert.equal(config.max_message_size, 2048);
  assert.equal(config.log.file, '/var/log/a-${X}.log');
});

test('a missing environment variable is named with its line', () => {
  assert.match(
    problems('{\n"hostname": "${HOST_OF_RELAY}" }').join(),
    /^2: hostname: the environment variable HOST_OF_RELAY is not set/,
  );
});

test('a text in a number’s place from a variable names the value', () => {
  assert.match(
    problems('{ "max_message_size": "${SIZE}" }', { SIZE: 'big' }).join(),
    /must be a whole number .*, is "big"/,
  );
});

test('include: files merge in order below the file’s own keys; lists are replaced', () => {
  const files = {
    '/etc/relay/relay.json': '{ "include": ["a.json", "sub/b.json"], "smtp": { "max_hops": 3 } }',
    '/etc/relay/a.json': '{ "smtp": { "max_hops": 1, "max_errors": 1 }, "relay_domains": ["a.test"] }',
    '/etc/relay/sub/b.json': '{ "smtp": { "max_errors": 2 }, "relay_domains": ["B.test"], "data_dir": "d" }',
  };
  const { config, files: read } = load(files);
  assert.equal(config.smtp.max_hops, 3);
  assert.equal(config.smtp.max_errors, 2);
  assert.deepEqual(config.relay_domains, ['b.test']);
  assert.equal(config.data_dir, '/etc/relay/sub/d', 'counts from the folder of the file that sets it');
  assert.deepEqual(read, ['/etc/relay/relay.json', '/etc/relay/a.json', '/etc/relay/sub/b.json']);
});

test('include: a problem names the included file and its line', () => {
  const files = {
    '/etc/relay/relay.json': '{ "include": ["a.json"] }',
    '/etc/relay/a.json': '{\n\n"hostnam": "x" }',
  };
  assert.deepEqual(problems(files), ['/etc/relay/a.json:3: hostnam: unknown key (did you mean "hostname"?)']);
});

test('include: a cycle is refused', () => {
  const files = {
    '/etc/relay/relay.json': '{ "include": ["a.json"] }',
    '/etc/relay/a.json': '{ "include": ["relay.json"] }',
  };
  assert.match(
    problems(files).join(),
    /a\.json:1: include: cycle: .*relay\.json → .*a\.json → .*relay\.json/,
  );
});

test('include: files that include others twice, thirty deep, are refused in bounded time, and said once', () => {
  const files = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [
      `/etc/relay/${i === 0 ? 'relay' : i}.json`,
      i === 29 ? '{}' : `{ "include": ["${i + 1}.json", "${i + 1}.json"] }`,
    ]),
  );
  assert.match(problems(files).join('\n'), /^[^\n]*include: more than 1000 files$/);
});

test('include: a missing file is told at the line that includes it', () => {
  assert.match(
    problems('{\n"include": [\n"gone.json"] }').join(),
    /^3: cannot read \/etc\/relay\/gone\.json/,
  );
});

test('paths: data_dir from the config file’s folder, the others from data_dir', () => {
  const { config } = load(
    '{ "data_dir": "../data", "log": { "file": "logs/relay.log" }, "listeners": [{ "path": "smtp.sock" }], "storage": { "local": { "path": "/mail" } } }',
  );
  assert.equal(config.data_dir, '/etc/data');
  assert.equal(config.log.file, '/etc/data/logs/relay.log');
  assert.equal(config.listeners[0]?.path, '/etc/data/smtp.sock');
  assert.equal(config.database.driver === 'sqlite' && config.database.path, '/etc/data/queue.db');
  assert.equal(config.storage.local.path, '/mail');
});

test('a listener is host with port, or path, or fd_name, and none stands twice', () => {
  const text = `{ "listeners": [
    { "host": "127.0.0.1" },
    { "port": 1 },
    { "path": "a", "host": "::1", "port": 1 },
    {},
    { "host": "localhost", "port": 25 },
    { "host": "::1", "port": 25 },
    { "host": "::1", "port": 25 },
    { "host": "::1", "port": 0 },
    { "host": "::1", "port": 0 },
    { "path": "a", "fd_name": "smtp" },
    { "fd_name": "smtp" },
    { "fd_name": "smtp" }
  ] }`;
  assert.deepEqual(problems(text), [
    '2: listeners[0]: "port" is missing',
    '3: listeners[1]: "host" is missing',
    '4: listeners[2]: needs either "host" and "port", or "path", or "fd_name"',
    '5: listeners[3]: needs either "host" and "port", or "path", or "fd_name"',
    '8: listeners[6]: listens on the same as listeners[5]',
    '11: listeners[9]: needs either "host" and "port", or "path", or "fd_name"',
    '13: listeners[11]: listens on the same as listeners[10]',
  ]);
});

test('names of listeners are unique, those that follow from their place too', () => {
  const text = `{ "listeners": [
    { "name": "in", "host": "127.0.0.1", "port": 0 },
    { "name": "in", "host": "127.0.0.1", "port": 0 },
    { "name": "[::1]:25", "host": "127.0.0.1", "port": 26 },
    { "host": "::1", "port": 25 }
  ] }`;
  assert.deepEqual(problems(text), [
    '2: listeners[0].name: is the name of listeners[1] too',
    '3: listeners[1].name: is the name of listeners[0] too',
    '4: listeners[2].name: is the name of listeners[3] too',
  ]);
});

test('networks, DNS servers and the source address must be addresses', () => {
  const text =
    '{ "relay_networks": ["10.0.0.0/8", "10.0.0.0/33", "all", "::1"], "dns": { "servers": ["127.0.0.1:53", "[::1]:53", "::1", "dns.test", "127.0.0.1:0"] }, "delivery": { "source_address": "me" } }';
  assert.deepEqual(
    problems(text).map((p) => p.replace(/: must.*/, '')),
    [
      '1: relay_networks[1]',
      '1: relay_networks[2]',
      '1: dns.servers[3]',
      '1: dns.servers[4]',
      '1: delivery.source_address',
    ],
  );
});

test('domains that no address can have are refused, in relay_domains and as keys of routes', () => {
  const text = `{
  "relay_domains": ["Ok.test", ".ok.test", "b\u00fccher.test", "a b", "*.example.com", "", "x..y", "example.com."],
  "delivery": { "routes": { "[192.0.2.1]": { "host": "h" }, "b\u00fccher.test": { "host": "h" }, "a_b": { "host": "h" }, "a b": { "host": "h" } } }
}`;
  assert.deepEqual(
    problems(text).map((p) => p.replace(/ such as.*(?=, (?:is|has) )/, '')),
    [
      '2: relay_domains[3]: must be a domain, is "a b"',
      '2: relay_domains[4]: must be a domain, is "*.example.com"',
      '2: relay_domains[5]: must be a domain, is ""',
      '2: relay_domains[6]: must be a domain, is "x..y"',
      '3: delivery.routes: must be keyed by domains, has "a b"',
    ],
  );
});

test('domains outside ASCII are compared as A-labels', () => {
  const { config } = load(
    '{ "relay_domains": ["B\u00fccher.test"], "delivery": { "routes": { "b\u00fccher.test": { "host": "h" } } } }',
  );
  assert.deepEqual(config.relay_domains, ['xn--bcher-kva.test']);
  assert.deepEqual(Object.keys(config.delivery.routes), ['xn--bcher-kva.test']);
});

test('an empty path is refused: it would name the folder it is relative to', () => {
  const text =
    '{ "data_dir": "", "database": { "path": "" }, "storage": { "local": { "path": "" } }, "log": { "file": "" }, "listeners": [{ "path": "" }] }';
  assert.deepEqual(
    problems(text).sort(),
    ['data_dir', 'database.path', 'listeners[0].path', 'log.file', 'storage.local.path'].map(
      (key) => `1: ${key}: must not be empty`,
    ),
  );
});

test('rules between keys', () => {
  assert.match(
    problems('{ "content_memory_mb": 4, "spill_threshold_bytes": 1048577 }').join(),
    /spill_threshold_bytes: must be at most a quarter/,
  );
  assert.match(
    problems('{ "retry": { "initial_delay_ms": 5000, "max_delay_ms": 4000 } }').join(),
    /retry\.initial_delay_ms: must not exceed retry\.max_delay_ms/,
  );
});

test('what is odd and allowed is a warning', () => {
  const { warnings } = load(
    '{ "database": { "path": ":memory:" }, "smtp": { "max_connections": 10, "max_connections_per_ip": 11 } }',
  );
  assert.deepEqual(
    warnings.map((w) => w.replace(/^\S+ /, '')),
    [
      'inbound_ack_mode: after_persist cannot promise anything with a :memory: database: 250 means "in memory"',
      'database.path: :memory: keeps the queue in memory only: a restart loses all mail in it',
      'smtp.max_connections_per_ip: has no effect: it exceeds smtp.max_connections (10)',
    ],
  );
  for (const dane of ['{ "mode": "require" }', '{ "destinations": { "x.test": { "mode": "require" } } }']) {
    const text = `{ "delivery": { "dane": ${dane} }, "dns": { "servers": ["127.0.0.1:53", "192.0.2.1"] } }`;
    assert.match(
      load(text).warnings.join(),
      /^\S+ dns\.servers\[1\]: delivery\.dane believes what 192\.0\.2\.1 says/,
    );
    assert.deepEqual(load(text.replaceAll('require', 'off')).warnings, []);
  }
  assert.match(load('{ "inbound_ack_mode": "after_enqueue" }').warnings.join(), /a crash can lose it/);
  assert.match(load('{ "database": { "max_messages": 5 } }').warnings.join(), /max_messages: has no effect/);
});

const SERVERS = '"node_id": "a", "storage": { "provider": "local" }';

test('a mysql database has its own keys and defaults, and paths from data_dir', () => {
  const { config } = load(
    `{ ${SERVERS}, "data_dir": "/d", "database": { "driver": "mysql", "tls": "verify", "tls_ca_file": "ca.pem" } }`,
  );
  assert.deepEqual(config.database, {
    driver: 'mysql',
    host: '127.0.0.1',
    port: 3306,
    socket: null,
    endpoints: [],
    user: 'relay',
    password: '',
    database: 'relay',
    tls: 'verify',
    tls_ca_file: '/d/ca.pem',
    initial_pool_size: 2,
    max_pool_size: 10,
    connection_timeout_ms: 5000,
    query_timeout_ms: 15_000,
    idle_timeout_ms: 60_000,
  });
});

test('servers: what cannot work together is said', () => {
  const said = (database: string): string =>
    problems(`{ ${SERVERS}, "persist_min_db_available_connections": 3, "database": ${database} }`).join('\n');
  const mysql = said(
    '{ "driver": "mysql", "initial_pool_size": 5, "max_pool_size": 3, "tls_ca_file": "ca.pem" }',
  );
  assert.match(mysql, /database\.initial_pool_size: must not exceed max_pool_size \(3\)/);
  assert.match(mysql, /persist_min_db_available_connections: must be less than max_pool_size/);
  assert.match(mysql, /database\.tls_ca_file: has an effect with "tls": "verify" only/);
  const shards = said(`{ "driver": "mysql_distributed",
    "router": { "type": "table", "table_shard": "s9", "domains": { "a.test": "s8" } },
    "shards": [{ "name": "s0", "weight": 0 }, { "name": "s0", "id": 0, "weight": 0 }] }`);
  assert.match(shards, /database\.shards\[1\]\.name: is the name of shards\[0\] too/);
  assert.match(shards, /database\.shards\[1\]: has the number 0/);
  assert.match(shards, /at least one must have a weight above 0/);
  assert.match(shards, /no shard has the name "s8"/);
  assert.match(shards, /no shard has the name "s9"/);
  assert.match(shards, /has an effect with the router "static" only/);
});

test('after_journal: for the mysql drivers, with files and messages that fit into it', () => {
  const mysql = `${SERVERS}, "database": { "driver": "mysql" }, "inbound_ack_mode": "after_journal"`;
  const { config } = load(`{ ${mysql}, "data_dir": "/d", "journal": { "max_mb": 200, "segment_mb": 50 } }`);
  assert.deepEqual(config.journal, {
    path: '/d/journal',
    max_mb: 200,
    segment_mb: 50,
    max_delay_ms: 30_000,
  });
  assert.match(
    problems('{ "inbound_ack_mode": "after_journal" }').join(),
    /inbound_ack_mode: after_journal is for the mysql drivers: with sqlite/,
  );
  const small = problems(`{ ${mysql}, "journal": { "max_mb": 64, "segment_mb": 20 } }`).join();
  assert.match(small, /journal\.segment_mb: must be at most a quarter of journal\.max_mb \(64\)/);
  assert.match(small, /journal\.max_mb: must be at least four times max_message_size/);
  const unused = load('{ "journal": { "max_mb": 100, "max_delay_ms": 5 } }').warnings.join();
  assert.match(unused, /journal\.max_mb: has no effect.*journal\.max_delay_ms: has no effect/);
});

test('a key of another driver is told apart from one that does not exist', () => {
  const said = problems('{ "database": { "driver": "sqlite", "host": "x", "hosst": 1 } }').join('\n');
  assert.match(said, /database\.host: is not a key of this driver/);
  assert.match(said, /database\.hosst: unknown key \(did you mean "host"\?\)/);
});

test('distributed storage: roots, replica_count and write_quorum fit each other', () => {
  const said = (distributed: object, more: object = {}): string[] =>
    problems(JSON.stringify({ storage: { provider: 'distributed', distributed }, ...more })).map((text) =>
      text.replace('1: storage.', ''),
    );
  assert.deepEqual(said({}), ['distributed.roots: needs at least one folder with the distributed provider']);
  assert.deepEqual(said({ roots: ['a'], replica_count: 2 }), [
    'distributed.replica_count: must not exceed the number of roots (1)',
  ]);
  assert.deepEqual(said({ roots: ['a', 'b', 'c'], replica_count: 2, write_quorum: 3 }), [
    'distributed.write_quorum: must not exceed replica_count (2)',
  ]);
  assert.deepEqual(
    said({ roots: ['/srv/a', '/srv/b/../a', '/srv/a/b'], replica_count: 1, write_quorum: 1 }),
    [
      'distributed.roots[1]: is the same folder as roots[0], or one lies within the other',
      'distributed.roots[2]: is the same folder as roots[0], or one lies within the other',
      'distributed.roots[2]: is the same folder as roots[1], or one lies within the other',
    ],
  );
  assert.match(
    said({ roots: ['a', 'b'] }, { database: { path: ':memory:' } }).join(),
    /would outlive the queue/,
  );
  const { config } = load(
    '{ "storage": { "provider": "distributed", "distributed": { "roots": ["a", "/srv/b"], "timeout_ms": 500, "scrub_interval_ms": 60000, "scrub_mb_per_s": 4 } } }',
  );
  assert.deepEqual(config.storage.distributed.roots, ['/etc/data/a', '/srv/b']);
});

test('hdfs_web: endpoints are http addresses, base_path is absolute', () => {
  const said = (hdfs_web: object): string[] =>
    problems(JSON.stringify({ storage: { provider: 'hdfs_web', hdfs_web } })).map((text) =>
      text.replace('1: storage.hdfs_web.', ''),
    );
  assert.deepEqual(said({}), ['endpoints: needs at least one namenode with the hdfs_web provider']);
  assert.deepEqual(
    said({
      endpoints: ['hdfs://nn:8020', 'http://nn:9870/webhdfs', 'http://me:secret@nn:9870', 'https://nn:9871/'],
    }),
    [0, 1, 2].map(
      (i) =>
        `endpoints[${i}]: must be http://host:port or https://host:port, is "${['hdfs://nn:8020', 'http://nn:9870/webhdfs', 'http://me:secret@nn:9870'][i]}"`,
    ),
  );
  assert.deepEqual(said({ endpoints: ['http://nn:9870'], base_path: 'mail' }), [
    'base_path: must be an absolute path, is "mail"',
  ]);
  const { warnings } = load(
    '{ "storage": { "provider": "hdfs_web", "hdfs_web": { "endpoints": ["http://nn:9870"], "timeout_ms": 6000, "delegation_token": "x" } } }',
  );
  assert.match(
    warnings.join(),
    /storage\.hdfs_web\.timeout_ms: exceeds inbound_persist_wait_timeout_ms \(5000\)/,
  );
});

test('the first restart delay of the supervisor is not longer than the longest', () => {
  assert.deepEqual(problems('{ "supervisor": { "restart_delay_ms": 500, "max_restart_delay_ms": 400 } }'), [
    '1: supervisor.restart_delay_ms: must not exceed supervisor.max_restart_delay_ms (400)',
  ]);
});

test('senders of users are addresses or domains', () => {
  const good = ['bob@example.com', '@Example.com', '@bücher.test', 'b.c@[192.0.2.1]'];
  for (const bad of ['foo', '@', 'a@', '@a b', '.example.com']) {
    const senders = [...good, bad];
    const backend = { type: 'memory', users: [{ username: 'u', password: 'p', senders }] };
    const said = problems(JSON.stringify({ auth: { backends: [backend], users: { bob: { senders } } } }));
    assert.deepEqual(
      said.map((line) => line.replace(/: must be an address such as .*/, '')),
      ['1: auth.backends[0].users[0].senders[4]', '1: auth.users.bob.senders[4]'],
    );
  }
});

test('tls: listeners need a certificate, client certificates something that vouches for them', () => {
  const said = (text: object): string[] =>
    problems(JSON.stringify(text)).map((line) => line.replace('1: ', ''));
  const at = { host: '127.0.0.1', port: 0 };
  assert.deepEqual(said({ listeners: [{ ...at, tls: 'optional' }] }), [
    'listeners[0].tls: "optional" needs tls.cert_file (to try it: protorelay tls self-signed)',
  ]);
  assert.deepEqual(said({ listeners: [{ ...at, client_certificate: 'optional' }] }), [
    'listeners[0].client_certificate: needs "tls" other than "off"',
  ]);
  const mutual = { ...at, tls: 'implicit', client_certificate: 'required' };
  const tls = { cert_file: 'a.crt' };
  assert.deepEqual(said({ listeners: [mutual], tls }), [
    'listeners[0].client_certificate: "required" needs tls.client_ca_file or tls.client_fingerprints, else every client is refused',
  ]);
  assert.match(
    said({ tls: { ...tls, client_fingerprints: ['abc'] } }).join(),
    /a SHA-256 fingerprint of 64 hex digits/,
  );
  assert.deepEqual(said({ tls: { certificates: [{ cert_file: 'b.crt' }] } }), [
    'tls: needs "cert_file"; "key_file" and "certificates" go with it',
  ]);
  const { config, warnings } = load(
    JSON.stringify({ tls: { ...tls, certificates: [{ cert_file: '/b', key_file: 'c' }] } }),
  );
  assert.equal(config.tls.cert_file, '/etc/data/a.crt');
  assert.deepEqual(config.tls.certificates, [{ cert_file: '/b', key_file: '/etc/data/c' }]);
  assert.match(warnings.join(), /tls\.cert_file: has no effect: no listener/);
});

test('delivery.tls: keys that contradict each other, and a port that speaks TLS at once', () => {
  const said = (delivery: object): string[] =>
    problems(JSON.stringify({ delivery })).map((line) => line.replace('1: delivery.', ''));
  assert.deepEqual(said({ tls: { key_file: 'k' } }), ['tls.key_file: needs "cert_file" beside it']);
  assert.deepEqual(said({ tls: { destinations: { 'a b': { mode: 'none' } } } }), [
    'tls.destinations: must be keyed by domains, has "a b"',
  ]);
  assert.deepEqual(said({ dane: { destinations: { 'a b': { mode: 'off' } } } }), [
    'dane.destinations: must be keyed by domains, has "a b"',
  ]);
  assert.deepEqual(said({ smarthost: { host: 'a.test', tls: { mode: 'none', implicit: true } } }), [
    'smarthost.tls.implicit: means TLS, and "mode" none',
  ]);
  const { warnings } = load('{ "delivery": { "routes": { "x.test": { "host": "a.test", "port": 465 } } } }');
  assert.match(warnings.join(), /routes\["x\.test"\]\.port: 465 speaks TLS from the first byte/);
});

test('the scheduler bullmq: what it cannot work with is named', () => {
  const refused = problems(
    '{ "scheduler": { "engine": "bullmq", "redis": { "tls_ca_file": "ca.pem" } } }',
  ).join('\n');
  assert.match(refused, /scheduler\.engine: bullmq needs a queue that nodes share/);
  assert.match(refused, /scheduler\.redis\.tls_ca_file: has an effect with a rediss:\/\/ URL only/);
  assert.match(
    problems('{ "delivery": { "max_cluster_connections_per_destination": 5 } }').join(),
    /max_cluster_connections_per_destination: needs scheduler\.engine "bullmq"/,
  );
  assert.match(
    problems('{ "scheduler": { "redis": { "url": "http://x" } } }').join(),
    /a URL such as redis:/,
  );
  // policy.scope "cluster" uses the same section, with any engine.
  const { warnings } = load('{ "scheduler": { "redis": { "url": "redis://r" } } }');
  assert.match(warnings.join(), /scheduler\.redis: has no effect: .*policy\.scope is not "cluster"/);
  const used = '"redis": { "url": "redis://r", "tls_ca_file": "ca.pem" } }, "policy": { "scope": "cluster" }';
  assert.match(problems(`{ "scheduler": { ${used} }`).join(), /tls_ca_file: has an effect with a rediss/);
  assert.doesNotMatch(
    load(
      '{ "scheduler": { "redis": { "url": "redis://r" } }, "policy": { "scope": "cluster" } }',
    ).warnings.join(),
    /has no effect/,
  );
});

test('postmaster: an address; without one, where strangers can connect, a warning', () => {
  const warned = (text: object): string[] =>
    load(JSON.stringify({ hostname: 'relay.test', ...text })).warnings.filter((one) =>
      /postmaster/.test(one),
    );
  const open = { listeners: [{ host: '0.0.0.0', port: 25 }] };
  const missing = /postmaster: is not set: mail to <postmaster> and postmaster@relay\.test is refused/;
  assert.deepEqual(warned({}), [], 'only clients with relay rights connect');
  assert.match(warned(open)[0] ?? '', missing);
  assert.match(warned({ relay_networks: [] })[0] ?? '', missing);
  assert.deepEqual(warned({ ...open, relay_domains: ['relay.test'] }), [], 'it goes where that domain goes');
  assert.deepEqual(warned({ ...open, postmaster: 'ops@people.test' }), []);
  assert.match(warned({ postmaster: 'ops@Relay.test' })[0] ?? '', /holds no mailboxes/);
  for (const bad of ['ops', '@people.test', 'a@', 'a b@people.test', 'a@people.test>', '.a@people.test', ''])
    assert.equal(problems(JSON.stringify({ postmaster: bad })).length, 1, bad);
});

test('a proxy within relay_networks is a warning', () => {
  const warned = (networks: string[], relay: string[]): number =>
    load(JSON.stringify({ relay_networks: relay, policy: { proxy_protocol: { networks } } })).warnings.filter(
      (one) => /proxy_protocol.*lies in relay_networks/.test(one),
    ).length;
  assert.equal(warned(['10.1.2.3', '192.0.2.0/24'], ['10.0.0.0/8']), 1);
  assert.equal(warned(['10.0.0.0/8'], ['10.1.2.3']), 1);
  assert.equal(warned(['::ffff:10.1.2.3'], ['10.0.0.0/8']), 1);
  assert.equal(warned(['10.1.2.3'], ['::/0']), 0);
  assert.equal(warned(['10.1.2.3'], ['11.0.0.0/8', '2001:db8::/32']), 0);
});

test('a public resolver is a warning where DNS lists are asked', () => {
  const warned = (server: string, enabled: boolean): number => {
    const policy = { dnsbl: { enabled, zones: [{ zone: 'bl.test' }] } };
    const { warnings } = load(JSON.stringify({ dns: { servers: [server] }, policy }));
    return warnings.filter((one) => /is a public resolver/.test(one)).length;
  };
  for (const server of ['8.8.8.8', '1.1.1.1:53', '2001:4860:4860::8888', '[2606:4700:4700::1111]:53'])
    assert.deepEqual([warned(server, true), warned(server, false)], [1, 0], server);
  for (const server of ['127.0.0.1', '10.0.0.53:53', '[2001:db8::1]:53'])
    assert.equal(warned(server, true), 0, server);
});

test('a value that cannot mean anything is one problem, in words that say why', () => {
  const mysql = { node_id: 'a', storage: { provider: 'local' } };
  const shard = { name: 's0', host: 'db' };
  const distributed = (...shards: object[]): object => ({
    ...mysql,
    database: { driver: 'mysql_distributed', shards },
  });
  const next = (host: string): object => ({ delivery: { smarthost: { host } } });
  const redis = (...nodes: string[]): object => ({
    policy: { scope: 'cluster' },
    scheduler: { redis: { topology: 'cluster', nodes } },
  });
  const noHost = 'must be a host name or address, without scheme and port, is';
  const cases: [object, string][] = [
    [next('mail.test:25'), `delivery.smarthost.host: ${noHost} "mail.test:25"`],
    [next('[mail.test]'), `delivery.smarthost.host: ${noHost} "[mail.test]"`],
    [next('127.0.0.1:25'), `delivery.smarthost.host: ${noHost} "127.0.0.1:25"`],
    [
      { delivery: { routes: { 'a.test': { host: 'b.test:25' } } } },
      `delivery.routes["a.test"].host: ${noHost} "b.test:25"`,
    ],
    [{ listeners: [{ host: '*', port: 25 }] }, `listeners[0].host: ${noHost} "*"`],
    [{ listeners: [{ host: 'smtp://a', port: 25 }] }, `listeners[0].host: ${noHost} "smtp://a"`],
    [{ ...mysql, database: { driver: 'mysql', host: 'db:3306' } }, `database.host: ${noHost} "db:3306"`],
    [distributed({ ...shard, host: 'db:1' }), `database.shards[0].host: ${noHost} "db:1"`],
    [
      distributed(shard, { name: 's1', host: 'DB' }),
      'database.shards[1]: is the database of shards[0] too: every shard has one of its own',
    ],
    [
      distributed({ ...shard, endpoints: ['db2:70000'] }),
      'database.shards[0].endpoints[0]: must have a port from 1 to 65535, is "db2:70000"',
    ],
    [redis('r1:99999'), 'scheduler.redis.nodes[0]: must have a port from 1 to 65535, is "r1:99999"'],
    [redis('[::1]:0'), 'scheduler.redis.nodes[0]: must have a port from 1 to 65535, is "[::1]:0"'],
    [
      { delivery: { source_address: '192.0.2.1', ip_family: 'ipv6' } },
      'delivery.source_address: must be an address of delivery.ip_family (ipv6)',
    ],
    [
      { hostname: 'a'.repeat(300) },
      `hostname: must have at most 255 characters, is "${'a'.repeat(99)}… (302 characters)`,
    ],
    [{ hostname: '' }, 'hostname: must not be empty'],
    [
      { max_message_size: 1e30 },
      'max_message_size: must be a whole number from 1024 to 1099511627776, is 1e+30',
    ],
    [
      { hostname: '${NONE}' },
      'hostname: the environment variable NONE is not set (${NONE} stands here; $${NONE} means the text itself)',
    ],
  ];
  for (const [config, problem] of cases)
    assert.deepEqual(problems(JSON.stringify(config)), [`1: ${problem}`], JSON.stringify(config));
  for (const good of [
    next('mail.test'),
    next('::1'),
    next('[::1]'),
    next('[IPv6:::1]'),
    { listeners: [{ host: '::', port: 0 }] },
    distributed(shard, { ...shard, name: 's1', database: 'relay_1' }),
    distributed({ ...shard, endpoints: ['db2', '[::1]:3306', 'db3:3306'] }),
    { delivery: { source_address: '::1', ip_family: 'ipv6' } },
  ])
    load(JSON.stringify(good));
});

test('data_dir alone is found whatever is wrong elsewhere, and not guessed when it may stand in what cannot be read', () => {
  const find = (files: Files, environment: Record<string, string> = {}): string =>
    dataDirOf('/etc/relay/relay.json', environment, (path) => files[path] ?? assert.fail(`ENOENT: ${path}`));
  const of = (text: string, environment?: Record<string, string>): string =>
    find({ '/etc/relay/relay.json': text }, environment);
  assert.equal(of('{}'), '/etc/data');
  assert.equal(of('{ "odd": "${NOT_SET}", "listeners": [] }'), '/etc/data');
  assert.equal(of('{ "data_dir": "/var/relay", "hostname": "${NOT_SET}" }'), '/var/relay');
  assert.equal(of('{ "data_dir": "${DIR}" }', { DIR: '7' }), '/etc/relay/7');
  const including = '{ "include": ["more/base.json"], "hostname": 7 }';
  const base = '{ "data_dir": "data" }';
  const more = { '/etc/relay/relay.json': including, '/etc/relay/more/base.json': base };
  assert.equal(find(more), '/etc/relay/more/data');
  assert.throws(() => find({ '/etc/relay/relay.json': including }), /cannot read .*base\.json/);
  for (const text of ['{ "data_dir": "${NOT_SET}/x" }', '{ "data_dir": 7 }', '{ "data_dir": "" }', '{', '[]'])
    assert.throws(() => of(text), ConfigError, text);
});

test('a value with several faults, or with one in what has another, does not hide what is wrong elsewhere', () => {
  for (const odd of [
    '"hostname": ""',
    '"listeners": [{ "port": "", "host": "" }, {}]',
    '"hostname": "${NO_SUCH}"',
  ])
    assert.match(
      problems(`{ ${odd}, "persist_threads": 2 }`).join(),
      /persist_threads: must be "auto" or 1/,
      odd,
    );
});

test('a command is refused for what is wrong with the keys it needs, and hears of no other', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'load-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'relay.json');
  writeFileSync(path, '{ "storage": { "odd": 1 }, "smtp": { "max_hops": 0 } }');
  assert.throws(() => configFor(['data_dir', 'storage'], path), /storage\.odd(?![\s\S]*max_hops)/);
  assert.equal(configFor(['data_dir'], path).data_dir, join(dir, '../data'));
});

test('a key or value of an earlier release is said with what to write now', () => {
  assert.deepEqual(problems('{ "queue": { "keep_sent_ms": 0, "keep_dead_ms": 0 } }'), [
    '1: queue.keep_sent_ms: is called "keep_delivered_ms" now',
    '1: queue.keep_dead_ms: is called "keep_failed_ms" now',
  ]);
  assert.deepEqual(problems('{ "events": { "keep_files": 30 } }'), [
    '1: events.keep_files: is gone (write "keep_days" and "max_total_mb")',
  ]);
  assert.deepEqual(problems('{ "log": { "level": "trace", "transcripts": true } }'), [
    '1: log.level: must be "debug" or "info" or "warn" or "error" or "silent", is "trace" (write "debug": trace wrote no more)',
    '1: log.transcripts: must be an object, is true (write { "inbound": true })',
  ]);
});
