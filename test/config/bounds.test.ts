/**
 * The relay starts at both ends of every numeric key, takes a message and stops: bounds of the schema are bounds that
 * everything behind it shares. The keys come from config/relay.schema.json; as many as go together share one start.
 * What cannot work is refused by the check, naming file, line and key; what this machine cannot carry is one line.
 *
 * `BOUNDS=. ./build.sh test test/config/bounds.test.ts` starts the relay for every key by itself, `BOUNDS=^smtp` for those.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { EXIT } from '../../src/base/exit-codes.ts';
import { loadConfig } from '../../src/config/load.ts';
import { LIMITS, makeSelfSigned } from '../../src/native.ts';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

/** A pattern: each key that matches, by itself. */
const ONLY = process.env.BOUNDS ?? '';
const each = ONLY !== '';
const PATIENCE_MS = each ? 120_000 : 30_000;

type Json = { [key: string]: unknown };
interface Leaf {
  path: string[];
  name: string;
  min: number;
  max: number;
  whole: boolean;
}

const SCHEMA = JSON.parse(
  readFileSync(new URL('../../config/relay.schema.json', import.meta.url), 'utf8'),
) as Json;
const folder = mkdtempSync(join(tmpdir(), 'bounds-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const made = makeSelfSigned(['relay.test'], 10, 'ecdsa');
const CERT = join(folder, 'cert.pem');
writeFileSync(CERT, made.certificate + made.key, { mode: 0o600 });

/** Keys of what another test starts: a server behind them is what they need (test/system/mysql.test.ts and others). */
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
type Kind = (typeof KINDS)[number][0] | 'common';

function kindOf(name: string, end: 'min' | 'max'): Kind {
  if (end === 'min') return 'common';
  return KINDS.find(([, names]) => names.test(name))?.[0] ?? 'common';
}

function leaves(node: Json, path: string[] = []): Leaf[] {
  const found: Leaf[] = [];
  if ((node.type === 'integer' || node.type === 'number') && path.length > 0)
    found.push({
      path,
      name: path.join('.'),
      min: node.minimum as number,
      max: node.maximum as number,
      whole: node.type === 'integer',
    });
  for (const [key, below] of Object.entries((node.properties ?? {}) as Record<string, Json>))
    found.push(...leaves(below, [...path, key]));
  if (typeof node.additionalProperties === 'object')
    found.push(...leaves(node.additionalProperties as Json, [...path, '*']));
  if (node.items !== undefined) found.push(...leaves(node.items as Json, [...path, '[]']));
  for (const union of ['anyOf', 'oneOf', 'allOf'])
    for (const option of (node[union] ?? []) as Json[]) found.push(...leaves(option, path));
  return found;
}

const KEYS = leaves(SCHEMA).filter(({ name }) => !ELSEWHERE.test(name));

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

function put(settings: Settings, path: readonly string[], value: unknown): void {
  let at = settings as Json;
  path.forEach((step, i) => {
    const key = step === '[]' ? '0' : step === '*' ? (Object.keys(at)[0] ?? 'test') : step;
    if (i === path.length - 1) at[key] = value;
    else {
      at[key] ??= path[i + 1] === '[]' ? [] : {};
      at = at[key] as Json;
    }
  });
}

/** Why the check refuses it; '' when it does not. */
function refusal(settings: Settings): string {
  try {
    loadConfig('/etc/relay.json', {}, { read: () => JSON.stringify(settings, null, 2) });
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

interface Trial {
  settings: Settings;
  kind: Kind;
  keys: string[];
}

/** Starts that hold every key at its least, or at its most, value once. */
function trials(end: 'min' | 'max'): Trial[] {
  const made: Trial[] = [];
  for (const leaf of KEYS) {
    if (each && !new RegExp(ONLY).test(leaf.name)) continue;
    const with_ = (settings: Settings): Settings => {
      const changed = structuredClone(settings);
      put(changed, leaf.path, leaf[end]);
      return changed;
    };
    // A free port is the test's own business.
    if (leaf.name === 'listeners.[].port') continue;
    const alone = with_(base());
    const why = refusal(alone);
    if (why !== '') {
      const key = leaf.path.filter((step) => step !== '[]' && step !== '*').at(-1) as string;
      assert.match(why, /relay\.json:\d+/, why);
      assert.ok(why.includes(key) || /unknown key/i.test(why), `${leaf.name}: ${why}`);
      continue;
    }
    const kind = kindOf(leaf.name, end);
    if (!each && kind === 'long') continue;
    const group = each
      ? undefined
      : made.find((one) => one.kind === kind && refusal(with_(one.settings)) === '');
    if (group === undefined) made.push({ settings: alone, kind, keys: [leaf.name] });
    else {
      group.settings = with_(group.settings);
      group.keys.push(leaf.name);
    }
  }
  return made;
}

/** '' when the relay started, took a message or said why not, and stopped; else what went wrong. */
async function live({ settings, kind }: Trial, end: 'min' | 'max', name: string): Promise<string> {
  const dir = join(folder, name);
  mkdirSync(dir);
  const relay = new RelayFixture({}, { dir, readyMs: PATIENCE_MS });
  relay.writeConfig({ ...settings });
  try {
    relay.launch();
    const first = await relay.readyOrEnded(PATIENCE_MS);
    if (!('addresses' in first)) {
      const said = relay.stderr.trim().split('\n');
      const readable =
        said.length === 1 && said[0]?.startsWith('protorelay: ') && first.code !== EXIT.software;
      if ((kind === 'memory' || kind === 'tables') && readable) return '';
      return `ended with ${first.code}: ${relay.stderr.slice(-600)}`;
    }
    const port = (first.addresses as { port: number }[])[0]?.port as number;
    const talk = await Talk.open({ host: '127.0.0.1', port });
    const replies = [talk.greeting];
    for (const line of ['EHLO c.test', 'MAIL FROM:<a@b.test>', 'RCPT TO:<c@d.test>', 'DATA'])
      replies.push(await talk.say(line));
    if (replies.at(-1)?.startsWith('354')) replies.push(await talk.say('Subject: x\r\n\r\nbody\r\n.'));
    talk.socket.destroy();
    // Nothing more follows a 421.
    const odd = replies.filter((reply, i) => !/^[2345]\d\d[ -]/.test(reply) && (i === 0 || reply !== ''));
    const refused = end === 'max' && kind !== 'floors' && !replies.at(-1)?.startsWith('250');
    if (odd.length > 0 || refused) return `said ${JSON.stringify(replies)}`;
    const { code, signal } = await relay.stop(PATIENCE_MS);
    if (code !== 0) return `stopped with ${code ?? signal}: ${relay.stderr.slice(-600)}`;
    if (/TimeoutOverflowWarning|MaxListeners|Warning:/.test(relay.stderr))
      return `warned: ${relay.stderr.slice(-600)}`;
    return '';
  } finally {
    await relay.destroy();
    rmSync(dir, { recursive: true, force: true });
  }
}

for (const end of ['min', 'max'] as const)
  test(`the relay lives with every number at its ${end}`, {
    timeout: each ? 3_600_000 : 240_000,
  }, async () => {
    const failures: string[] = [];
    for (const [i, trial] of trials(end).entries()) {
      const wrong = await live(trial, end, `${end}-${i}`);
      if (wrong !== '') failures.push(`${trial.keys.join(', ')} at ${end}: ${wrong}`);
    }
    assert.deepEqual(failures, []);
  });

test('what the addon bounds is bounded alike in the schema', () => {
  const bound = (name: string): number => KEYS.find((leaf) => leaf.name === name)?.max ?? Number.NaN;
  assert.ok(bound('smtp.max_command_line_bytes') - 2 <= LIMITS.maxLineBytes);
  assert.ok(bound('smtp.max_connections') <= LIMITS.maxConnections);
  assert.ok(2 * bound('delivery.max_connections') <= LIMITS.maxConnections);
});
