import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SinkOptions } from '../support/scripted-sink.ts';
import { type Harness, startSender, startSink } from './harness.ts';

/** Jobs to one destination whose connections are limited over all nodes, by a sink that takes its time. */
async function limited(
  work: (harness: Harness, sink: Awaited<ReturnType<typeof startSink>>) => Promise<void>,
  delays: SinkOptions['delays'] = { data: 40 },
) {
  const sink = await startSink({ delays });
  const harness = startSender({
    delivery: {
      smarthost: { host: '127.0.0.1', port: sink.port },
      backlog_per_connection: 1,
      max_connections_per_destination: 8,
      max_cluster_connections_per_destination: 4,
    },
  });
  try {
    await work(harness, sink);
  } finally {
    harness.stop();
    await sink.stop();
  }
}

const jobs = (harness: Harness, count: number) =>
  Array.from({ length: count }, (_, i) => harness.job({ recipients: [`u${i}@x.test`] }));
const demands = (harness: Harness) =>
  harness.posted.flatMap((message) => (message.type === 'connections' ? message.demands : []));
/** The look of the thread at what it wants and has open. */
function look(harness: Harness): void {
  for (const { ms, fire } of harness.timers.splice(0)) if (ms === 250) fire();
}
const grant = (harness: Harness, connections: number) =>
  harness.sender.grantConnections([{ destination: 'smarthost', connections }]);

test('no connection is opened before one is granted, then as many as are', async () => {
  await limited(async (harness, sink) => {
    harness.sender.accept(jobs(harness, 30));
    assert.deepEqual(demands(harness), [{ destination: 'smarthost', wanted: 8, open: 0 }]);
    await sleep(100);
    assert.equal(sink.connections, 0);
    grant(harness, 3);
    await harness.until(() => harness.results.length === 30);
    assert.equal(sink.peakConnections, 3);
  });
});

test('what is taken away is closed after its transaction, and said', async () => {
  await limited(async (harness, sink) => {
    harness.sender.accept(jobs(harness, 60));
    grant(harness, 4);
    while (sink.open.size < 4) await sleep(5);
    look(harness);
    assert.equal(demands(harness).at(-1)?.open, 4);
    grant(harness, 1);
    while (sink.open.size > 1) await sleep(5);
    await harness.until(() => harness.results.length === 60);
    look(harness);
    assert.equal(demands(harness).at(-1)?.open, 1);
    assert.equal(sink.connections, 4, 'no other was opened');
  });
});

test('what is taken away while connections are being opened is closed once they are', async () => {
  await limited(
    async (harness, sink) => {
      harness.sender.accept(jobs(harness, 40));
      grant(harness, 4);
      // Two are established, two wait for the answer to their EHLO.
      while (sink.connections < 4) await sleep(5);
      grant(harness, 1);
      await harness.until(() => harness.results.length === 40);
      look(harness);
      assert.equal(demands(harness).at(-1)?.open, 1);
      assert.equal(sink.connections, 4, 'no other was opened');
    },
    { ehlo: 200, data: 40 },
  );
});

test('idle connections go first, and a destination without any is said to have none', async () => {
  await limited(async (harness, sink) => {
    harness.sender.accept(jobs(harness, 20));
    grant(harness, 4);
    await harness.until(() => harness.results.length === 20);
    assert.equal(sink.open.size, 4);
    grant(harness, 0);
    while (sink.open.size > 0) await sleep(5);
    await sleep(20);
    look(harness);
    assert.deepEqual(demands(harness).at(-1), { destination: 'smarthost', wanted: 0, open: 0 });
  });
});
