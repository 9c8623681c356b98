/**
 * SMTP load generator. `bench/cl.ts --concurrency 100` sends 10,000 messages of 1 KB over 100 reused connections
 * and prints rate, latency of each phase and replies by code. Exit code 1 when any message failed.
 */
import { lookup } from 'node:dns/promises';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createArena } from '../src/native.ts';
import { MIN_SIZE_BYTES } from './lib/bench-message.ts';
import { LoadClient, type LoadReport, PHASES } from './lib/load-client.ts';
import { fail, readOptions } from './lib/options.ts';
import { Progress } from './lib/progress.ts';

const options = readOptions('bench/cl.ts', 'sends mail to an SMTP server and measures it', {
  host: { kind: 'text', default: '127.0.0.1', help: 'server' },
  port: { kind: 'number', default: 2525, help: 'its port' },
  messages: {
    kind: 'number',
    default: 10_000,
    help: 'messages to send; with --duration: no limit unless given',
  },
  size: { kind: 'number', default: 1024, help: 'bytes of each message' },
  rcpts: { kind: 'number', default: 1, help: 'recipients of each message' },
  concurrency: { kind: 'number', default: 100, help: 'connections' },
  'reuse-conn': { kind: 'flag', help: 'many messages per connection (the default)' },
  'per-conn': { kind: 'flag', help: 'a new connection for each message' },
  pipeline: { kind: 'flag', help: 'MAIL, RCPT and DATA in one write' },
  rate: { kind: 'number', default: 0, help: 'messages per second to begin at most; 0: no limit' },
  duration: { kind: 'number', default: 0, help: 'seconds after which no message begins; 0: no limit' },
  'stall-timeout': { kind: 'number', default: 60, help: 'seconds without any reply before giving up' },
  json: { kind: 'flag', help: 'print the report as one line of JSON' },
  'to-domain': { kind: 'text', default: 'example.test', help: 'domain of the recipients user0@… user1@…' },
  domains: {
    kind: 'number',
    default: 0,
    help: 'each message for a recipient of its own, at so many domains under --to-domain; 0: all alike',
  },
  from: { kind: 'text', default: 'sender@bench.test', help: 'reverse-path' },
  run: { kind: 'text', help: 'eight hex digits that name the run in each message; default: random' },
  'accepted-log': { kind: 'text', help: 'file for the numbers of accepted messages' },
});

const given = process.argv.some((argument) => argument.startsWith('--messages'));
const messages = options.duration > 0 && !given ? Number.POSITIVE_INFINITY : options.messages;
const run =
  options.run ||
  Math.floor(Math.random() * 2 ** 32)
    .toString(16)
    .padStart(8, '0');
if (!/^[0-9a-f]{8}$/.test(run)) fail('bench/cl.ts', `--run ${run}: eight hex digits are needed`);
if (options['per-conn'] && options['reuse-conn'])
  fail('bench/cl.ts', '--per-conn and --reuse-conn exclude each other');
if (options.domains > 10_000) fail('bench/cl.ts', `--domains ${options.domains}: at most 10,000`);
if (options.domains > 0 && (options.pipeline || options.rcpts > 1))
  fail('bench/cl.ts', '--domains goes with one recipient a message, and without --pipeline');
if (options.size < MIN_SIZE_BYTES) fail('bench/cl.ts', `--size ${options.size}: at least ${MIN_SIZE_BYTES}`);
for (const name of ['messages', 'rcpts', 'concurrency'] as const) {
  if (options[name] < 1 || !Number.isInteger(options[name]))
    fail('bench/cl.ts', `--${name}: a whole number ≥ 1`);
}

const arenaBytes = Math.max(8 << 20, Math.ceil(options.size / 65_536) * 65_536 * 2);
const accepted: number[] = [];
const client = new LoadClient(
  {
    host: (await lookup(options.host)).address,
    port: options.port,
    messages,
    sizeBytes: options.size,
    rcpts: options.rcpts,
    concurrency: options.concurrency,
    perConnection: options['per-conn'],
    pipeline: options.pipeline,
    ratePerSecond: options.rate,
    durationMs: options.duration * 1000,
    toDomain: options['to-domain'],
    domains: options.domains,
    from: options.from,
    run,
    stallMs: options['stall-timeout'] * 1000,
    reconnectMs: 0,
    spillDir: tmpdir(),
    ...(options['accepted-log'] ? { onAccepted: (number: number) => accepted.push(number) } : {}),
  },
  createArena(arenaBytes, tmpdir()),
);

const progress = new Progress(messages, () => ({ done: client.accepted, failed: client.failed }));
process.once('SIGINT', () => client.stop());
process.once('SIGTERM', () => client.stop());
const cpuBefore = process.cpuUsage();
await client.run();
const cpu = process.cpuUsage(cpuBefore);
progress.end();
const report = client.report();
const clientCpuUs = Math.round(((cpu.user + cpu.system) / Math.max(1, report.accepted)) * 10) / 10;
if (options['accepted-log']) writeFileSync(options['accepted-log'], `${accepted.join('\n')}\n`);
if (options.json) process.stdout.write(`${JSON.stringify({ run, ...report, clientCpuUs })}\n`);
else process.stdout.write(readable(report));
client.destroy();
process.exitCode = report.failed > 0 || report.stalled ? 1 : 0;

function readable(report: LoadReport): string {
  const rate = report.messagesPerSecond.toLocaleString('en');
  const lines = [
    `${report.accepted} messages of ${options.size} bytes accepted in ${(report.elapsedMs / 1000).toFixed(2)} s: ${rate} msg/s`,
    `${report.failed} failed, ${report.connections} connections, ${report.connectFailures} could not connect, ${report.connectionsLost} lost`,
    `replies: ${Object.entries(report.replies)
      .map(([code, count]) => `${code}: ${count}`)
      .join(', ')}`,
    `client CPU: ${clientCpuUs} µs per message`,
    '',
    `${'latency, ms'.padEnd(14)}${['p50', 'p90', 'p99', 'max', 'count'].map((title) => title.padStart(10)).join('')}`,
    ...PHASES.map((phase) => {
      const { p50Ms, p90Ms, p99Ms, maxMs, count } = report.latency[phase];
      const figures = [p50Ms, p90Ms, p99Ms, maxMs].map((ms) => ms.toFixed(3).padStart(10)).join('');
      return `${phase.padEnd(14)}${figures}${String(count).padStart(10)}`;
    }),
  ];
  if (report.stalled) lines.push(`no reply for ${options['stall-timeout']} s: gave up`);
  for (const refusal of report.refusals) lines.push(`refusal: ${refusal}`);
  return `${lines.join('\n')}\n`;
}
