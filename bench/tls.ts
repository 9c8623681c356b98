/**
 * TLS of the reactor: handshakes (full and resumed) beside `openssl s_server` with the same certificate, CPU of a
 * message over TLS beside one in the clear, memory of a connection that is established and idle. Server and client are
 * processes of their own; figures are the server's CPU time, so the client's share of the machine does not count.
 *
 *   ./build.sh bench tls -- --handshakes 2000 --messages 20000 --large 1000 --idle 2000
 */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
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
  NO_CONTENT,
  TLS_VERIFY,
  tlsSlot,
} from '../src/native.ts';
import { readOptions } from './lib/options.ts';

const KILOBYTE = 1024;
const RULES = { maxBytes: 1 << 28, maxLineBytes: 1000, normalizeNewlines: false };
const TLS = {
  groups: [{ certificates: [0], names: [] }],
  minVersion: 'TLSv1.2',
  ciphers: '',
  ciphersuites: '',
  ca: '',
  crl: '',
  namesCa: false,
  sessionSeconds: 7200,
  resumption: 'full',
} as const;

type Order =
  | { do: 'serve'; certificate: string; key: string }
  | { do: 'measure' }
  | { do: 'handshakes'; port: number; count: number; atOnce: number; resume: boolean }
  | { do: 'messages'; port: number; tls: boolean; count: number; bytes: number; connections: number }
  | { do: 'idle'; port: number; tls: boolean; count: number };
type Answer = { ports?: [number, number]; cpuUs?: number; rssBytes?: number; ms?: number };

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

