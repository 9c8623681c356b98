/** Nodes whose clocks differ, or are set: no recipient gets a message twice for it, and the operator is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { LEASE_MS, sharedFolder, startServer, startSink } from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';
import { SteadyLoad } from '../support/steady-load.ts';

const AHEAD_MS = 120_000;

test('one clock is 120 s ahead, then set back by 240 s: nothing is sent twice, and the log says how far it is off', {
  skip: skipWithoutMariaDb(),
  timeout: 120_000,
}, async (t) => {
  const { access } = await startServer(t);
  // Rows are in delivery for a while, so that there are leases to take over.
  const sink = await startSink(t, { delays: { dot: 300 } });
  const mail = sharedFolder(t);
  const clock = new ShiftedClock(t);
  const node = (name: string, more: object, env: Record<string, string>): RelayFixture => {
    const relay = new RelayFixture(
      {
        node_id: name,
        storage: { provider: 'local', local: { path: mail } },
        lease_ms: LEASE_MS,
        scheduler: { poll_interval_ms: 100 },
        session_threads: 1,
        delivery_threads: 1,
        database: { driver: 'mysql', ...access },
        delivery: {
          smarthost: { host: '127.0.0.1', port: sink.port },
          max_connections_per_destination: 8,
          max_handoff_messages: 40,
        },
        retry: { initial_delay_ms: 300, max_delay_ms: 500 },
        ...more,
      },
      { env },
    );
    t.after(() => relay.destroy());
    return relay;
  };
  clock.set(AHEAD_MS);
  const right = node('right', {}, {});
  const wrong = node('wrong', { clock_warn_offset_ms: 100_000, clock_max_offset_ms: 3_600_000 }, clock.env);
  const differs = wrong.logLine('clock.differs');
  await Promise.all([right.start(), wrong.start()]);
  const { offset_ms } = await differs;
  assert.ok(Math.abs(Number(offset_ms) + AHEAD_MS) < 1000, `${offset_ms} ms`);

  const load = new SteadyLoad(() => [right.port, wrong.port], 12, 'one.test');
  t.after(() => load.stop());
  const said = (): string => `${right.output()}\n${wrong.output()}`;
  await bounded(load.more(150), 30_000, said);
  clock.set(-AHEAD_MS);
  await bounded(load.more(150), 30_000, said);
  await load.stop();
  await oneFateEach([right, wrong], load.acknowledged, 40_000);
  const twice = [...deliveries(sink)].filter(([, times]) => times > 1);
  assert.deepEqual(twice, [], said());

  // Beyond the limit it takes mail, and leaves the sending of what waits to others.
  await Promise.all([right.stop(), wrong.stop()]);
  wrong.configure({ clock_max_offset_ms: 60_000 });
  const refused = wrong.logLine('clock.refused');
  await wrong.start();
  assert.equal((await refused).max_offset_ms, 60_000);
  const agrees = wrong.logLine('clock.agrees');
  clock.set(0);
  await bounded(agrees, 15_000, said);
});
