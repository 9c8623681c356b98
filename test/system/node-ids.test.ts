/** One node id is one process's at a time: whoever comes second is told, and a first that lost it does no harm. */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { LEASE_MS, sharedFolder, startNode, startServer, startSink } from '../support/nodes.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

/** As the sessions' own: no message for a shard whose name for us is another's. */
const REFUSED = /^451 4\.3\.0 /;

async function twins(t: TestContext): Promise<[RelayFixture, RelayFixture]> {
  const { access } = await startServer(t);
  const sink = await startSink(t);
  const mail = sharedFolder(t);
  const settings = {
    database: { driver: 'mysql', ...access, connection_timeout_ms: 1000 },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  };
  const first = await startNode(t, 'same', mail, settings);
  const second = new RelayFixture({ ...first.settings, ...settings });
  t.after(() => second.destroy());
  return [first, second];
}

test('a second relay with a node_id in use does not start, and says who has it and until when', {
  skip: skipWithoutMariaDb(),
  timeout: 60_000,
}, async (t) => {
  const [first, second] = await twins(t);
  second.launch();
  assert.deepEqual(await second.exited(), { code: 75, signal: null });
  assert.match(second.stderr, /node_id "same" is in use on 127\.0\.0\.1:\d+\/relay1 by pid \d+ on /);
  assert.ok(second.stderr.includes(`pid ${first.pid} on ${hostname()} since `), second.stderr);
  const until = /its lease until ([-0-9T:.]+Z)/.exec(second.stderr)?.[1] ?? '';
  assert.ok(Math.abs(Date.parse(until) - Date.now()) < 20_000, second.stderr);
  assert.match(second.stderr, /give this node a node_id of its own/);

  await first.kill();
  const sinceMs = Date.now();
  await second.start();
  assert.ok(Date.now() - sinceMs < 10_000, 'a life that was killed keeps nobody waiting');
  await second.stop();
  await first.start();
});

test('who stood still for longer than its lease, and finds its node_id taken, takes no mail until it is free', {
  skip: skipWithoutMariaDb(),
  timeout: 60_000,
}, async (t) => {
  const [first, second] = await twins(t);
  first.signal('SIGSTOP');
  // The server ends the connection that says nothing for 3 s, and with it the lock.
  for (const untilMs = Date.now() + 20_000; !second.running; await sleep(LEASE_MS / 5)) {
    assert.ok(Date.now() < untilMs, second.output());
    await second.start().catch(() => {});
  }
  const lost = first.logLine('node.id_lost');
  first.signal('SIGCONT');
  const { error } = await lost;
  assert.match(JSON.stringify(error), new RegExp(`node_id is in use .* by pid ${second.pid} on `));
  const talk = await Talk.hello({ port: first.port });
  assert.match(await talk.send({ to: 'a@one.test' }), REFUSED);
  const other = await Talk.hello({ port: second.port });
  assert.match(await other.send({ to: 'b@one.test' }), /^250/);
  const regained = first.logLine('node.id_regained');
  await second.stop();
  await bounded(regained, 10_000, () => first.output());
  // A commit that failed is remembered for a second.
  for (const untilMs = Date.now() + 10_000; ; await sleep(100)) {
    const reply = await talk.send({ to: 'c@one.test' }).catch((error: Error) => error.message);
    if (reply.startsWith('250')) break;
    assert.ok(Date.now() < untilMs, reply);
  }
  for (const one of [talk, other]) one.socket.destroy();
});
