/**
 * Good clients next to hostile ones: how much of their throughput they keep. A relay with its policy on, 100 good
 * connections that send one message after another, in turn: alone; with so many hostile connections a second beside
 * them; with the same hostile clients at a server of another process that does next to nothing for them, which is what
 * the clients themselves and their TCP take from the machine. CPU of every part is told. The target is 80 %.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createArena } from '../src/native.ts';
import { freePort } from '../test/support/free-port.ts';
import { RelayFixture } from '../test/support/relay-fixture.ts';
import { startBareServer } from './lib/bare-server.ts';
import { type Fates, Hostile, KINDS, type Kind } from './lib/hostile.ts';
import { LoadClient } from './lib/load-client.ts';
import { threadCpuSeconds, treeCpuSeconds } from './lib/proc.ts';
import { accepting } from './lib/servers.ts';

const USAGE = `usage: ./build.sh bench hostile [--per-second N] [--rate N] [--addresses N] [--seconds N] [--rounds N]
  --per-second N  hostile connections a second (default 1000)
  --kinds LIST    of these: ${KINDS.join(',')} (default all)
  --addresses N   they come from (default 30000: nobody comes often enough to be banned; 20: all are, soon)
  --rate N        messages a second the good clients want to send; 0: as many as they can (default 0)
  --seconds N     length of each part of a round (default 4)
  --rounds N      default 5
  --shipped       the policy as it is shipped, instead of one with more parts on
  --apart         the relay on one core, all clients on another`;

const { values } = parseArgs({
  options: {
    'per-second': { type: 'string', default: '1000' },
    kinds: { type: 'string', default: KINDS.join(',') },
    addresses: { type: 'string', default: '30000' },
    rate: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '5' },
    apart: { type: 'boolean', default: false },
    shipped: { type: 'boolean', default: false },
    child: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

/** Until the hostile ones are as many as they will be: slow ones stay this long. */
const STAY_MS = 3000;
const SETTLE_MS = 2000;
const REST_MS = 500;

const POLICY = {
  connections: { enabled: true, max_per_ip: 20, max_per_network: 1000, exempt: ['127.0.0.1'] },
  rates: {
    enabled: true,
    limits: [{ count: 'connections', limit: 600, interval_ms: 60_000 }],
    exempt: ['127.0.0.1'],
  },
  bans: { enabled: true, max_failures: { protocol: 20, unknown_user: 20 } },
  early_talker: { enabled: true, greet_delay_ms: 1000 },
  tarpit: { enabled: true },
};

const PARTS = ['alone', 'beside', 'control'] as const;
type Part = (typeof PARTS)[number];

/** What was used in one part of a round. */
interface Slice {
  seconds: number;
  messages: number;
  /** CPU seconds. */
  client: number;
  generator: number;
  relay: Record<string, number>;
  hostile: Record<Kind, Fates> | null;
}

/** In a process of its own: attacks a port when told to, and says what became of it. */
function beHostile(): void {
  let hostile: Hostile | null = null;
  let first = 0;
  process.on('message', (port: number) => {
    hostile?.stop();
    const fates = hostile?.fates ?? null;
    // Who came in one part of a round does not come again at once: it would be banned for what it did there.
    first += hostile?.connections ?? 0;
    hostile =
      port === 0
        ? null
        : new Hostile({
            port,
            perSecond: Number(values['per-second']),
            addresses: Number(values.addresses),
            first,
            stayMs: STAY_MS,
            kinds: values.kinds.split(',') as Kind[],
          });
    process.send?.({ fates });
  });
}

function child(name: string, core: number): ChildProcess {
  const { child: _, help: __, apart: ___, shipped: ____, ...rest } = values;
  const options = Object.entries(rest).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const started = fork(import.meta.filename, ['--child', name, ...options]);
  pin(started.pid as number, core);
  return started;
}

function pin(pid: number, core: number): void {
  if (values.apart)
    execFileSync('taskset', ['-a', '-p', '-c', String(core), String(pid)], { stdio: 'ignore' });
}

