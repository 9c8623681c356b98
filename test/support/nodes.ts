/** Relays that share a queue on servers: what tests of them have in common. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '../../src/database/mysql/schema.ts';
import { type DatabaseAccess, MariaDb, serverConfig } from '../services/mariadb.ts';
import { oneFateEach } from './one-fate.ts';
import { bounded, RelayFixture, type Settings } from './relay-fixture.ts';
import { ScriptedSink } from './scripted-sink.ts';
import { SteadyLoad } from './steady-load.ts';

export const LEASE_MS = 1500;

interface Served {
  server: MariaDb;
  access: DatabaseAccess;
}

let shared: Promise<MariaDb> | null = null;
after(async () => (await shared)?.close());

/** A database of its own, on a server that the tests of a file share. Who kills that starts it again. */
export async function sharedServer(): Promise<Served> {
  shared ??= MariaDb.start();
  const server = await shared;
  if (!server.running) await server.start();
  return migrated(server);
}

/** A server of the test's own. */
export async function startServer(t: TestContext): Promise<Served> {
  const server = await MariaDb.start();
  t.after(() => server.close());
  return migrated(server);
}

async function migrated(server: MariaDb): Promise<Served> {
  const access = await server.createDatabase();
  await migrate(serverConfig(server.admin(access)), Date.now());
  return { server, access };
}

/** A queue on one server, as one shard: those have pauses that can be set, and tests have no time. */
export const oneShard = (access: DatabaseAccess, more: Settings = {}): Settings => ({
  driver: 'mysql_distributed',
  shards: [{ name: 's0', ...access, ...more }],
  retry_delay_ms: 100,
  max_retry_delay_ms: 500,
});

export async function startSink(t: TestContext, options: object = {}): Promise<ScriptedSink> {
  const sink = await ScriptedSink.start({ keepContent: false, ...options });
  t.after(() => sink.stop());
  return sink;
}

/** A node of a cluster; all share `mail`. */
export async function startNode(
  t: TestContext,
  name: string,
  mail: string,
  settings: Settings,
): Promise<RelayFixture> {
  const relay = new RelayFixture({
    node_id: name,
    storage: { provider: 'local', local: { path: mail } },
    lease_ms: LEASE_MS,
    scheduler: { poll_interval_ms: 100 },
    session_threads: 1,
    delivery_threads: 1,
    ...settings,
  });
  t.after(() => relay.destroy());
  await relay.start();
  return relay;
}

export function sharedFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'mail-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** What the server counted of these. */
async function counted(server: MariaDb, ...names: string[]): Promise<number> {
  const rows = await server.query<{ Variable_name: string; Value: string }[]>(
    `SHOW GLOBAL STATUS WHERE Variable_name IN (${names.map((name) => `'${name}'`).join(',')})`,
  );
  return rows.reduce((sum, { Value }) => sum + Number(Value), 0);
}

/** Statements that read or change rows, bulk ones counted once. */
const statements = (server: MariaDb): Promise<number> =>
  counted(server, 'Com_select', 'Com_update', 'Com_delete', 'Com_insert');
const transactions = (server: MariaDb): Promise<number> => counted(server, 'Com_commit');

/** To see what a node asks that has nothing to do: polls, renewals, clocks. */
const IDLE_MS = 3000;

/**
 * Claiming and settling a backlog costs the server a statement for 50 recipients at most, and each recipient has one fate.
 * On a busy machine, where results come in slowly, transactions are small: then three statements in each. What the node
 * asks in any case, every so often, is left out.
 */
export async function fewStatements(t: TestContext, recipients: number, scheduler: Settings): Promise<void> {
  const { server, access } = await startServer(t);
  const sink = await startSink(t);
  const untouched = await statements(server);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    database: { driver: 'mysql', ...access },
    lease_ms: 120_000,
    scheduler,
    delivery: { enabled: false, smarthost: { host: '127.0.0.1', port: sink.port } },
  });
  const start = (await statements(server)) - untouched;
  const load = new SteadyLoad(() => [relay.port], 20, 'one.test');
  t.after(() => load.stop());
  await bounded(load.more(recipients), 60_000, () => relay.output());
  await load.stop();
  await relay.stop();
  relay.configure({ delivery: { enabled: true } });
  const before = await statements(server);
  const committedBefore = await transactions(server);
  const beganMs = performance.now();
  await relay.start();
  await oneFateEach([relay], load.acknowledged, 60_000);
  const tookMs = performance.now() - beganMs;
  const all = (await statements(server)) - before - start;
  const committed = (await transactions(server)) - committedBefore;
  const idle = await statements(server);
  await sleep(IDLE_MS);
  const anyway = (((await statements(server)) - idle) * tookMs) / IDLE_MS;
  const each = (all - anyway) / load.acknowledged.length;
  const inOne = (all - anyway) / committed;
  const said = `${each.toFixed(4)} statements a recipient, ${inOne.toFixed(1)} a transaction`;
  t.diagnostic(`${said}, and ${anyway.toFixed(0)} besides in ${tookMs.toFixed(0)} ms`);
  assert.ok(each <= 1 / 50 || inOne <= 3, said);
}
