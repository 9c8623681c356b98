/** A message that ends every node which sends it ends two, or three where the first does not come back; then it is held. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { oneShard, sharedFolder, sharedServer, startNode, startSink } from '../support/nodes.ts';
import { deliveries } from '../support/one-fate.ts';
import { bounded, type RelayFixture, type Settings } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { eventually } from '../support/wait.ts';

const POISON = 'hang-at-rcpt+poison@one.test';
const INNOCENT = Array.from({ length: 6 }, (_, i) => `slow-100+${i}@one.test`);

describe('a poison message among several nodes', { skip: skipWithoutMariaDb() }, () => {
  /** Nodes that come one after another, the first with all of the mail. */
  async function world(t: TestContext) {
    const { access } = await sharedServer();
    // Replies come one by one: what hangs keeps its connection.
    const sink = await startSink(t, { capabilities: ['SIZE'] });
    const mail = sharedFolder(t);
    const nodes: RelayFixture[] = [];
    const settings = { lease_ms: 1000, database: oneShard(access) };
    const next = async (delivery: Settings = {}): Promise<RelayFixture> => {
      const smarthost = { host: '127.0.0.1', port: sink.port };
      const all = {
        ...settings,
        delivery: { smarthost, max_connections_per_destination: 5, backlog_per_connection: 1, ...delivery },
      };
      const node = await startNode(t, `n${nodes.length}`, mail, all);
      nodes.push(node);
      return node;
    };
    const first = await next();
    const talk = await Talk.hello({ host: '127.0.0.1', port: first.port });
    const poison = await talk.accepted({ to: POISON });
    for (const to of INNOCENT) await talk.accepted({ to });
    talk.socket.destroy();
    const tries = (): number => sink.commands.filter((line) => line.includes(`RCPT TO:<${POISON}>`)).length;
    return {
      first,
      next,
      /** A node that is sending the poison dies of it. */
      async dies(node: RelayFixture, count: number): Promise<void> {
        await sink.until(() => tries() >= count);
        assert.equal(tries(), count);
        await node.kill();
      },
      /** The last one holds it, sends the rest, and tries it no more. */
      async holds(node: RelayFixture, deaths: number): Promise<void> {
        await node.events.one('held', (event) => event.type === 'held' && event.queue_id === poison);
        await bounded(
          sink.until(() => deliveries(sink).size === INNOCENT.length),
          15_000,
          () => node.output(),
        );
        // What a node that was killed had settled may have no event.
        await eventually(async () =>
          assert.deepEqual(
            (await node.queueEntries()).map(({ queue_id, state, reason }) => [queue_id, state, reason]),
            [[poison, 'held', 'suspected_poison']],
          ),
        );
        assert.equal(tries(), deaths);
      },
    };
  }

  it('the first comes back, the second does not: two', { timeout: 60_000 }, async (t) => {
    const { first, next, dies, holds } = await world(t);
    await dies(first, 1);
    first.configure({ delivery: { enabled: false } });
    await first.start();
    await dies(await next(), 2);
    await holds(await next(), 2);
  });

  it('none of them comes back: three', { timeout: 60_000 }, async (t) => {
    const { first, next, dies, holds } = await world(t);
    await dies(first, 1);
    await dies(await next(), 2);
    await dies(await next(), 3);
    await holds(await next(), 3);
  });
});