async function main(): Promise<void> {
  const port = await freePort();
  pin(process.pid, 1);
  const relay = new RelayFixture(
    {
      listeners: [{ host: '127.0.0.1', port, auth: 'optional' }],
      auth: {
        backends: [{ type: 'memory', users: [{ username: 'good', password: 'secret' }] }],
        mechanisms: ['PLAIN'],
        allow_without_tls: true,
      },
      relay_networks: ['127.0.0.1'],
      delivery: { enabled: false },
      policy: values.shipped ? {} : POLICY,
      // To a file: read here, the lines about hostile clients would slow the good ones down.
      log: { file: 'relay.log' },
    },
    values.apart ? { wrapper: ['taskset', '-c', '0'] } : {},
  );
  relay.launch();
  relay.events.close();
  const hostile = child('hostile', 1);
  const bare = child('bare', 0);
  const [{ port: barePort }] = (await once(bare, 'message')) as [{ port: number }];
  const slices: Record<Part, Slice[]> = { alone: [], beside: [], control: [] };
  try {
    await accepting(port);
    await good(port, 1);
    for (let round = 0; round < Number(values.rounds); round++) {
      // Whatever else the machine does meanwhile should not always meet the same part.
      const parts = round % 2 === 0 ? PARTS : PARTS.toReversed();
      for (const part of parts) {
        const target = part === 'alone' ? 0 : part === 'beside' ? port : barePort;
        slices[part].push(await slice(relay.pid, port, hostile, target));
      }
      process.stdout.write(`${PARTS.map((part) => told(part, slices[part].at(-1) as Slice)).join('\n')}\n`);
    }
  } finally {
    hostile.kill();
    bare.kill();
    await relay.destroy();
  }
  process.exitCode = conclude(slices) >= 0.8 ? 0 : 1;
}

/** One part: good clients, and hostile ones at that port (0: none). */
async function slice(relay: number, port: number, hostile: ChildProcess, target: number): Promise<Slice> {
  if (target !== 0) {
    await order(hostile, target);
    await pause(SETTLE_MS);
  }
  const cpu = { relay: threadCpuSeconds(relay), generator: treeCpuSeconds(hostile.pid as number) };
  const own = process.cpuUsage();
  const startedMs = performance.now();
  const messages = await good(port, Number(values.seconds));
  const seconds = (performance.now() - startedMs) / 1000;
  const { user, system } = process.cpuUsage(own);
  const generator = treeCpuSeconds(hostile.pid as number) - cpu.generator;
  const used = byThread(cpu.relay, threadCpuSeconds(relay));
  const fates = await order(hostile, 0);
  await pause(REST_MS);
  return { seconds, messages, client: (user + system) / 1e6, generator, relay: used, hostile: fates };
}

async function order(hostile: ChildProcess, port: number): Promise<Record<Kind, Fates> | null> {
  const answer = once(hostile, 'message');
  hostile.send(port);
  return ((await answer) as [{ fates: Record<Kind, Fates> | null }])[0].fates;
}

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

type Threads = ReturnType<typeof threadCpuSeconds>;

/** Those of one name are one. */
function byThread(before: Threads, after: Threads): Record<string, number> {
  const used: Record<string, number> = {};
  for (const { name, seconds } of after) used[name] = (used[name] ?? 0) + seconds;
  for (const { name, seconds } of before) used[name] = (used[name] ?? 0) - seconds;
  return used;
}

function told(part: Part, { seconds, messages, client, generator, relay, hostile }: Slice): string {
  const share = (cpu: number): string => `${((100 * cpu) / seconds).toFixed(0)} %`;
  const threads = Object.entries(relay)
    .filter(([, cpu]) => cpu / seconds >= 0.01)
    .map(([name, cpu]) => `${name} ${share(cpu)}`);
  const begun = hostile === null ? '' : `, hostile ${perSecond(hostile, seconds).toFixed(0)}/s`;
  return `${part.padEnd(7)} ${(messages / seconds).toFixed(0)} messages/s${begun}; of a core: good clients ${share(client)}, hostile ${share(generator)}, relay ${threads.join(', ')}`;
}

