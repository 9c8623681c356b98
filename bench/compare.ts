/**
 * The same work against Postfix's smtp-sink, our relay and a tuned Postfix, with smtp-source as the client of all,
 * in alternation (round by round, so that a noisy neighbour meets each of them), and the ratios. `--client cl` takes
 * our own client, where smtp-source itself is the limit. `--quick` takes less than a minute. Each server gets a fresh folder on the same disk and is ended by pid.
 */
import { join } from 'node:path';
import { programPath } from '../test/support/programs.ts';
import { Child } from './lib/child.ts';
import type { LoadReport } from './lib/load-client.ts';
import { fail, readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';
import {
  postfixInstalled,
  type Server,
  startPostfix,
  startReactor,
  startRelay,
  startSmtpSink,
} from './lib/servers.ts';
import { type Kind, type Target, WORKS, type Work } from './lib/works.ts';

// An exit by signal would leave the servers running; `exit` ends them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/compare.ts', 'measures the relay against smtp-sink and Postfix', {
  quick: { kind: 'flag', help: 'one short round of each' },
  rounds: { kind: 'number', default: 3, help: 'rounds of each work; the median counts' },
  concurrency: { kind: 'number', default: 100, help: 'connections of smtp-source' },
  client: {
    kind: 'text',
    default: 'smtp-source',
    help: 'smtp-source, or cl for bench/cl.ts (costs less, so it measures further)',
  },
  only: { kind: 'list', help: `only this work: ${WORKS.map((work) => work.key).join(', ')}` },
  'no-postfix': { kind: 'flag', help: 'leave Postfix out' },
  'no-save': { kind: 'flag', help: 'do not write bench/results' },
});

interface Measured {
  rate: number;
  cpuUs: number;
  /** CPU of the client per message: one thread cannot send faster than this allows. */
  clientUs: number;
}

const source = programPath('smtp-source');
if (source === null || programPath('smtp-sink') === null) {
  process.stderr.write('smtp-source and smtp-sink are needed: install the package postfix.\n');
  process.exit(69);
}
if (options.client !== 'smtp-source' && options.client !== 'cl')
  fail('bench/compare.ts', '--client: smtp-source or cl');
for (const key of options.only) {
  if (!WORKS.some((work) => work.key === key)) fail('bench/compare.ts', `--only ${key}: no such work`);
}
const withPostfix = postfixInstalled() && !options['no-postfix'];
const works = WORKS.filter((work) => options.only.length === 0 || options.only.includes(work.key));
const rounds = options.quick ? 1 : options.rounds;

const report = [];
const rows: (string | number)[][] = [];
for (const work of works) {
  const kinds = work.kinds.filter((kind) => kind !== 'postfix' || withPostfix);
  const runs: Record<Kind, Measured[]> = { sink: [], relay: [], reactor: [], postfix: [] };
  for (let round = 0; round < rounds; round++) {
    for (const kind of kinds) {
      const messages = Math.ceil((work.messages[kind] ?? 0) / (options.quick ? 5 : 1));
      const measured = await measure(work, kind, messages).catch((error: Error) => {
        process.stderr.write(`${work.title}: ${kind} failed: ${error.message}\n`);
        process.exitCode = 1;
        return null;
      });
      if (measured === null) continue;
      runs[kind].push(measured);
      process.stderr.write(
        `${work.title}: ${kind} ${figure(measured.rate)} msg/s, ${figure(measured.cpuUs)} µs, client ${figure(measured.clientUs)} µs\n`,
      );
    }
  }
  const measuredKinds = kinds.filter((kind) => runs[kind].length > 0);
  const medians = Object.fromEntries(measuredKinds.map((kind) => [kind, medianOf(runs[kind])]));
  const verdicts = work.targets.map((target) => judge(target, medians));
  report.push({ work: work.key, title: work.title, medians, runs, verdicts });
  rows.push([
    work.title,
    cell(medians.sink),
    cell(medians.relay ?? medians.reactor),
    cell(medians.postfix),
    verdicts.join('<br>'),
  ]);
}

const markdown = table(
  [
    'work (msg/s, server CPU µs per message, client’s in brackets)',
    'smtp-sink',
    'ProtoRelay',
    'Postfix',
    'target: reached',
  ],
  rows,
);
process.stdout.write(`\n${markdown.replaceAll('<br>', '; ')}\n`);
if (!options['no-save']) {
  const durability =
    'relay and Postfix: fsync before 250 (after_persist), except the row after_enqueue; smtp-sink stores nothing';
  const name = `compare${options.quick ? '-quick' : ''}${options.client === 'cl' ? '-cl' : ''}`;
  const path = writeResults(name, durability, report, markdown);
  process.stderr.write(`written: ${path}\n`);
}

