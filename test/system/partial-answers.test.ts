/** Commands on the queue while a part of it is away: what could be seen and done is, what is missing is said, exit 75. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Missing } from '../../src/database/database.ts';
import { shardOfQueueId } from '../../src/mail/queue-id.ts';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { sharedFolder, startNode, startServer, startSink } from '../support/nodes.ts';
import type { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

type Ran = Awaited<ReturnType<RelayFixture['queue']>>;

const missingIn = (ran: Ran): Missing[] => (JSON.parse(ran.stdout) as { missing: Missing[] }).missing;
const names = (missing: Missing[]): string[] => missing.map(({ kind, name }) => `${kind} ${name}`);

test('a shard is down: stats, list and bulk actions say so; what concerns the other one alone is whole', {
  skip: skipWithoutMariaDb(),
  timeout: 90_000,
}, async (t) => {
  const servers = [await startServer(t), await startServer(t)];
  const sink = await startSink(t);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    database: {
      driver: 'mysql_distributed',
      retry_delay_ms: 200,
      max_retry_delay_ms: 500,
      shards: servers.map(({ access }, i) => ({
        name: `s${i}`,
        ...access,
        connection_timeout_ms: 500,
        query_timeout_ms: 1000,
      })),
    },
  });
  const ids: [string[], string[]] = [[], []];
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  while (ids[0].length < 3 || ids[1].length < 2) {
    const queueId = await talk.accepted({ to: 'defer-451@b.test' });
    ids[shardOfQueueId(queueId) as 0 | 1].push(queueId);
  }
  const [seen, unseen] = ids as unknown as [[string, string, string], [string, string]];
  // They wait for their next attempts.
  await eventually(async () => {
    assert.equal((await relay.queueEntries('--state', 'deferred')).length, ids.flat().length);
  });
  // The shard is away when the replies to these come: of one at least the result is kept in a file.
  sink.options.delays = { rcpt: 1500 };
  for (let shard = 0; shard !== 1; )
    shard = shardOfQueueId(await talk.accepted({ to: 'defer-451+late@b.test' }));
  await talk.quit();
  const down = relay.logLine('shard.down');
  const kept = relay.logLine('results.kept', undefined, 20_000);
  await servers[1]?.server.kill();
  await Promise.all([down, kept]);

  const status = await relay.status();
  assert.equal(status.code, 75);
  assert.match(status.stdout, /^Impaired +a shard is down: s1: /m);

  const results = `results ${join(relay.dataDir, 'unsettled-*')}`;
  const partial = async (args: string[], expected = ['shard s1', results]): Promise<void> => {
    const ran = await relay.queue(...args, '--json');
    assert.equal(ran.code, 75, `${args}: ${ran.stdout}${ran.stderr}`);
    assert.match(ran.stderr, /shard s1 is down/, `${args}`);
    assert.deepEqual(names(missingIn(ran)), expected, `${args}`);
    for (const { shards } of missingIn(ran)) assert.deepEqual(shards, [1], `${args}`);
  };
  await partial(['hold', '--all']);
  await Promise.all([
    partial(['stats']),
    partial(['list']),
    partial(['hold', '--destination', 'b.test']),
    partial(['delete', seen[1], unseen[1]]),
  ]);
  const whole = async (...args: string[]): Promise<void> => {
    const ran = await relay.queue(...args, '--json');
    assert.equal(ran.code, 0, `${args}: ${ran.stderr}`);
    assert.deepEqual(missingIn(ran), [], `${args}`);
  };
  await Promise.all([whole('show', seen[0]), whole('delete', seen[2]), whole('release', seen[0])]);
  const unknown = await relay.queue('show', unseen[0]);
  assert.equal(unknown.code, 75, 'nobody knows what it holds');
  assert.match(unknown.stderr, /shard s1 is down/);

  // The same of a relay that does not run.
  await relay.kill();
  await partial(['list'], [results, 'shard s1']);
  await whole('show', seen[0]);
});

test('a stopped node has mail in its journal: stats, list and show say so until it was started again', {
  skip: skipWithoutMariaDb(),
  timeout: 90_000,
}, async (t) => {
  const { server, access } = await startServer(t);
  const relay = await startNode(t, 'a', sharedFolder(t), {
    inbound_ack_mode: 'after_journal',
    delivery: { enabled: false },
    database: { driver: 'mysql', ...access, connection_timeout_ms: 500, query_timeout_ms: 1000 },
  });
  const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
  const queued = await talk.accepted({ to: 'first@b.test' });
  await eventually(async () => assert.equal((await relay.queueEntries()).length, 1));
  await server.kill();
  const journaled = [await talk.accepted({ to: 'b@b.test' }), await talk.accepted({ to: 'c@b.test' })];
  talk.destroy();
  await relay.kill();
  await server.start();

  const journal = join(relay.dataDir, 'journal');
  const [one, other] = journaled as [string, string];
  for (const args of [
    ['stats', '--json'],
    ['list', '--json'],
    ['show', one],
    ['cat', other],
  ]) {
    const ran = await relay.queue(...args);
    assert.equal(ran.code, 75, `${args}: ${ran.stdout}${ran.stderr}`);
    assert.ok(ran.stderr.includes(`journal ${journal} holds about 2 messages`), `${args}: ${ran.stderr}`);
    if (!args.includes('--json')) continue;
    const said = missingIn(ran).map(({ name, shards }) => ({ name, shards }));
    assert.deepEqual(said, [{ name: journal, shards: [0] }]);
  }
  assert.equal((await relay.queue('show', queued)).code, 0, 'what is found is whole');

  await relay.start();
  await eventually(async () => assert.equal((await relay.queueEntries()).length, 3));
  await relay.queueJson('stats');
  await relay.queueJson('show', one);
  await relay.stop();
  await relay.queueJson('stats');
  assert.equal((await relay.queueEntries()).length, 3);
});