/** Connections of the hostile ones, begun in a slice and while it settled. */
function perSecond(hostile: Record<Kind, Fates>, seconds: number): number {
  return KINDS.reduce((sum, kind) => sum + hostile[kind].begun, 0) / (seconds + SETTLE_MS / 1000);
}

/** Prints medians. @returns the share that is kept. */
function conclude(slices: Record<Part, Slice[]>): number {
  const ratio = (part: Part, other: Part): number =>
    median(
      slices[part].map((slice, i) => {
        const against = slices[other][i] as Slice;
        return slice.messages / slice.seconds / (against.messages / against.seconds);
      }),
    );
  const relayCpu = ({ relay }: Slice): number => Object.values(relay).reduce((sum, cpu) => sum + cpu, 0);
  const perMessage = median(slices.alone.map((slice) => relayCpu(slice) / slice.messages));
  const { beside } = slices;
  const hostileUs = beside.map((slice) => {
    const connections = perSecond(slice.hostile as Record<Kind, Fates>, slice.seconds) * slice.seconds;
    return [(relayCpu(slice) - perMessage * slice.messages) / connections, slice.generator / connections].map(
      (seconds) => seconds * 1e6,
    ) as [number, number];
  });
  const rate = median(beside.map((slice) => perSecond(slice.hostile as Record<Kind, Fates>, slice.seconds)));
  const kept = ratio('beside', 'alone');
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  process.stdout.write(
    `CPU of the relay: ${(perMessage * 1e6).toFixed(0)} µs a good message, ` +
      `${median(hostileUs.map(([relay]) => relay)).toFixed(0)} µs a hostile connection; ` +
      `of the hostile client ${median(hostileUs.map(([, generator]) => generator)).toFixed(0)} µs\n${fatesTold(beside)}` +
      `hostile ${rate.toFixed(0)}/s; kept ${percent(kept)} beside them, ${percent(ratio('control', 'alone'))} beside the control, ` +
      `${percent(ratio('beside', 'control'))} of the control (medians of ${beside.length})\n`,
  );
  return kept;
}

/** What became of the hostile ones, a line for each kind. */
function fatesTold(slices: Slice[]): string {
  let text = '';
  for (const kind of KINDS) {
    const sum = (figure: keyof Fates): number =>
      slices.reduce((all, { hostile }) => all + (hostile?.[kind][figure] ?? 0), 0);
    const begun = sum('begun');
    if (begun === 0) continue;
    const share = (figure: keyof Fates): string => `${((100 * sum(figure)) / begun).toFixed(0)} %`;
    text +=
      `  ${kind.padEnd(10)} ${begun} begun, turned away ${share('turnedAway')}, greeted ${share('greeted')}, ` +
      `ended by the server ${share('ended')}, left by themselves ${share('left')}, ` +
      `not connected ${sum('unconnected')}, ${(sum('replies') / begun).toFixed(1)} replies each\n`;
  }
  return text;
}

const median = (figures: number[]): number => figures.sort((a, b) => a - b)[figures.length >> 1] ?? 0;

/** Messages of the good clients that were accepted. */
async function good(port: number, seconds: number): Promise<number> {
  const spillDir = mkdtempSync(join(tmpdir(), 'protorelay-hostile-'));
  const client = new LoadClient(
    {
      host: '127.0.0.1',
      port,
      messages: Number.POSITIVE_INFINITY,
      sizeBytes: 1024,
      rcpts: 1,
      concurrency: 100,
      perConnection: false,
      pipeline: false,
      ratePerSecond: Number(values.rate),
      durationMs: seconds * 1000,
      toDomain: 'good.test',
      from: 'sender@bench.test',
      run: '5caff01d',
      stallMs: 20_000,
      reconnectMs: 20,
      spillDir,
    },
    createArena(16 << 20, spillDir),
  );
  await client.run();
  const report = client.report();
  client.destroy();
  rmSync(spillDir, { recursive: true });
  if (report.failed > 0)
    throw new Error(`${report.failed} good messages failed: ${report.refusals.join('; ')}`);
  return report.accepted;
}

if (values.help) process.stdout.write(`${USAGE}\n`);
else if (values.child === 'hostile') beHostile();
else if (values.child === 'bare') process.send?.({ port: startBareServer().port });
else await main();
