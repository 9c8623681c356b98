/**
 * Accepted messages per second over 1, 2 and 4 shards (MariaDB servers on this machine), with the CPU of each part:
 * what a shard more brings, and what it costs where all share the cores.
 */
import { runChain } from './lib/chain.ts';
import { startShards } from './lib/mariadb.ts';
import { readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

// An exit by signal would leave the servers running; `exit` ends them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/shards.ts', 'measures the relay over several MariaDB servers', {
  messages: { kind: 'number', default: 30_000, help: 'messages' },
  size: { kind: 'number', default: 1024, help: 'bytes of each' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  delivery: { kind: 'flag', help: 'deliver them too' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

const rows: string[][] = [];
const reports: Record<string, number>[] = [];
for (const count of [1, 2, 4]) {
  const shards = await startShards(count, true);
  try {
    const cpu = shards.cpuSeconds();
    const report = await runChain({
      messages: options.messages,
      sizeBytes: options.size,
      rcpts: 1,
      concurrency: options.concurrency,
      perConnection: false,
      pipeline: false,
      ratePerSecond: 0,
      deliver: options.delivery,
      check: false,
      settings: { storage: { provider: 'local' }, ...shards.settings },
      deliveryTimeoutMs: 600_000,
    });
    const serversUs = ((shards.cpuSeconds() - cpu) * 1e6) / options.messages;
    reports.push({ shards: count, acceptedPerSecond: report.acceptedPerSecond, serversUs });
    rows.push([
      String(count),
      figure(report.acceptedPerSecond),
      figure(report.relay.cpuUsPerMessage),
      figure(serversUs),
      figure(report.client.clientCpuUs),
      `${report.client.latency.endOfData.p50Ms}/${report.client.latency.endOfData.p99Ms}`,
    ]);
  } finally {
    await shards.close();
  }
}
const titles = ['shards', 'accepted msg/s', 'relay µs/msg', 'servers µs/msg', 'client µs/msg', 'p50/p99 ms'];
const markdown = table(titles, rows);
process.stdout.write(markdown);
if (options.save !== '')
  process.stderr.write(
    `written: ${writeResults(options.save, 'innodb_flush_log_at_trx_commit=1', reports, markdown)}\n`,
  );
