/**
 * The whole chain client → relay → sink, all started here on free loopback ports: throughput accepted and
 * delivered, CPU of the relay per message, peak memory, end-to-end latency. Other measurements of the relay alone:
 * --idle N, --deferred N, --latency.
 */
import type { Settings } from '../test/support/relay-fixture.ts';
import { type ChainOptions, type ChainReport, runChain } from './lib/chain.ts';
import { measureDeferred } from './lib/deferred.ts';
import { measureIdle } from './lib/idle.ts';
import { startShards } from './lib/mariadb.ts';
import { fail, readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

// An exit by signal would leave the servers running; `exit` ends them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/relay.ts', 'measures the relay between our client and our sink', {
  messages: { kind: 'number', default: 50_000, help: 'messages' },
  size: { kind: 'number', default: 1024, help: 'bytes of each' },
  rcpts: { kind: 'number', default: 1, help: 'recipients of each' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  'per-conn': { kind: 'flag', help: 'a new connection for each message' },
  pipeline: { kind: 'flag', help: 'MAIL, RCPT and DATA in one write' },
  rate: { kind: 'number', default: 0, help: 'messages per second at most; 0: no limit' },
  ack: { kind: 'text', default: 'after_persist', help: 'inbound_ack_mode' },
  storage: { kind: 'text', default: '', help: 'storage.provider; default: database, or local with --shards' },
  shards: { kind: 'number', default: 0, help: 'the queue on so many MariaDB servers; 0: sqlite' },
  'no-delivery': { kind: 'flag', help: 'mail stays in the queue' },
  check: { kind: 'flag', help: 'the sink verifies checksums' },
  set: {
    kind: 'list',
    help: 'more configuration, KEY.KEY=JSON: --set delivery.max_connections_per_destination=50',
  },
  rounds: { kind: 'number', default: 1, help: 'repeat, each on a fresh relay' },
  latency: { kind: 'flag', help: 'one client, 2,000 messages: the time of one message alone' },
  idle: { kind: 'number', default: 0, help: 'memory of so many idle connections' },
  deferred: {
    kind: 'number',
    default: 0,
    help: 'preload so many deferred recipients; compare with an empty queue',
  },
  'deferred-domains': { kind: 'number', default: 1000, help: 'destinations they are spread over' },
  json: { kind: 'flag', help: 'print the report as JSON' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

const settings: Settings = {
  inbound_ack_mode: options.ack,
  storage: { provider: options.storage || (options.shards > 0 ? 'local' : 'database') },
  max_message_size: Math.max(26_214_400, options.size + 65_536),
};
for (const assignment of options.set) assign(settings, assignment);
const durability =
  options.ack === 'after_enqueue' ? 'in memory at 250 (after_enqueue)' : `fsync before 250 (${options.ack})`;
const chain: ChainOptions = {
  messages: options.latency ? Math.min(options.messages, 2000) : options.messages,
  sizeBytes: options.size,
  rcpts: options.rcpts,
  concurrency: options.latency ? 1 : options.concurrency,
  perConnection: options['per-conn'],
  pipeline: options.pipeline,
  ratePerSecond: options.rate,
  deliver: !options['no-delivery'],
  check: options.check,
  settings,
  deliveryTimeoutMs: 600_000,
};

if (options.idle > 0) {
  const report = await measureIdle(options.idle, settings);
  present(report, table(Object.keys(report), [Object.values(report).map(figure)]));
} else if (options.deferred > 0) {
  const report = await measureDeferred(options.deferred, options['deferred-domains'], chain);
  present(report, table(['figure', 'empty queue', `${figure(options.deferred)} deferred`], report.rows));
} else {
  const reports: ChainReport[] = [];
  for (let round = 0; round < options.rounds; round++)
    reports.push(options.shards > 0 ? await onShards(options.shards) : await runChain(chain));
  present(reports, table(chainTitles(), reports.map(chainRow)));
  if (reports.some((report) => report.client.failed > 0 || (report.sink?.corrupted ?? 0) > 0))
    process.exitCode = 1;
}

/** The chain on MariaDB; what the servers did goes to standard error. */
async function onShards(count: number): Promise<ChainReport> {
  const shards = await startShards(count);
  try {
    const [cpu, statements] = [shards.cpuSeconds(), await shards.statements()];
    const report = await runChain({ ...chain, settings: { ...settings, ...shards.settings } });
    const cpuUs = ((shards.cpuSeconds() - cpu) * 1e6) / options.messages;
    const each = ((await shards.statements()) - statements) / (options.messages * options.rcpts);
    process.stderr.write(
      `mariadbd: ${figure(cpuUs)} µs of CPU a message; ${each.toFixed(4)} statements a recipient\n`,
    );
    return report;
  } finally {
    await shards.close();
  }
}

function present(report: unknown, markdown: string): void {
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : markdown);
  if (options.save !== '') {
    process.stderr.write(`written: ${writeResults(options.save, durability, report, markdown)}\n`);
  }
}

function chainTitles(): string[] {
  return [
    'accepted msg/s',
    'delivered msg/s',
    'recipients/s',
    'relay CPU µs/msg',
    'µs/recipient',
    'peak MB',
    'end of data→250 p50/p99 ms',
    '→ at the sink p50/p99 ms',
    'duplicates',
    'failed',
    'client CPU µs',
  ];
}

function chainRow(report: ChainReport): string[] {
  const { endOfData } = report.client.latency;
  const endToEnd = report.sink?.endToEnd;
  return [
    figure(report.acceptedPerSecond),
    figure(report.deliveredPerSecond ?? Number.NaN),
    figure(report.recipientsPerSecond ?? Number.NaN),
    figure(report.relay.cpuUsPerMessage),
    figure(report.relay.cpuUsPerRecipient),
    figure(report.relay.peakMb),
    `${endOfData.p50Ms}/${endOfData.p99Ms}`,
    endToEnd === undefined ? '–' : `${endToEnd.p50Ms}/${endToEnd.p99Ms}`,
    String(report.sink?.duplicates ?? '–'),
    String(report.client.failed),
    figure(report.client.clientCpuUs),
  ];
}

/** 'a.b=JSON' into nested settings; a value that is no JSON is text. */
function assign(into: Settings, assignment: string): void {
  const at = assignment.indexOf('=');
  if (at < 1) fail('bench/relay.ts', `--set ${assignment}: expected KEY=VALUE`);
  const keys = assignment.slice(0, at).split('.');
  const text = assignment.slice(at + 1);
  let value: unknown = text;
  try {
    value = JSON.parse(text);
  } catch {
    // Plain text.
  }
  let place = into;
  for (const key of keys.slice(0, -1)) {
    place[key] = { ...(place[key] as Settings | undefined) };
    place = place[key] as Settings;
  }
  place[keys.at(-1) as string] = value;
}
