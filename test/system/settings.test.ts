/** Settings whose effect shows only in a whole relay: threads, leases, purging, configs on disk. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

/** How many threads of a process have a name like this, as the kernel knows them. */
function threads(pid: number, name: RegExp): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const names = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').trim());
  return names.filter((found) => name.test(found)).length;
}

/** A next hop that does with each connection what `serve` says; on a free port of loopback. */
async function nextHop(t: TestContext, greeting: string): Promise<{ host: string; port: number }> {
  const server = createServer((socket) => socket.on('error', () => {}).write(greeting));
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return { host: '127.0.0.1', port: address.port };
}

async function started(t: TestContext, settings: Settings): Promise<RelayFixture> {
  const relay = await RelayFixture.start(settings);
  t.after(() => relay.destroy());
  return relay;
}

async function send(relay: RelayFixture): Promise<void> {
  const talk = await Talk.hello({ host: '127.0.0.1', port: relay.port });
  await talk.send({ from: 'a@a.test', to: 'b@b.test', content: 'Subject: x\r\n\r\nx\r\n' });
  talk.socket.destroy();
}

/** What a query on the queue's database says; the relay may run meanwhile. */
function ask<T>(relay: RelayFixture, sql: string): T[] {
  const database = new DatabaseSync(join(relay.dataDir, 'queue.db'), { readOnly: true });
  try {
    return database.prepare(sql).all() as T[];
  } finally {
    database.close();
  }
}

test('session_threads and delivery_threads start so many threads', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const relay = await started(t, { session_threads: 2, delivery_threads: 3 });
  assert.equal(threads(relay.pid, /^session-/), 2);
  assert.equal(threads(relay.pid, /^delivery-/), 3);
});

test('a row being sent is leased for lease_ms', async (t) => {
  // A next hop that never greets: the row stays SENDING.
  const relay = await started(t, { lease_ms: 3_600_000, delivery: { smarthost: await nextHop(t, '') } });
  const before = Date.now();
  await send(relay);
  const [row] = ask<{ state: string; until: number }>(
    relay,
    'SELECT state, lease_until AS until FROM mail_outbox',
  );
  assert.equal(row?.state, 'SENDING');
  assert.ok(row.until >= before + 3_600_000 && row.until <= Date.now() + 3_600_000);
});

test('queue.keep_failed_ms keeps a bounced message, queue.purge_interval_ms later it is gone', {
  timeout: 60_000,
}, async (t) => {
  const settings = {
    delivery: { smarthost: await nextHop(t, '554 5.3.2 no service\r\n') },
    retry: { enabled: false },
  };
  const relay = await started(t, {
    ...settings,
    queue: { keep_failed_ms: 3_600_000, purge_interval_ms: 100 },
  });
  await send(relay);
  await relay.events.one('bounce', (event) => event.type === 'bounced' && event.recipient === 'b@b.test');
  const dead = "SELECT 1 FROM mail_outbox WHERE state = 'DEAD'";
  assert.ok(ask(relay, dead).length > 0, 'kept for inspection');
  await relay.stop();
  relay.configure({ queue: { keep_failed_ms: 0, purge_interval_ms: 100 } });
  await relay.start();
  // Bounded by the limit of the test; every round asks the relay, no sleep.
  while (ask(relay, dead).length > 0) await relay.queue('stats');
});
