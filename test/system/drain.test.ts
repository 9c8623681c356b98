/** A drain that meets trouble: a client and a peer that stand still, a database that refuses for a while. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

test('a client and a peer that stand still are cut within the grace, and the queue is left in order', {
  timeout: 60_000,
}, async (t) => {
  const sink = await ScriptedSink.start();
  t.after(() => sink.stop());
  const relay = await RelayFixture.start({
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    shutdown_grace_ms: 2000,
  });
  t.after(() => relay.destroy());
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  await talk.accepted({ to: 'hang-at-dot@still.test' });
  await sink.until(() => sink.unaccepted.length === 1);
  // A client in the middle of its content.
  for (const command of ['MAIL FROM:<s@still.test>', 'RCPT TO:<r@still.test>', 'DATA'])
    await talk.say(command);
  assert.deepEqual(await relay.stop(), { code: 0, signal: null });
  const said = relay.log.map((line) => line.event ?? line.msg);
  assert.ok(!said.includes('relay.grace_over'), relay.output());
  const { entries } = (await relay.queueJson<StatsAnswer>('stats')).queue;
  assert.deepEqual([entries.sending, entries.deferred], [0, 1], 'nothing is left to recovery');
});

test('after_enqueue: what the database refused so far is committed before the relay ends', {
  timeout: 60_000,
}, async (t) => {
  const relay = await RelayFixture.start({
    inbound_ack_mode: 'after_enqueue',
    delivery: { enabled: false },
  });
  t.after(() => relay.destroy());
  const other = new DatabaseSync(join(relay.dataDir, 'queue.db'));
  other.exec('BEGIN IMMEDIATE');
  const retrying = relay.logLine('commit.retrying');
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const queueId = await talk.accepted({ to: 'a@later.test' });
  await talk.quit();
  await retrying;
  const ended = relay.stop();
  other.exec('ROLLBACK');
  other.close();
  assert.equal((await ended).code, 0);
  assert.match((await relay.queue('list')).stdout, new RegExp(queueId));
});
