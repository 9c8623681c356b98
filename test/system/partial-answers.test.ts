/** Commands on the queue while a part of it is away: what could be seen and done is, what is missing is said, exit 75. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Missing } from '../../src/database/database.ts';
import { shardOfQueueId } from '../../src/mail/queue-id.ts';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { sharedFolder, startNode, startServer } from '../support/nodes.ts';
import type { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

type Ran = Awaited<ReturnType<RelayFixture['queue']>>;

const missingIn = (ran: Ran): Missing[] => (JSON.parse(ran.stdout) as { missing: Missing[] }).missing;
const names = (missing: Missing[]): string[] => missing.map(({ kind, name }) => `${kind} ${name}`);

test('a shard is down: stats, list and bulk actions say so; what concerns the other one alone is whole', {
  skip: skipWithoutMariaDb(),
  timeout: 90_000,
}, async (t) => {
  const servers = [await startServer(t), await startServer(t)];
  const relay = await startNode(t, 'a', sharedFolder(t), {
    // Nothing is attempted: results that wait for the shard are named too, and not what this is about.
    delivery: { enabled: false },
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
    const queueId = await talk.accepted({ to: 'b@b.test' });
    ids[shardOfQueueId(queueId) as 0 | 1].push(queueId);
  }
  await talk.quit();
  const [seen, unseen] = ids as unknown as [[string, string, string], [string, string]];
  const down = relay.logLine('shard.down');
  await servers[1]?.server.kill();
  await down;

  const partial = async (...args: string[]): Promise<void> => {
    const ran = await relay.queue(...args, '--json');
    assert.equal(ran.code, 75, `${args}: ${ran.stdout}${ran.stderr}`);
    assert.match(ran.stderr, /shard s1 is down/, `${args}`);
    // Results for it may be kept meanwhile, and are named as well.
    const missing = names(missingIn(ran)).filter((name) => !name.startsWith('results '));
    assert.deepEqual(missing, ['shard s1'], `${args}`);
  };
  await partial('hold', '--all');
  await Promise.all([
    partial('stats'),
    partial('list'),
    partial('hold', '--destination', 'b.test'),
    partial('delete', seen[1], unseen[1]),
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
  await partial('list');
});
