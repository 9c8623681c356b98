/**
 * The relay starts at both ends of every numeric key, takes a message and stops: bounds of the schema are bounds that
 * everything behind it shares. The keys come from config/relay.schema.json; as many as go together share one start.
 * What cannot work is refused by the check, naming file, line and key; what this machine cannot carry is one line.
 *
 * `BOUNDS=. ./build.sh test test/config/bounds.test.ts` starts the relay for every key by itself, `BOUNDS=^smtp` for those.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LIMITS, makeSelfSigned } from '../../src/native.ts';
import type { Settings } from '../support/relay-fixture.ts';
import { type End, each, failures, KEYS, type Kind, refusal } from './bounds-fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'bounds-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const made = makeSelfSigned(['relay.test'], 10, 'ecdsa');
const CERT = join(folder, 'cert.pem');
writeFileSync(CERT, made.certificate + made.key, { mode: 0o600 });

/** Keys of what has servers behind it: bounds-servers.test.ts. */
const ELSEWHERE =
  /^(database\.(port|initial_pool|max_pool|connection_timeout|query_timeout|idle_timeout|router|shards|retry_delay|max_retry))|^journal\.|^storage\.hdfs_web/;
/**
 * What a start shares with what. memory, tables: a machine may not have so much, then the start says one line;
 * floors refuse all mail; of processes and threads 64 take their time, so they start in the long form only.
 */
const KINDS = [
  ['memory', /^content_memory_mb$/],
  ['tables', /^(auth\.max_quota_users|policy\..*(max_counters|max_entries)|smtp\.max_connections)$/],
  ['floors', /^persist_min_/],
  ['long', /^(accept_processes|session_threads|delivery_threads)$/],
] as const;

function kindOf(name: string, end: End): Kind {
  if (end === 'min') return 'common';
  return KINDS.find(([, names]) => names.test(name))?.[0] ?? 'common';
}

/** A rule has a count or a ratio, and here it has a count; its rate is above 0, which the schema says as no least value. */
const HERE = KEYS.filter(
  ({ name }) => !ELSEWHERE.test(name) && !/^rules\.\[\]\.(threshold\.ratio|messages_per_s)$/.test(name),
);

/** Everything that can be on is on, so that each key has somebody who reads it. */
function base(): Settings {
  const on = { enabled: true, mode: 'log' };
  return {
    hostname: 'relay.test',
    data_dir: 'data',
    accept_processes: 1,
    listeners: [{ host: '127.0.0.1', port: 0, auth: 'optional', tls: 'optional' }],
    persist_min_available_memory_mb: 0,
    persist_min_free_disk_mb: 0,
    persist_min_db_available_connections: 0,
    tls: { cert_file: CERT },
    auth: {
      allow_without_tls: true,
      backends: [{ type: 'memory', users: [{ username: 'test', password: 'pass' }] }],
      users: { test: {} },
    },
    storage: {
      provider: 'distributed',
      distributed: { roots: ['a', 'b'], replica_count: 2, write_quorum: 1 },
    },
    adaptive: { first_probe_ms: 100, providers: { google: {} } },
    rules: [{ name: 'a', threshold: { count: 1 }, action: 'set_limit', messages_per_s: 1 }],
    warmup: [{ source: '' }],
    egress: {
      sources: [{ name: 'a' }],
      pools: [{ name: 'p', members: [{ source: 'a' }] }],
      routing: [
        { match: { tenant: 'b' }, next_hop: { host: '127.0.0.1', port: 2 } },
        { match: { tenant: 'a' }, pool: 'p' },
      ],
    },
    delivery: {
      enabled: false,
      smarthost: { host: '127.0.0.1', port: 2 },
      routes: { 'x.test': { host: '127.0.0.1', port: 2 } },
    },
    policy: {
      connections: { ...on },
      rates: { ...on, limits: [{ count: 'messages', per: 'all', limit: 1000 }] },
      bans: { ...on },
      dnsbl: { zones: [{ zone: 'list.test' }] },
      greylist: { ...on },
      tarpit: { ...on },
      early_talker: { ...on },
    },
    log: { level: 'info', format: 'json', file: null },
  };
}

test('the configuration these tests begin with is sound', () => {
  assert.equal(refusal(base()), '');
});

for (const end of ['min', 'max'] as const)
  test(`the relay lives with every number at its ${end}`, {
    timeout: each ? 3_600_000 : 240_000,
  }, async () => {
    assert.deepEqual(await failures(folder, { base: base(), keys: HERE, kindOf }, end), []);
  });

test('what the addon bounds is bounded alike in the schema', () => {
  const bound = (name: string): number => KEYS.find((leaf) => leaf.name === name)?.max ?? Number.NaN;
  assert.ok(bound('smtp.max_command_line_bytes') - 2 <= LIMITS.maxLineBytes);
  assert.ok(bound('smtp.max_connections') <= LIMITS.maxConnections);
  assert.ok(2 * bound('delivery.max_connections') <= LIMITS.maxConnections);
});
