/**
 * TLS of the reactor: handshakes (full, and resumed with each key exchange) beside `openssl s_server` with the same
 * certificate, under load of our own client and of `openssl s_time`; CPU of a message over TLS beside one in the clear;
 * memory of a connection that is established and idle. Server and client are processes of their own; figures are the
 * server's CPU time, so the client's share of the machine does not count. What is compared is measured in turn, some
 * rounds of it, and a figure is the median.
 *
 *   ./build.sh bench tls -- --rounds 3 --handshakes 2000 --messages 10000 --large 2000 --idle 10000
 */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  configureTls,
  createArena,
  createReactor,
  EVENT,
  EVENT_WORDS,
  listen,
  makeSelfSigned,
  TLS_VERIFY,
  type TlsSetup,
  tlsSlot,
} from '../src/native.ts';
import { freePort } from '../test/support/free-port.ts';
import { readOptions } from './lib/options.ts';

const KILOBYTE = 1024;
const EXCHANGES = ['full', 'light', 'none'] as const;
const RULES = { maxBytes: 1 << 28, maxLineBytes: 1000, normalizeNewlines: false };
const TLS = {
  groups: [{ certificates: [0], names: [] }],
  minVersion: 'TLSv1.2',
  ciphers: '',
  ciphersuites: '',
  ca: '',
  crl: '',
  caLater: false,
  namesCa: false,
  sessionSeconds: 7200,
} as const;

/** What a connection comes to: no TLS at all, a full handshake, or one resumed with this key exchange. */
type Resume = 'no TLS' | 'never' | TlsSetup['resumption'];
type Order =
  | { do: 'serve'; certificate: string; key: string }
  | { do: 'measure' }
  | { do: 'handshakes'; port: number; count: number; atOnce: number; resume: Resume; greets: boolean }
  | { do: 'messages'; port: number; tls: boolean; count: number; bytes: number; connections: number }
  | { do: 'idle'; port: number; tls: boolean; count: number };
type Answer = { ports?: number[]; cpuUs?: number; rssBytes?: number; ms?: number };

// ----------------------------------------------------------------------------------------------------- children

function reactorWith(onEvent: (kind: number, connection: number, a: number, b: number) => void) {
  const folder = tmpdir();
  const arena = createArena(64 << 20, folder);
  const reactor = createReactor({
    arena,
    spillDir: folder,
    spillThresholdBytes: 1 << 20,
    maxConnections: 20_000,
    maxLineBytes: 2048,
    holdAfterVerbs: false,
    lingerMs: 0,
    maxHandshakes: 1000,
    onTurn: (count) => {
      const { events } = reactor;
      for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
        const [head, connection, a, b] = events.subarray(at, at + 4) as unknown as [
          number,
          number,
          number,
          number,
        ];
        onEvent(head & 0xff, connection, a, b);
      }
    },
  });
  return { arena, reactor };
}

/** Takes messages on one port in the clear and on others over TLS (one for each of EXCHANGES), and throws them away. */
function serve(certificate: string, key: string): number[] {
  const slots = EXCHANGES.map((resumption) => {
    const slot = tlsSlot();
    const certificates = [{ chain: certificate, key }];
    configureTls(slot, { ...TLS, server: true, certificates, resumption, ticketSecret: randomBytes(32) });
    return slot;
  });
  const ok = Buffer.from('250 2.0.0 Ok\r\n');
  const { reactor } = reactorWith((kind, connection, a, b) => {
    if (kind === EVENT.opened) {
      const slot = slots[(reactor.text[a] ?? 0x30) - 0x31];
      if (slot === undefined) reactor.sendLatin1(connection, '220 bench\r\n');
      else reactor.secure(connection, slot, TLS_VERIFY.none, '', '');
    } else if (kind === EVENT.secured) reactor.sendLatin1(connection, '220 bench\r\n');
    else if (kind === EVENT.line && reactor.text[a] === 0x44) {
      reactor.sendLatin1(connection, '354 go\r\n');
      reactor.expectData(connection, RULES);
    } else if (kind === EVENT.line && b > 0) reactor.send(connection, ok);
    else if (kind === EVENT.content) {
      // The reactor gives the content back, since nobody takes it.
      reactor.send(connection, ok);
      reactor.expectLines(connection);
    }
  });
  const at = (listener: number): number => {
    const acceptor = listen({
      host: '127.0.0.1',
      backlog: 4096,
      listener,
      batch: 64,
      onAccept: (fds, addresses) => {
        fds.forEach((fd, i) => void acceptor.handOff(fd, reactor.id, addresses[i] as string));
      },
      onError: () => {},
    });
    return acceptor.port;
  };
  return [0, 1, 2, 3].map(at);
}

