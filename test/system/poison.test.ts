/** A message that ends the relay while it is being sent is set aside after the second time, and nothing else is. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import { documentedFields, undocumented } from '../support/documented-events.ts';
import { fate } from '../support/fates.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';
import { Talk } from '../support/talk.ts';

const POISON = 'hang-at-rcpt+poison@queue.test';
/** A message has a Message-ID and attributes if its sender gave it some; held events of rules have the rest, see routing.test.ts. */
const OF_OTHERS = [
  ...['message_id', 'rule', 'recipients'],
  ...['tenant', 'campaign', 'mail_class', 'pool', 'metadata', 'priority_hint', 'deadline_at'],
];
const INNOCENT = 'once-hang-at-dot+innocent@queue.test';

test('what was under way at two deaths is held; what only was there goes on', {
  timeout: 60_000,
}, async (t) => {
  // Replies come one by one: what hangs keeps its connection.
  const sink = await ScriptedSink.start({ capabilities: ['SIZE'] });
  const relay = await RelayFixture.start({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      max_connections_per_destination: 2,
      backlog_per_connection: 1,
      backlog_wait_ms: 10,
    },
    shutdown_grace_ms: 1000,
  });
  t.after(() => Promise.all([relay.destroy(), sink.stop()]));
  const send = async (to: string): Promise<string> => {
    const talk = await Talk.hello({ port: relay.port, host: '127.0.0.1' });
    const queueId = await talk.accepted({ to, content: 'Subject: x\r\n\r\nx\r\n' });
    await talk.quit();
    return queueId;
  };
  const tries = (address: string): number =>
    sink.commands.filter((line) => line.includes(`RCPT TO:<${address}>`)).length;
  const isTried = (address: string, count: number): Promise<void> =>
    sink.until(() => tries(address) >= count);

  const poison = await send(POISON);
  await send(INNOCENT);
  await isTried(POISON, 1);
  await sink.until(() => sink.unaccepted.length + sink.commands.filter((c) => c.endsWith('DATA')).length > 0);
  // Handed to delivery, and never begun: both connections are busy.
  for (let i = 0; i < 20; i++) await send(`bystander-${i}@queue.test`);
  await relay.kill();
  await relay.start();
  const suspected = relay.log.filter(({ event, msg }) => (event ?? msg) === 'poison.suspected');
  assert.equal(suspected.length, 2, 'the two that were under way, and none that waited');
  for (let i = 0; i < 20; i++) await fate(relay.events, `bystander-${i}@queue.test`, 'delivered');
  await isTried(POISON, 2);
  await relay.kill();
  await relay.start();
  await fate(relay.events, INNOCENT, 'delivered');
  const held = await relay.events.one(
    'event held',
    ({ type, queue_id }) => type === 'held' && queue_id === poison,
  );
  assert.deepEqual(undocumented([held]), []);
  for (const name of documentedFields().get('held') ?? [])
    if (!OF_OTHERS.includes(name)) assert.notEqual(held[name], undefined, name);
  const entries = await relay.queueEntries('--state', 'held');
  assert.deepEqual(
    entries.map(({ queue_id, reason }) => [queue_id, reason]),
    [[poison, 'suspected_poison']],
  );
  assert.match((await relay.queue('show', poison)).stdout, /suspected_poison: the relay died twice/);
  const stats = await relay.queueJson<StatsAnswer>('stats');
  assert.equal(stats.queue.suspected_poison_entries, 1);
  assert.match((await relay.queue('stats')).stdout, /Poison {6}1 entry held/);
  assert.equal(tries(POISON), 2, 'not tried in the third life');

  assert.equal((await relay.queue('release', poison)).code, 0);
  await isTried(POISON, 3);
  // A drain that cuts it off is no death.
  await relay.stop();
  assert.deepEqual(
    readdirSync(relay.dataDir).filter((name) => name.startsWith('begun')),
    [],
  );
});
