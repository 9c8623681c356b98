/**
 * The whole chain in one measurement: bench/cl.ts → relay → sink, each its own program. Figures of the relay come
 * from /proc, those of the client and the sink from themselves.
 */
import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Settings } from '../../test/support/relay-fixture.ts';
import { Child } from './child.ts';
import type { LoadReport } from './load-client.ts';
import { memoryBytes, threadCpuSeconds, treeCpuSeconds } from './proc.ts';
import { startOurSink, startRelay } from './servers.ts';
import type { SinkReport } from './sink-server.ts';

const CLIENT = resolve(import.meta.dirname, '../cl.ts');

export interface ChainOptions {
  messages: number;
  sizeBytes: number;
  rcpts: number;
  concurrency: number;
  perConnection: boolean;
  pipeline: boolean;
  ratePerSecond: number;
  /** false: mail stays in the queue. */
  deliver: boolean;
  check: boolean;
  /** Settings of the relay beyond its defaults. */
  settings: Settings;
  /** The sink is the static route of this domain, not the smarthost. */
  routeOnly?: string;
  /** The sink is where MX records lead; the settings name the server that has them. */
  byMx?: true;
  /** Folder with a queue to start from. */
  dir?: string;
  /** How long the last message may take to reach the sink. */
  deliveryTimeoutMs: number;
}

export interface ChainReport {
  client: LoadReport & { clientCpuUs: number };
  sink: SinkReport | null;
  /** Messages per second: acknowledged; and from the first MAIL to the last message at the sink. */
  acceptedPerSecond: number;
  deliveredPerSecond: number | null;
  /** Recipients settled per second, from the first end of data to the last recipient at the sink. */
  recipientsPerSecond: number | null;
  relay: {
    startMs: number;
    cpuUsPerMessage: number;
    cpuUsPerRecipient: number;
    rssBeforeMb: number;
    rssAfterMb: number;
    peakMb: number;
    threads: { name: string; seconds: number }[];
  };
}

/** Runs the chain once on a fresh relay (or one that starts from `dir`). */
export async function runChain(options: ChainOptions): Promise<ChainReport> {
  const recipients = options.messages * options.rcpts;
  const sinkArgs = ['--expect', String(recipients), '--rcpts', String(options.rcpts)];
  const sink = options.deliver
    ? await startOurSink(...sinkArgs, ...(options.check ? ['--check'] : []))
    : null;
  const hop = { host: '127.0.0.1', port: sink?.server.port ?? 0 };
  const { routeOnly } = options;
  const route =
    options.byMx === true
      ? { mx_port: hop.port }
      : routeOnly === undefined
        ? { smarthost: hop }
        : { routes: { [routeOnly]: hop } };
  const delivery = sink === null ? { enabled: false } : route;
  const settings = {
    ...options.settings,
    delivery: { ...delivery, ...(options.settings.delivery as Settings) },
  };
  const startedAt = performance.now();
  const relay = await startRelay(settings, options.dir).catch(async (error: unknown) => {
    await sink?.server.stop();
    throw error;
  });
  const startMs = performance.now() - startedAt;
  try {
    const rssBefore = memoryBytes(relay.pid, 'VmRSS');
    const cpuBefore = treeCpuSeconds(relay.pid);
    const expected = sink?.child.json('sink.expected', options.deliveryTimeoutMs);
    expected?.catch(() => {});
    const beganAt = performance.now();
    const client = new Child(process.execPath, [CLIENT, '--json', ...clientArguments(options, relay.port)]);
    const ended = await client.ended;
    if (ended.stdout === '') throw new Error(`the client failed: ${ended.stderr}\n${relay.fixture.output()}`);
    const sent = JSON.parse(ended.stdout) as ChainReport['client'];
    // With refused messages the expected number never arrives: then what came is what counts.
    let arrived = sent.failed > 0 ? undefined : ((await expected) as SinkReport | undefined);
    const deliveredMs = performance.now() - beganAt;
    await settled(relay.pid, join(relay.fixture.dataDir, 'events'));
    if (sink !== null && arrived === undefined) {
      const report = sink.child.json('sink.report', 10_000);
      sink.child.signal('SIGUSR2');
      arrived = (await report) as unknown as SinkReport;
    }
    const cpuSeconds = treeCpuSeconds(relay.pid) - cpuBefore;
    // The client's own start is not the relay's time: count from its first message.
    const clientStartMs = Math.max(0, ended.elapsedMs - sent.elapsedMs);
    const totalMs = deliveredMs - clientStartMs;
    const perSecond = (count: number): number => Math.round((count / totalMs) * 10_000) / 10;
    return {
      client: sent,
      sink: arrived ?? null,
      acceptedPerSecond: sent.messagesPerSecond,
      deliveredPerSecond: arrived === undefined ? null : perSecond(sent.accepted),
      recipientsPerSecond: arrived === undefined ? null : perSecond(recipients),
      relay: {
        startMs: Math.round(startMs),
        cpuUsPerMessage: Math.round((cpuSeconds * 1e7) / Math.max(1, sent.accepted)) / 10,
        cpuUsPerRecipient: Math.round((cpuSeconds * 1e7) / Math.max(1, sent.acceptedRecipients)) / 10,
        rssBeforeMb: megabytes(rssBefore),
        rssAfterMb: megabytes(memoryBytes(relay.pid, 'VmRSS')),
        peakMb: megabytes(memoryBytes(relay.pid, 'VmHWM')),
        threads: threadCpuSeconds(relay.pid).slice(0, 8),
      },
    };
  } finally {
    await relay.stop();
    await sink?.server.stop();
  }
}

function clientArguments(options: ChainOptions, port: number): string[] {
  const flags: string[] = [];
  if (options.perConnection) flags.push('--per-conn');
  if (options.pipeline) flags.push('--pipeline');
  const numbers = {
    port,
    messages: options.messages,
    size: options.sizeBytes,
    rcpts: options.rcpts,
    concurrency: options.concurrency,
    rate: options.ratePerSecond,
  };
  return [...flags, ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)])];
}

/** Resolves when the relay has written its last event and spends no more CPU: settlements count as its work. */
export async function settled(pid: number, eventDir: string): Promise<void> {
  const state = (): string => {
    const sizes = readdirSync(eventDir).map((name) => statSync(join(eventDir, name)).size);
    return `${sizes.join()} ${treeCpuSeconds(pid).toFixed(1)}`;
  };
  for (let same = 0, last = state(), tries = 0; same < 2 && tries < 50; tries++) {
    await new Promise((resolveWait) => setTimeout(resolveWait, 60));
    const next = state();
    same = next === last ? same + 1 : 0;
    last = next;
  }
}

export const megabytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10;