/** One server, one run of smtp-source. For end-to-end works the clock stops when smtp-sink has the last message. */
async function measure(work: Work, kind: Kind, messages: number): Promise<Measured> {
  const sink = work.endToEnd ? await startSmtpSink(messages) : null;
  const server = await start(work, kind, sink?.port ?? null);
  try {
    const cpuBefore = server.cpuSeconds();
    const startedAt = performance.now();
    const sent =
      options.client === 'cl'
        ? await ownClient(work, server, messages)
        : await smtpSource(work, server, messages);
    if (sink !== null)
      await within(sink.ended, 120_000, `${server.name} did not deliver ${messages} messages`);
    const elapsedMs = sink === null ? sent.elapsedMs : performance.now() - startedAt;
    const cpuSeconds = server.cpuSeconds() - cpuBefore;
    const rate = (messages / elapsedMs) * 1000;
    return { rate, cpuUs: (cpuSeconds * 1e6) / messages, clientUs: sent.cpuUs };
  } finally {
    await server.stop();
    await sink?.stop();
  }
}

interface Sent {
  elapsedMs: number;
  cpuUs: number;
}

async function smtpSource(work: Work, server: Server, messages: number): Promise<Sent> {
  const connections = work.perConnection ? [] : ['-d'];
  const numbers = ['-s', options.concurrency, '-m', messages, '-l', work.sizeBytes].map(String);
  const addresses = ['-f', 'sender@bench.test', '-t', 'user@example.test', `127.0.0.1:${server.port}`];
  // The shell's `time` is the one that knows what its child used.
  const timed = 'TIMEFORMAT="cpu %U %S"; time "$0" "$@"';
  const client = new Child('bash', ['-c', timed, source as string, ...numbers, ...connections, ...addresses]);
  const { code, stderr, elapsedMs } = await client.ended;
  if (code !== 0) throw new Error(`smtp-source failed against ${server.name}: ${stderr}`);
  const [, user = '0', system = '0'] = /cpu ([\d.]+) ([\d.]+)/.exec(stderr) ?? [];
  return { elapsedMs, cpuUs: ((Number(user) + Number(system)) * 1e6) / messages };
}

async function ownClient(work: Work, server: Server, messages: number): Promise<Sent> {
  const numbers = { port: server.port, messages, size: work.sizeBytes, concurrency: options.concurrency };
  const client = new Child(process.execPath, [
    ...[join(import.meta.dirname, 'cl.ts'), '--json', ...(work.perConnection ? ['--per-conn'] : [])],
    ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)]),
  ]);
  const { code, stderr, stdout } = await client.ended;
  if (code !== 0)
    throw new Error(`bench/cl.ts failed against ${server.name}: ${stderr}${stdout.slice(0, 300)}`);
  const report = JSON.parse(stdout) as LoadReport & { clientCpuUs: number };
  return { elapsedMs: report.elapsedMs, cpuUs: report.clientCpuUs };
}

function start(work: Work, kind: Kind, nextHopPort: number | null): Promise<Server> {
  if (kind === 'sink') return startSmtpSink();
  if (kind === 'reactor') return startReactor();
  if (kind === 'postfix') return startPostfix(nextHopPort);
  if (nextHopPort === null) return startRelay(work.settings);
  return startRelay({
    ...work.settings,
    delivery: { smarthost: { host: '127.0.0.1', port: nextHopPort }, max_connections_per_destination: 20 },
  });
}

function judge(target: Target, medians: Partial<Record<string, Measured>>): string {
  const ours = medians.relay ?? medians.reactor;
  const theirs = target.against === null ? null : medians[target.against];
  if (ours === undefined || theirs === undefined) return `${target.text}: not measured`;
  const value = (of: Measured): number => (target.measure === 'rate' ? of.rate : of.cpuUs);
  const reached = theirs === null ? value(ours) : value(ours) / value(theirs);
  const met = reached >= (target.atLeast ?? 0) && reached <= (target.atMost ?? Number.POSITIVE_INFINITY);
  return `${target.text}: ${figure(reached)}${theirs === null ? '' : ' ×'} ${met ? '✓' : '✗'}`;
}

function cell(measured: Measured | undefined): string {
  if (measured === undefined) return '–';
  return `${figure(measured.rate)}, ${figure(measured.cpuUs)} (${figure(measured.clientUs)})`;
}

function medianOf(runs: Measured[]): Measured {
  const middle = (values: number[]): number => {
    const sorted = values.sort((a, b) => a - b);
    const half = Math.floor(sorted.length / 2);
    const upper = sorted[half] as number;
    return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] as number)) / 2;
  };
  return {
    rate: middle(runs.map((run) => run.rate)),
    cpuUs: middle(runs.map((run) => run.cpuUs)),
    clientUs: middle(runs.map((run) => run.clientUs)),
  };
}

function within<T>(promise: Promise<T>, timeoutMs: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${message} within ${timeoutMs} ms`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
