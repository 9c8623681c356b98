import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  createGauges,
  LEASE_UNIT_MS,
  leasesSteadyUntilOf,
  leasesUntilOf,
} from '../../src/admission/gauges.ts';
import { steadyMs } from '../../src/base/steady.ts';
import { configSchema } from '../../src/config/schema.ts';
import type { DeliveryThreadStart, FromDelivery, ToDelivery } from '../../src/delivery/messages.ts';
import { readRulesTexts } from '../../src/feedback/rules-text.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import { readResults, writeJob } from '../../src/mail/job-wire.ts';
import type { Wire } from '../../src/mail/wire.ts';
import { createArena, tlsSlot } from '../../src/native.ts';
import { createLimitTable } from '../../src/shaping/limit-table.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';

test('the thread delivers from the shared arena, posts results and drains', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'thread-'));
  const sink = await ScriptedSink.start();
  const arena = createArena(16 * 1024 * 1024, folder);
  const gauges = createGauges();
  Atomics.store(gauges, leasesUntilOf(0), 2 ** 30);
  Atomics.store(gauges, leasesSteadyUntilOf(0), steadyMs() / LEASE_UNIT_MS + 2 ** 20);
  const smarthost = { host: '127.0.0.1', port: sink.port };
  const workerData: DeliveryThreadStart = {
    thread: 0,
    threads: 1,
    config: configSchema.parse({ hostname: 'relay.test', data_dir: folder, delivery: { smarthost } }),
    arena: arena.buffer,
    tls: { client: tlsSlot() },
    gauges: gauges.buffer,
    shaping: { rollup: 'mx_set', limits: {}, total: {}, providers: [] },
    limits: createLimitTable(),
    replies: readRulesTexts(''),
    origin: 3,
    notBeforeMs: 0,
    stsDir: join(folder, 'mta-sts'),
    name: '0.0',
    begun: null,
    ownListeners: [],
  };
  const worker = new Worker(new URL('../../src/delivery/thread.ts', import.meta.url), { workerData });
  const post = (message: ToDelivery) => worker.postMessage(message);
  const results: AttemptResult[] = [];
  const content = Buffer.from('Subject: x\r\n\r\nhello\r\n');
  const jobs: Job[] = Array.from({ length: 100 }, (_, i) => ({
    leaseEpoch: 0,
    queueId: `0123456789ab${String(i).padStart(3, '0')}`,
    destination: 'smarthost',
    attempts: 0,
    fence: 1,
    reversePath: 'a@from.test',
    body: '7BIT',
    smtpUtf8: false,
    trace: '',
    content: arena.store(content),
    sizeBytes: content.length,
    receivedAtMs: Date.now(),
    delayNotified: false,
    recipients: [{ seq: 0, address: i === 0 ? 'bounce-550@x.test' : `u${i}@x.test`, notify: 0 }],
  }));
  const unfinished = await new Promise<Job[]>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: FromDelivery) => {
      if (message.type === 'ready') {
        post({ type: 'reopen-log' });
        const wire: Wire = [];
        for (const job of jobs) writeJob(wire, job);
        post({ type: 'jobs', wire, count: jobs.length });
      } else if (message.type === 'results') {
        results.push(...readResults(message.wire, message.count));
        if (results.length === jobs.length) post({ type: 'drain', graceMs: 1000 });
      } else if (message.type === 'drained') resolve(message.unfinished);
    });
  });
  assert.deepEqual(unfinished, []);
  assert.equal(sink.messages.length, 99);
  const [dsn] = results.flatMap(({ dsns }) => dsns);
  assert.ok(dsn);
  assert.match(arena.head(dsn.content, 10_000).toString(), /Action: failed/);
  assert.equal(dsn.queueId.slice(9, 12), '003');
  arena.release(dsn.content);
  assert.equal(arena.freeBytes(), arena.totalBytes);
  await worker.terminate();
  await sink.stop();
  rmSync(folder, { recursive: true, force: true });
});
