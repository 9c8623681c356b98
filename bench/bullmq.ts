/**
 * What the scheduler over Redis costs: the memory of Redis for a million deferred recipients, and the CPU of a
 * delivered message against the embedded scheduler, Redis included, in alternation on one machine.
 */
import { silentLog } from '../src/base/log.ts';
import { withShard } from '../src/mail/queue-id.ts';
import { BullmqAgenda } from '../src/scheduler/bullmq-agenda.ts';
import { ClusterScheduler } from '../src/scheduler/cluster.ts';
import { RedisServer } from '../test/services/redis.ts';
import { megabytes, runChain } from './lib/chain.ts';
import { startShards } from './lib/mariadb.ts';
import { readOptions } from './lib/options.ts';
import { treeCpuSeconds } from './lib/proc.ts';
import { figure, table, writeResults } from './lib/results.ts';

// An exit by signal would leave the servers running; `exit` ends them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/bullmq.ts', 'measures the scheduler over Redis', {
  deferred: { kind: 'number', default: 1_000_000, help: 'deferred recipients' },
  destinations: { kind: 'number', default: 1000, help: 'destinations they are for' },
  shards: { kind: 'number', default: 4, help: 'shards they lie in' },
  messages: { kind: 'number', default: 20_000, help: 'messages delivered in each run; 0: memory only' },
  rounds: { kind: 'number', default: 3, help: 'runs with each scheduler' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  backlog: { kind: 'flag', help: 'few places with delivery, so that most messages wait in the queue first' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

interface MemoryReport {
  jobs: number;
  emptyMb: number;
  usedMb: number;
  announceMs: number;
  rewriteMs: number;
}

/** Two nodes announce the retries of their half of the recipients; then Redis is flushed, and all is written anew. */
async function measureMemory(): Promise<MemoryReport> {
  const { deferred, destinations, shards } = options;
  const redis = await RedisServer.start();
  const shardIds = Array.from({ length: shards }, (_, i) => i);
  const earliest = new Map<string, number>();
  const names = Array.from({ length: destinations }, (_, i) => `destination-${i}.example.test`);
  const nodes = [0, 1].map((node) => {
    const agenda = new BullmqAgenda({
      url: redis.url,
      prefix: 'bench',
      timeoutMs: 10_000,
      forgetMs: 60_000,
      minProcesses: 1,
      name: `node-${node}`,
      works: true,
      log: silentLog,
    });
    const scheduler = new ClusterScheduler(
      {
        claim: async () => ({ jobs: [], nextDueMs: null, short: false }),
        deliver() {},
        contentBytes: 65_536_000,
        freeContentBytes: () => 65_536_000,
        now: Date.now,
        setTimer(atMs, fire) {
          const timer = setTimeout(fire, atMs - Date.now());
          return { cancel: () => clearTimeout(timer) };
        },
        backlogByShard: async () =>
          [...earliest].map(([key, nextDueMs]) => {
            const [shard, destination] = key.split(' ') as [string, string];
            return { destination, shard: Number(shard), rows: 1, nextDueMs };
          }),
      },
      {
        maxInFlight: 2000,
        enabled: true,
        isShared: true,
        onClaimError() {},
        shardIds,
        reconcileIntervalMs: 60_000,
        pollIntervalMs: 1000,
        onPollFaster() {},
      },
      agenda,
    );
    scheduler.start();
    return { agenda, scheduler };
  });
  try {
    while (nodes.some(({ agenda }) => !agenda.up)) await pause(20);
    const emptyMb = megabytes(await redis.usedMemory());
    const begun = performance.now();
    const nowMs = Date.now();
    // As campaigns do: deferred over some minutes, due again after an hour that varies by a tenth.
    for (let i = 0; i < deferred; i++) {
      const destination = names[i % destinations] as string;
      const shard = Math.floor(i / destinations) % shards;
      const dueMs = nowMs + 3_600_000 + Math.floor(Math.random() * 720_000);
      const key = `${shard} ${destination}`;
      earliest.set(key, Math.min(earliest.get(key) ?? dueMs, dueMs));
      const { scheduler } = nodes[i % 2] as (typeof nodes)[0];
      scheduler.waiting(destination, 1, dueMs, withShard('0'.repeat(15), shard));
      if (i % 5000 === 4999) await pause(1);
    }
    await pause(200);
    const announceMs = Math.round(performance.now() - begun);
    const usedMb = megabytes(await redis.usedMemory());
    const jobs = await redis.ask((client) => client.zcard('bench:due:delayed'));
    await redis.ask((client) => client.flushall());
    const flushed = performance.now();
    const outages = (): boolean => nodes.every(({ agenda }) => agenda.stats().outages > 0 && agenda.up);
    while (!outages()) await pause(10);
    while ((await redis.ask((client) => client.zcard('bench:due:delayed'))) < earliest.size) await pause(20);
    return { jobs, emptyMb, usedMb, announceMs, rewriteMs: Math.round(performance.now() - flushed) };
  } finally {
    for (const { scheduler } of nodes) {
      scheduler.stop();
      await scheduler.close();
    }
    await redis.close();
  }
}

interface CpuReport {
  engine: string;
  deliveredPerSecond: number;
  relayUs: number;
  redisUs: number;
  serversUs: number;
}

async function measureCpu(engine: 'embedded' | 'bullmq'): Promise<CpuReport> {
  const shards = await startShards(1);
  const redis = await RedisServer.start();
  try {
    const [serversBefore, redisBefore] = [shards.cpuSeconds(), treeCpuSeconds(redis.pid)];
    const report = await runChain({
      messages: options.messages,
      sizeBytes: 1024,
      rcpts: 1,
      concurrency: options.concurrency,
      perConnection: false,
      pipeline: false,
      ratePerSecond: 0,
      deliver: true,
      check: true,
      settings: {
        storage: { provider: 'local' },
        ...shards.settings,
        scheduler: { engine, redis: { url: redis.url } },
        ...(options.backlog ? { delivery: { max_handoff_messages: 200 } } : {}),
      },
      deliveryTimeoutMs: 600_000,
    });
    const each = (seconds: number): number => Math.round((seconds * 1e7) / options.messages) / 10;
    return {
      engine,
      deliveredPerSecond: report.deliveredPerSecond ?? 0,
      relayUs: report.relay.cpuUsPerMessage,
      redisUs: each(treeCpuSeconds(redis.pid) - redisBefore),
      serversUs: each(shards.cpuSeconds() - serversBefore),
    };
  } finally {
    await redis.close();
    await shards.close();
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;

const memory = await measureMemory();
let markdown = table(
  [
    'deferred recipients',
    'destinations × shards',
    'jobs',
    'Redis MB',
    'empty MB',
    'announced in',
    'written anew in',
  ],
  [
    [
      figure(options.deferred),
      `${options.destinations} × ${options.shards}`,
      figure(memory.jobs),
      figure(memory.usedMb),
      figure(memory.emptyMb),
      `${memory.announceMs} ms`,
      `${memory.rewriteMs} ms`,
    ],
  ],
);
const reports: CpuReport[] = [];
if (options.messages > 0) {
  for (let round = 0; round < options.rounds; round++)
    for (const engine of ['embedded', 'bullmq'] as const) {
      reports.push(await measureCpu(engine));
      process.stderr.write(`${JSON.stringify(reports.at(-1))}\n`);
    }
  const of = (engine: string, value: (report: CpuReport) => number): number =>
    median(reports.filter((report) => report.engine === engine).map(value));
  const cost = (report: CpuReport): number => report.relayUs + report.redisUs;
  const rows = ['embedded', 'bullmq'].map((engine) => [
    engine,
    figure(of(engine, (report) => report.deliveredPerSecond)),
    figure(of(engine, (report) => report.relayUs)),
    figure(of(engine, (report) => report.redisUs)),
    figure(of(engine, (report) => report.serversUs)),
    figure(Math.round((of(engine, cost) / of('embedded', cost)) * 1000) / 1000),
  ]);
  markdown += `\n${table(['scheduler', 'delivered msg/s', 'relay µs/msg', 'Redis µs/msg', 'MariaDB µs/msg', 'relay + Redis, ratio'], rows)}`;
}
process.stdout.write(markdown);
if (options.save !== '')
  process.stderr.write(
    `written: ${writeResults(options.save, 'innodb_flush_log_at_trx_commit=1', { memory, reports }, markdown)}\n`,
  );
