/** after_journal on real servers: mail is acknowledged whatever they do, and all of it meets one fate. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '../../src/database/mysql/schema.ts';
import type { JournalStats } from '../../src/journal/journal.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { bounded, RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { Talk } from '../support/talk.ts';

const skip = skipWithoutMariaDb();
const MIB = 1_048_576;

interface World {
  server: MariaDb;
  access: DatabaseAccess;
  sink: ScriptedSink;
  relay: RelayFixture;
}

async function newDatabase(server: MariaDb): Promise<DatabaseAccess> {
  const access = await server.createDatabase();
  await migrate(serverConfig(server.admin(access)), Date.now());
  return access;
}

async function startWorld(t: TestContext, settings: Settings = {}): Promise<World> {
  const server = await MariaDb.start();
  t.after(() => server.close());
  const access = await newDatabase(server);
  const sink = await ScriptedSink.start({ keepContent: false });
  t.after(() => sink.stop());
  const relay = new RelayFixture({
    node_id: 'a',
    inbound_ack_mode: 'after_journal',
    database: { driver: 'mysql', ...access, connection_timeout_ms: 1000 },
    storage: { provider: 'local' },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    session_threads: 1,
    delivery_threads: 1,
    scheduler: { poll_interval_ms: 100 },
    ...settings,
  });
  t.after(() => relay.destroy());
  return { server, access, sink, relay };
}

async function journalOf(relay: RelayFixture): Promise<JournalStats> {
  const { journal } = await relay.queueJson<{ journal: JournalStats }>('stats');
  return journal;
}

async function untilDrained(relay: RelayFixture, withinMs = 30_000): Promise<void> {
  const until = Date.now() + withinMs;
  while ((await journalOf(relay)).waiting > 0) {
    if (Date.now() > until) assert.fail(`not drained:\n${relay.output()}`);
    await sleep(100);
  }
}

test('mail is acknowledged from the journal, drained, delivered; what is done with is deleted', {
  skip,
}, async (t) => {
  const { relay, sink } = await startWorld(t);
  await relay.start();
  const load = new SteadyLoad(() => [relay.port], 10, 'one.test');
  await bounded(load.more(500), 20_000, () => relay.output());
  await load.stop();
  assert.deepEqual(load.refused, []);
  await oneFateEach([relay], load.acknowledged, 20_000);
  await untilDrained(relay);
  assert.deepEqual([...new Set(deliveries(sink).values())], [1]);
  const text = (await relay.queue('stats')).stdout;
  assert.match(text, /^Journal +0 messages to drain \(.* of 4\.0G\), oldest none$/m);
  assert.equal((await relay.stop()).code, 0);
});
