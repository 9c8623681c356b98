/**
 * What after_journal accepts, beside the embedded default, in one run: rounds of both in turn on this machine, the
 * ratio of each pair and its median. The queue of after_journal is on one MariaDB on the same cores.
 */
import { type ChainOptions, type ChainReport, runChain } from './lib/chain.ts';
import { startShards } from './lib/mariadb.ts';
import { readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

// An exit by signal would leave the servers running; `exit` ends them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/journal.ts', 'compares after_journal with the embedded default', {
  messages: { kind: 'number', default: 30_000, help: 'messages of each run' },
  size: { kind: 'number', default: 1024, help: 'bytes of each' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  rounds: { kind: 'number', default: 3, help: 'pairs of runs' },
  delivery: { kind: 'flag', help: 'deliver them too' },
  'max-delay': {
    kind: 'number',
    default: 30_000,
    help: 'journal.max_delay_ms; 0: draining is never held back',
  },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

const chain: ChainOptions = {
  messages: options.messages,
  sizeBytes: options.size,
  rcpts: 1,
  concurrency: options.concurrency,
  perConnection: false,
  pipeline: false,
  ratePerSecond: 0,
  deliver: options.delivery,
  check: options.delivery,
  settings: {},
  deliveryTimeoutMs: 600_000,
};

/** Also the CPU of the servers, µs a message, what they did after the last 250 included. */
async function onJournal(): Promise<ChainReport & { serverUs: number }> {
  const shards = await startShards(1);
  try {
    const cpu = shards.cpuSeconds();
    const settings = {
      inbound_ack_mode: 'after_journal',
      journal: { max_delay_ms: options['max-delay'] },
      storage: { provider: 'local' },
      ...shards.settings,
    };
    const report = await runChain({ ...chain, settings });
    return { ...report, serverUs: ((shards.cpuSeconds() - cpu) * 1e6) / options.messages };
  } finally {
    await shards.close();
  }
}

const rows: string[][] = [];
const reports: { embedded: ChainReport; journal: ChainReport; ratio: number }[] = [];
const row = (name: string, report: ChainReport, serverUs: number): string[] => [
  name,
  figure(report.acceptedPerSecond),
  figure(report.deliveredPerSecond ?? Number.NaN),
  figure(report.relay.cpuUsPerMessage),
  figure(serverUs),
  `${report.client.latency.endOfData.p50Ms}/${report.client.latency.endOfData.p99Ms}`,
  String(report.sink?.duplicates ?? '–'),
];
for (let round = 0; round < options.rounds; round++) {
  const embedded = await runChain(chain);
  const journal = await onJournal();
  const ratio = journal.acceptedPerSecond / embedded.acceptedPerSecond;
  reports.push({ embedded, journal, ratio });
  rows.push(
    row('embedded', embedded, 0),
    row(`after_journal (× ${ratio.toFixed(2)})`, journal, journal.serverUs),
  );
}
const ratios = reports.map(({ ratio }) => ratio).sort((a, b) => a - b);
const median = ratios[Math.floor(ratios.length / 2)] as number;
const titles = [
  'queue',
  'accepted msg/s',
  'delivered msg/s',
  'relay µs/msg',
  'server µs/msg',
  'end of data→250 p50/p99 ms',
  'duplicates',
];
const markdown = `${table(titles, rows)}\naccepted, median of the ratios: ${median.toFixed(2)} (to reach: 0.8)\n`;
process.stdout.write(markdown);
if (options.save !== '')
  process.stderr.write(`written: ${writeResults(options.save, 'fsync before 250', reports, markdown)}\n`);