/** One client reactor; what it does with events is set for each order. */
class Client {
  readonly #slots = { full: tlsSlot(), none: tlsSlot() };
  on: (kind: number, connection: number, a: number) => void = () => {};
  readonly #made = reactorWith((kind, connection, a) => this.on(kind, connection, a));
  readonly reactor = this.#made.reactor;
  readonly arena = this.#made.arena;

  constructor() {
    const ticketSecret = new Uint8Array(0);
    for (const resumption of ['full', 'none'] as const) {
      const rules = { certificates: [], groups: [], ticketSecret, resumption };
      configureTls(this.#slots[resumption], { ...TLS, ...rules, server: false });
    }
  }

  connect(port: number): number {
    return this.reactor.connect('127.0.0.1', port, '', 10_000);
  }

  secure(connection: number, key = '', exchange: 'full' | 'none' = 'full'): void {
    this.reactor.secure(connection, this.#slots[exchange], TLS_VERIFY.ask, 'localhost', key);
  }

  /** Each connection ends when the server's greeting is there, or the handshake is done where it has none. */
  handshakes(port: number, count: number, atOnce: number, resume: Resume, greets: boolean): Promise<void> {
    return new Promise((done) => {
      let begun = 0;
      let ended = 0;
      const key = resume === 'never' ? '' : `port${port}`;
      const begin = (): void => {
        if (begun++ < count) this.connect(port);
      };
      this.on = (kind, connection) => {
        if (kind === EVENT.opened && resume !== 'no TLS')
          this.secure(connection, key, resume === 'none' ? 'none' : 'full');
        else if (kind === EVENT.line || (kind === EVENT.secured && !greets && key === ''))
          this.reactor.close(connection);
        else if (kind === EVENT.secured && !greets) {
          // The ticket comes right behind the handshake.
          setTimeout(() => {
            this.reactor.close(connection);
            this.reactor.flush();
          }, 1);
        } else if (kind === EVENT.closed) {
          if (++ended >= count) done();
          else begin();
        }
      };
      for (let i = 0; i < atOnce; i++) begin();
      this.reactor.flush();
    });
  }

  messages(port: number, tls: boolean, count: number, bytes: number, connections: number): Promise<void> {
    const line = `${'m'.repeat(70)}\r\n`;
    const content = this.arena.store(
      Buffer.from(line.repeat(Math.ceil(bytes / line.length)).slice(0, bytes)),
    );
    const prefix = Buffer.alloc(0);
    return new Promise<void>((done) => {
      let begun = 0;
      let accepted = 0;
      const step = new Map<number, number>();
      const next = (connection: number): void => {
        if (begun++ < count) {
          step.set(connection, 0);
          this.reactor.sendLatin1(connection, 'MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n');
        } else this.reactor.close(connection);
      };
      this.on = (kind, connection) => {
        if (kind === EVENT.opened && tls) this.secure(connection);
        if (kind !== EVENT.line) return;
        const at = step.get(connection);
        if (at === undefined) next(connection);
        else if (at === 2) {
          step.set(connection, 3);
          this.reactor.sendContent(connection, prefix, content, true);
        } else if (at === 3) {
          if (++accepted === count) done();
          next(connection);
        } else step.set(connection, at + 1);
      };
      for (let i = 0; i < connections; i++) this.connect(port);
      this.reactor.flush();
    }).then(() => this.arena.release(content));
  }

  idle(port: number, tls: boolean, count: number): Promise<void> {
    return new Promise((done) => {
      let begun = 0;
      let ready = 0;
      const begin = (): void => {
        if (begun++ < count) this.connect(port);
      };
      this.on = (kind, connection) => {
        if (kind === EVENT.opened && tls) this.secure(connection);
        if (kind !== EVENT.line) return;
        if (++ready === count) done();
        begin();
      };
      for (let i = 0; i < 50; i++) begin();
      this.reactor.flush();
    });
  }
}

function child(): void {
  let client: Client | null = null;
  const say = (answer: Answer): void => void process.send?.(answer);
  process.on('message', async (order: Order) => {
    const started = performance.now();
    if (order.do === 'serve') return say({ ports: serve(order.certificate, order.key) });
    if (order.do === 'measure') {
      const { user, system } = process.cpuUsage();
      return say({ cpuUs: user + system, rssBytes: process.memoryUsage.rss() });
    }
    client ??= new Client();
    if (order.do === 'handshakes')
      await client.handshakes(order.port, order.count, order.atOnce, order.resume, order.greets);
    else if (order.do === 'messages')
      await client.messages(order.port, order.tls, order.count, order.bytes, order.connections);
    else await client.idle(order.port, order.tls, order.count);
    say({ ms: performance.now() - started });
  });
}

// ------------------------------------------------------------------------------------------------------- parent

function ask(process: ChildProcess, order: Order): Promise<Answer> {
  return new Promise((resolve) => {
    process.once('message', (answer) => resolve(answer as Answer));
    process.send(order);
  });
}

const begin = (): ChildProcess => fork(import.meta.filename, ['child']);

/** CPU time of a process that is not ours, in microseconds. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

async function reachable(port: number): Promise<void> {
  for (;;) {
    try {
      execFileSync('openssl', ['s_client', '-connect', `127.0.0.1:${port}`], {
        input: '',
        stdio: 'pipe',
        timeout: 2000,
      });
      return;
    } catch {
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

const median = (of: number[]): number => of.sort((a, b) => a - b)[of.length >> 1] as number;
const micros = (figures: number[]): string => `${median(figures).toFixed(1)} µs`;

/** Of each name the figures of all rounds, by the name, in the order they came. */
class Rounds {
  readonly #figures = new Map<string, number[]>();
  add(name: string, figure: number): void {
    this.#figures.set(name, [...(this.#figures.get(name) ?? []), figure]);
  }
  /** @param beside in the next column each median as a share of the one named so. */
  table(beside: (name: string) => string): void {
    const of = (name: string): number => median(this.#figures.get(name) ?? [Number.NaN]);
    console.table(
      [...this.#figures].map(([name, figures]) => ({
        what: name,
        CPU: micros(figures),
        'per core': `${Math.round(1e6 / median(figures))}/s`,
        least: micros([Math.min(...figures)]),
        beside: `${(of(name) / of(beside(name))).toFixed(2)} × ${beside(name)}`,
      })),
    );
  }
}

/** A pair of processes, and what the server's CPU time and memory are. */
async function pair(certificate: string, key: string) {
  const [server, client] = [begin(), begin()];
  const { ports } = await ask(server, { do: 'serve', certificate, key });
  return {
    ports: ports as [number, number, number, number],
    client,
    cpu: async (): Promise<number> => (await ask(server, { do: 'measure' })).cpuUs as number,
    rss: async (): Promise<number> => (await ask(server, { do: 'measure' })).rssBytes as number,
    stop: (): void => {
      server.kill();
      client.kill();
    },
  };
}
type Pair = Awaited<ReturnType<typeof pair>>;

/** Connections that `openssl s_time` makes in two seconds; it speaks to one at a time. */
function sTime(port: number, ...args: string[]): number {
  const said = execFileSync('openssl', ['s_time', '-connect', `127.0.0.1:${port}`, '-time', '2', ...args], {
    encoding: 'latin1',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return Number(/^(\d+) connections in \d+ real/m.exec(said)?.[1]);
}

async function handshakes(made: Pair, folder: string, rounds: number, count: number): Promise<void> {
  const [plain, full, light, none] = made.ports;
  const other = await freePort();
  const args = ['s_server', '-quiet', '-accept', `127.0.0.1:${other}`, '-cert', join(folder, 'c.pem')];
  const openssl = spawn('openssl', args, { stdio: ['pipe', 'ignore', 'ignore'] });
  await reachable(other);
  const theirs = async (): Promise<number> => cpuOf(openssl.pid as number);
  const figures = new Rounds();
  for (let round = 0; round < rounds; round++) {
    for (const [name, port, resume] of [
      ['no TLS', plain, 'no TLS'],
      ['full', full, 'never'],
      ['resumed', full, 'full'],
      ['resumed, light', light, 'light'],
      ['resumed, none', none, 'none'],
      ['s_server: full', other, 'never'],
      ['s_server: resumed', other, 'full'],
    ] as const) {
      const greets = port !== other;
      const order = { do: 'handshakes', port, atOnce: greets ? 8 : 1, resume, greets } as const;
      const clock = greets ? made.cpu : theirs;
      await ask(made.client, { ...order, count: 50 });
      const before = await clock();
      await ask(made.client, { ...order, count });
      figures.add(name, ((await clock()) - before) / count);
    }
    for (const [name, ...how] of [
      ['s_time, TLS 1.3, full', '-new', '-tls1_3'],
      ['s_time, TLS 1.2, full', '-new', '-tls1_2'],
      ['s_time, TLS 1.2, resumed', '-reuse', '-tls1_2'],
    ] as const)
      for (const [whose, port, clock] of [
        ['', full, made.cpu],
        ['s_server: ', other, theirs],
      ] as const) {
        const before = await clock();
        const done = sTime(port, ...how);
        figures.add(whose + name, ((await clock()) - before) / done);
      }
  }
  openssl.kill();
  figures.table((name) =>
    name.startsWith('s_server: s_time') || name === 's_server: full'
      ? name.slice('s_server: '.length)
      : name.startsWith('s_server')
        ? 's_server: full'
        : name.endsWith('TLS 1.2, resumed')
          ? 's_time, TLS 1.2, full'
          : 'full',
  );
}

async function messages(made: Pair, rounds: number, small: number, large: number): Promise<void> {
  const [plain, secure] = made.ports;
  const figures = new Rounds();
  for (let round = 0; round < rounds; round++)
    for (const [bytes, count] of [
      [KILOBYTE, small],
      [100 * KILOBYTE, large],
    ] as const)
      for (const tls of [false, true]) {
        const order = { do: 'messages', port: tls ? secure : plain, tls, bytes, connections: 20 } as const;
        await ask(made.client, { ...order, count: Math.ceil(count / 5) });
        const before = await made.cpu();
        await ask(made.client, { ...order, count });
        const name = `message of ${bytes / KILOBYTE} KB, ${tls ? 'TLS' : 'plain'}`;
        figures.add(name, ((await made.cpu()) - before) / count);
      }
  figures.table((name) => name.replace('TLS', 'plain'));
}

/** In processes of their own: memory that another load left free would hide what this one takes. */
async function idle(certificate: string, key: string, count: number): Promise<void> {
  for (const tls of [false, true]) {
    const made = await pair(certificate, key);
    const [plain, secure] = made.ports;
    const before = await made.rss();
    await ask(made.client, { do: 'idle', port: tls ? secure : plain, tls, count });
    await new Promise((done) => setTimeout(done, 300));
    const each = ((await made.rss()) - before) / KILOBYTE / count;
    console.log(`${count} idle connections, ${tls ? 'TLS' : 'plain'}: ${each.toFixed(1)} KB each`);
    made.stop();
  }
}

async function main(): Promise<void> {
  const options = readOptions('tls', 'Handshakes, messages and idle connections over TLS.', {
    rounds: { kind: 'number', default: 3, help: 'how often everything is measured in turn' },
    handshakes: { kind: 'number', default: 2000, help: 'handshakes of each kind; 0: none' },
    messages: { kind: 'number', default: 10_000, help: 'messages of 1 KB; 0: none, also no large ones' },
    large: { kind: 'number', default: 2000, help: 'messages of 100 KB' },
    idle: {
      kind: 'number',
      default: 2000,
      help: 'idle connections (each one descriptor in either process); 0: none',
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'bench-tls-'));
  const { certificate, key } = makeSelfSigned(['localhost'], 10, 'ecdsa');
  writeFileSync(join(folder, 'c.pem'), certificate + key);
  const made = await pair(certificate, key);
  const { rounds } = options;
  if (options.handshakes > 0) await handshakes(made, folder, rounds, options.handshakes);
  if (options.messages > 0) await messages(made, rounds, options.messages, options.large);
  made.stop();
  if (options.idle > 0) await idle(certificate, key, options.idle);
  rmSync(folder, { recursive: true });
}

if (process.argv[2] === 'child') child();
else await main();
