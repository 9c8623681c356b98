/** A replica takes its primary's place, by the statements of docs/cluster.md: mail goes on without a restart. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { sharedFolder, startNode, startSink } from '../support/nodes.ts';
import { oneFateEach } from '../support/one-fate.ts';
import { bounded, logEventName, type RelayFixture } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';

const RECIPE = readFileSync(new URL('../../docs/cluster.md', import.meta.url), 'utf8');
/** Mail flows again so soon after the promotion: the longest pause between tries, and some. */
const AGAIN_MS = 10_000;

/** Statements of the recipe's block with this name. */
function statements(name: string, values: Record<string, string> = {}): string[] {
  const block = new RegExp(`-- ${name}\\n([^\`]*)\`\`\``).exec(RECIPE)?.[1];
  assert.ok(block, `docs/cluster.md has no statements "${name}"`);
  let sql = block;
  for (const [from, to] of Object.entries(values)) sql = sql.replaceAll(from, to);
  return sql
    .split(';')
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');
}

for (const [title, end] of Object.entries({
  'becomes read-only': 'read-only',
  'is killed under load': 'killed',
}))
  test(
    `a primary ${title} and its replica is promoted: no acknowledged mail is lost, and mail goes on`,
    {
      skip: skipWithoutMariaDb(),
      timeout: 120_000,
    },
    (t) => promoted(t, end === 'killed'),
  );

async function promoted(t: TestContext, killed: boolean): Promise<void> {
  const start = async (id: number): Promise<MariaDb> => {
    const server = await MariaDb.start({
      args: [`--server-id=${id}`, '--log-bin=log', '--gtid-strict-mode=1'],
    });
    t.after(() => server.close());
    return server;
  };
  const [primary, replica] = (await Promise.all([start(1), start(2)])) as [MariaDb, MariaDb];
  // Each made its users by itself.
  for (const server of [primary, replica]) await server.query('RESET MASTER');
  const places = { 'db1.example.net': '127.0.0.1', 3306: `${primary.port}`, 'a-secret': 'replicates' };
  for (const sql of statements('on the primary')) await primary.query(sql.replace('a-secret', 'replicates'));
  for (const sql of statements('on the replica', places)) await replica.query(sql);
  const access = await primary.createDatabase();
  await migrate(serverConfig(primary.admin(access)), Date.now());

  const sink = await startSink(t);
  const mail = sharedFolder(t);
  const settings = {
    database: {
      driver: 'mysql_distributed',
      retry_delay_ms: 200,
      max_retry_delay_ms: 1000,
      shards: [{ name: 's0', ...access, endpoints: [`127.0.0.1:${replica.port}`] }],
    },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  };
  const nodes: RelayFixture[] = [];
  for (const name of ['a', 'b']) nodes.push(await startNode(t, name, mail, settings));
  const said = (): string => nodes.map((node) => node.output()).join('\n');
  const load = new SteadyLoad(() => nodes.map(({ port }) => port), 6, 'one.test');
  t.after(() => load.stop());
  await bounded(load.more(100), 30_000, said);

  let gtid: string;
  if (killed) {
    // Mail is on its way all the while: what was answered is with the replica, applied or not.
    await primary.kill();
    const [status] = await replica.query<[{ Gtid_IO_Pos: string }]>('SHOW SLAVE STATUS');
    gtid = status.Gtid_IO_Pos;
  } else {
    for (const sql of statements('on the old primary, when it can be reached')) await primary.query(sql);
    const [position] = await primary.query<[{ gtid: string }]>('SELECT @@gtid_current_pos AS gtid');
    gtid = position.gtid;
  }
  const [{ waited }] = await replica.query<[{ waited: number }]>('SELECT MASTER_GTID_WAIT(?, 10) AS waited', [
    gtid,
  ]);
  assert.equal(Number(waited), 0, 'the replica has all');
  for (const sql of statements('on the replica that takes its place')) await replica.query(sql);
  await bounded(load.more(100), AGAIN_MS + 20_000, said);
  await load.stop();
  await oneFateEach(nodes, load.acknowledged, 30_000);
  const downs = nodes.flatMap(({ log }) => log).filter((line) => logEventName(line) === 'shard.down');
  assert.ok(downs.length <= 2 * nodes.length, `the shard went down ${downs.length} times`);
  const [{ n }] = await replica.query<[{ n: bigint }]>(
    `SELECT COUNT(*) AS n FROM ${access.database}.relay_lives`,
  );
  assert.equal(Number(n), 2, 'both nodes hold their ids there');
}
