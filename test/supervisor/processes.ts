/** Relays of several processes for tests: who they are, load on them, and probes that every connection is served. */
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import type { TestContext } from 'node:test';
import { LoadClient } from '../../bench/lib/load-client.ts';
import { Sink } from '../../bench/lib/sink-server.ts';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import type { Arena } from '../../src/native.ts';
import { bounded, type RelayFixture } from '../support/relay-fixture.ts';

const RUN = '5caff01d';

export async function processesOf(relay: RelayFixture): Promise<StatsAnswer['processes']> {
  return (await relay.queuePartJson<StatsAnswer>('stats')).answer.processes;
}

/** The pid of a relay process, as the relay's log told it last. */
export function pidOf(relay: RelayFixture, process: number): number {
  const line = relay.log.findLast((l) => l.event === 'process.ready' && l.process === process);
  return Number(line?.pid);
}

export function startSink(
  t: TestContext,
  arena: Arena,
): { sink: Sink; arrived(numbers: number[]): Promise<void> } {
  let progressed: () => void = () => {};
  const sink = new Sink(
    {
      host: '127.0.0.1',
      port: 0,
      maxConnections: 200,
      run: RUN,
      check: true,
      chunking: false,
      faults: [],
      rcpts: 1,
      delayMs: 0,
      spillDir: tmpdir(),
      onProgress: () => progressed(),
    },
    arena,
  );
  t.after(() => sink.close());
  const arrived = (numbers: number[]): Promise<void> => {
    let missing = numbers;
    const all = new Promise<void>((resolve) => {
      progressed = () => {
        missing = missing.filter((number) => sink.tally.count(number) === 0);
        if (missing.length === 0) resolve();
      };
      progressed();
    });
    return bounded(all, 30_000, () => `${missing.length} of ${numbers.length} did not arrive`);
  };
  return { sink, arrived };
}

/** Messages until `end`, each on a connection of its own when `perConnection`. */
export class Load {
  readonly accepted: number[] = [];
  readonly client: LoadClient;
  readonly #running: Promise<unknown>;
  #waiter: { count: number; resolve: () => void } | null = null;

  constructor(t: TestContext, port: number, arena: Arena, options: { perConnection: boolean; rate: number }) {
    this.client = new LoadClient(
      {
        host: '127.0.0.1',
        port,
        messages: Number.POSITIVE_INFINITY,
        sizeBytes: 1500,
        rcpts: 1,
        concurrency: 16,
        perConnection: options.perConnection,
        pipeline: false,
        ratePerSecond: options.rate,
        durationMs: 0,
        toDomain: 'many.test',
        from: 'sender@bench.test',
        run: RUN,
        stallMs: 20_000,
        reconnectMs: 20,
        spillDir: tmpdir(),
        onAccepted: (number) => {
          this.accepted.push(number);
          if (this.#waiter !== null && this.accepted.length >= this.#waiter.count) this.#waiter.resolve();
        },
      },
      arena,
    );
    t.after(() => this.client.destroy());
    this.#running = this.client.run();
  }

  more(count: number, relay: RelayFixture): Promise<void> {
    const wanted = this.accepted.length + count;
    const enough = new Promise<void>((resolve) => {
      this.#waiter = { count: wanted, resolve };
    });
    return bounded(enough, 30_000, () => `${this.accepted.length} of ${wanted} accepted:\n${relay.output()}`);
  }

  async end(): Promise<void> {
    this.client.stop();
    await this.#running;
  }
}

export interface Probe {
  /** When connect was called. */
  atMs: number;
  /** 'served' after a 220, else the error. */
  result: string;
}

/** Connects again and again, a few at a time, until `end`: was every connection served? */
export class Prober {
  readonly probes: Probe[] = [];
  #on = true;
  readonly #loops: Promise<void>[];

  constructor(port: number, loops = 4) {
    this.#loops = Array.from({ length: loops }, async () => {
      while (this.#on) {
        const atMs = Date.now();
        this.probes.push({ atMs, result: await probe(port) });
        await new Promise((next) => setTimeout(next, 5));
      }
    });
  }

  async end(): Promise<void> {
    this.#on = false;
    await Promise.all(this.#loops);
  }
}

/** One connection: 'served' after a 220, else the error. */
export function probe(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(10_000, () => socket.destroy(new Error('no greeting within 10 s')));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('close', () => resolve('closed without a greeting'));
    socket.once('data', (text) => {
      socket.end('QUIT\r\n');
      resolve(/^220 /.test(String(text)) ? 'served' : String(text).trim());
    });
  });
}