/** Takes messages on one port in the clear and on another over TLS, and throws them away. */
function serve(certificate: string, key: string): [number, number] {
  const slot = tlsSlot();
  const ticketSecret = randomBytes(32);
  configureTls(slot, { ...TLS, server: true, certificates: [{ chain: certificate, key }], ticketSecret });
  const ok = Buffer.from('250 2.0.0 Ok\r\n');
  const { arena, reactor } = reactorWith((kind, connection, a, b) => {
    if (kind === EVENT.opened) {
      if (reactor.text[a] === 0x31) reactor.secure(connection, slot, TLS_VERIFY.none, '', '');
      else reactor.sendLatin1(connection, '220 bench\r\n');
    } else if (kind === EVENT.secured) reactor.sendLatin1(connection, '220 bench\r\n');
    else if (kind === EVENT.line && reactor.text[a] === 0x44) {
      reactor.sendLatin1(connection, '354 go\r\n');
      reactor.expectData(connection, RULES);
    } else if (kind === EVENT.line && b > 0) reactor.send(connection, ok);
    else if (kind === EVENT.content) {
      if (a !== NO_CONTENT) arena.release(a);
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
  return [at(0), at(1)];
}

/** One client reactor; what it does with events is set for each order. */
class Client {
  readonly slot = tlsSlot();
  on: (kind: number, connection: number, a: number) => void = () => {};
  readonly #made = reactorWith((kind, connection, a) => this.on(kind, connection, a));
  readonly reactor = this.#made.reactor;
  readonly arena = this.#made.arena;

  constructor() {
    const ticketSecret = new Uint8Array(0);
    configureTls(this.slot, { ...TLS, server: false, certificates: [], groups: [], ticketSecret });
  }

  connect(port: number): number {
    return this.reactor.connect('127.0.0.1', port, '', 10_000);
  }

  secure(connection: number, key = ''): void {
    this.reactor.secure(connection, this.slot, TLS_VERIFY.ask, 'localhost', key);
  }

  handshakes(port: number, count: number, atOnce: number, resume: boolean): Promise<void> {
    return new Promise((done) => {
      let begun = 0;
      let ended = 0;
      const key = new Map<number, string>();
      const begin = (name: string): void => {
        if (begun++ < count) key.set(this.connect(port), name);
      };
      this.on = (kind, connection) => {
        const name = key.get(connection) ?? '';
        if (kind === EVENT.opened) this.secure(connection, resume ? name : '');
        else if (kind === EVENT.secured) {
          // The ticket comes right behind the handshake.
          const close = (): void => {
            this.reactor.close(connection);
            this.reactor.flush();
          };
          if (resume) setTimeout(close, 1);
          else this.reactor.close(connection);
        } else if (kind === EVENT.closed) {
          key.delete(connection);
          if (++ended >= count) done();
          else begin(name);
        }
      };
      for (let i = 0; i < atOnce; i++) begin(`slot${i}`);
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
      await client.handshakes(order.port, order.count, order.atOnce, order.resume);
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
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

async function main(): Promise<void> {
  const options = readOptions('tls', 'Handshakes, messages and idle connections over TLS.', {
    handshakes: { kind: 'number', default: 2000, help: 'handshakes of each kind' },
    messages: { kind: 'number', default: 20_000, help: 'messages of 1 KB' },
    large: { kind: 'number', default: 1000, help: 'messages of 100 KB' },
    idle: { kind: 'number', default: 2000, help: 'idle connections' },
  });
  const folder = mkdtempSync(join(tmpdir(), 'bench-tls-'));
  const { certificate, key } = makeSelfSigned(['localhost'], 10, 'ecdsa');
  writeFileSync(join(folder, 'c.pem'), certificate + key);
  const server = begin();
  const client = begin();
  const { ports } = await ask(server, { do: 'serve', certificate, key });
  const [plain, secure] = ports as [number, number];
  const cpu = async (): Promise<number> => (await ask(server, { do: 'measure' })).cpuUs as number;
  const rss = async (): Promise<number> => (await ask(server, { do: 'measure' })).rssBytes as number;

  const other = await freePort();
  const args = ['s_server', '-quiet', '-accept', `127.0.0.1:${other}`, '-cert', join(folder, 'c.pem')];
  const openssl = spawn('openssl', args, { stdio: ['pipe', 'ignore', 'ignore'] });
  await reachable(other);
  const report: Record<string, string>[] = [];
  const row = (what: string, figures: Record<string, string>): void => void report.push({ what, ...figures });
  const us = (total: number, count: number): string => `${(total / count).toFixed(1)} µs CPU`;

  for (const resume of [false, true]) {
    const name = resume ? 'resumed handshake' : 'full handshake';
    const count = options.handshakes;
    for (const [whose, port, clock, atOnce] of [
      ['reactor', secure, cpu, 8],
      ['openssl s_server', other, async () => cpuOf(openssl.pid as number), 1],
    ] as const) {
      await ask(client, { do: 'handshakes', port, count: 50, atOnce, resume });
      const before = await clock();
      const { ms } = await ask(client, { do: 'handshakes', port, count, atOnce, resume });
      const used = (await clock()) - before;
      const rate = `${Math.round((count / (ms as number)) * 1000)}/s`;
      row(`${name}, ${whose}`, {
        cpu: us(used, count),
        core: `${Math.round(1e6 / (used / count))}/s per core`,
        rate,
      });
    }
  }
  openssl.kill();
  for (const [bytes, count] of [
    [KILOBYTE, options.messages],
    [100 * KILOBYTE, options.large],
  ] as const)
    for (const tls of [false, true]) {
      const order = { do: 'messages', port: tls ? secure : plain, tls, bytes, connections: 20 } as const;
      await ask(client, { ...order, count: 200 });
      const before = await cpu();
      const { ms } = await ask(client, { ...order, count });
      const rate = `${Math.round((count / (ms as number)) * 1000)}/s`;
      row(`message of ${bytes / KILOBYTE} KB, ${tls ? 'TLS' : 'plain'}`, {
        cpu: us((await cpu()) - before, count),
        rate,
      });
    }
  for (const tls of [false, true]) {
    const before = await rss();
    await ask(client, { do: 'idle', port: tls ? secure : plain, tls, count: options.idle });
    await new Promise((done) => setTimeout(done, 300));
    row(`idle connection, ${tls ? 'TLS' : 'plain'}`, {
      memory: `${(((await rss()) - before) / KILOBYTE / options.idle).toFixed(1)} KB`,
    });
  }
  console.table(report);
  server.kill();
  client.kill();
  rmSync(folder, { recursive: true });
}

if (process.argv[2] === 'child') child();
else await main();
