/**
 * The protocol path alone: messages are accepted, parsed, counted and discarded. No envelope is checked, nothing is
 * stored or delivered, so the figure is what socket, reactor, one JavaScript call per turn and replies cost.
 * Reactors run in worker threads as in the relay. Drive it with bench/cl.ts or any SMTP client, for example
 * `smtp-source -d -s 100 -m 50000 -l 1024 HOST:PORT`.
 */
import { tmpdir } from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import {
  type Arena,
  attachArena,
  type ContentRules,
  createArena,
  createReactor,
  EVENT,
  EVENT_WORDS,
  listen,
  NO_CONTENT,
  type Reactor,
  reactorConnections,
} from '../src/native.ts';
import { readOptions } from './lib/options.ts';

interface Count {
  messages: number;
  bytes: number;
  turns: number;
}

const RULES: ContentRules = { maxBytes: 1 << 28, maxLineBytes: 1000, normalizeNewlines: false };
const reply = (text: string): Buffer => Buffer.from(`${text}\r\n`);
const BANNER = reply('220 bench.test ESMTP');
const HELLO = reply('250-bench.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME');
const OK = reply('250 2.0.0 Ok');
const START = reply('354 End data with <CR><LF>.<CR><LF>');
const BYE = reply('221 2.0.0 Bye');
const UNKNOWN = reply('502 5.5.2 Command not recognized');

/** The smallest dialog that real clients accept. */
class Discarding {
  readonly count: Count = { messages: 0, bytes: 0, turns: 0 };
  readonly reactor: Reactor;
  readonly #arena: Arena;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.reactor = createReactor({
      arena,
      spillDir: tmpdir(),
      spillThresholdBytes: 1 << 20,
      maxConnections: 10_000,
      maxLineBytes: 2048,
      holdAfterVerbs: true,
      onTurn: (count) => this.#turn(count),
    });
  }

  #turn(count: number) {
    const { events } = this.reactor;
    this.count.turns++;
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      const connection = events[at + 1] as number;
      const a = events[at + 2] as number;
      switch ((events[at] as number) & 0xff) {
        case EVENT.line:
          this.#command(connection, a, events[at + 3] as number);
          break;
        case EVENT.content:
          events[at + 2] = NO_CONTENT;
          this.#content(connection, a);
          break;
        case EVENT.chunk:
          this.reactor.send(connection, OK);
          this.reactor.expectLines(connection);
          break;
        case EVENT.opened:
          this.reactor.send(connection, BANNER);
          break;
        case EVENT.timeout:
          this.reactor.close(connection, true);
          break;
      }
    }
  }

  #command(connection: number, at: number, length: number) {
    const { reactor } = this;
    const { text } = reactor;
    // Four letters, lower-cased, as one number.
    switch (length < 4 ? 0 : text.readUInt32BE(at) | 0x20202020) {
      case 0x6d61696c: // mail
        reactor.deadline(connection, 300_000);
        return reactor.send(connection, OK);
      case 0x72637074: // rcpt
      case 0x72736574: // rset
      case 0x6e6f6f70: // noop
        return reactor.send(connection, OK);
      case 0x64617461: // data
        reactor.send(connection, START);
        return reactor.expectData(connection, RULES);
      case 0x62646174: {
        const [, size = '0', last] = text.toString('latin1', at, at + length).split(' ');
        return reactor.expectChunk(connection, Number(size), last !== undefined, RULES);
      }
      case 0x65686c6f: // ehlo
      case 0x68656c6f: // helo
        return reactor.send(connection, HELLO);
      case 0x71756974: // quit
        reactor.send(connection, BYE);
        return reactor.close(connection);
    }
    reactor.send(connection, UNKNOWN);
    reactor.expectLines(connection);
  }

  #content(connection: number, content: number) {
    if (content !== NO_CONTENT) {
      this.count.messages++;
      this.count.bytes += this.#arena.lengthBytes(content);
      this.#arena.release(content);
    }
    this.reactor.send(connection, OK);
    this.reactor.expectLines(connection);
  }
}

function runThread(): void {
  const server = new Discarding(attachArena(workerData as SharedArrayBuffer, tmpdir()));
  parentPort?.on('message', () => parentPort?.postMessage(server.count));
  parentPort?.postMessage(server.reactor.id);
}

const once = (worker: Worker): Promise<unknown> => new Promise((resolve) => worker.once('message', resolve));

async function main(): Promise<void> {
  const options = readOptions('reactor', 'the protocol path alone: parsed, counted, discarded', {
    host: { kind: 'text', default: '127.0.0.1', help: 'address to listen on' },
    port: { kind: 'number', default: 2525, help: 'port to listen on; 0: any' },
    threads: { kind: 'number', default: 1, help: 'reactor threads' },
    duration: { kind: 'number', default: 0, help: 'seconds to run; 0: until SIGINT or SIGTERM' },
    json: { kind: 'flag', help: 'print the report as JSON' },
  });
  const arena = createArena(256 << 20, tmpdir());
  const workers: Worker[] = [];
  const reactors: number[] = [];
  for (let i = 0; i < Math.max(1, options.threads); i++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: arena.buffer });
    workers.push(worker);
    reactors.push((await once(worker)) as number);
  }
  const acceptor = listen({
    host: options.host,
    port: options.port,
    backlog: 1024,
    listener: 0,
    batch: 64,
    onAccept: (fds, addresses) => {
      for (let i = 0; i < fds.length; i++) {
        const fd = fds[i] as number;
        let least = reactors[0] as number;
        for (const id of reactors) if (reactorConnections(id) < reactorConnections(least)) least = id;
        if (!acceptor.handOff(fd, least, addresses[i] as string)) acceptor.refuse(fd, '421 4.3.2 Full\r\n');
      }
    },
    onError: (errno) => process.stderr.write(`reactor: accept failed, errno ${errno}\n`),
  });
  process.stderr.write(`reactor: listening on ${options.host}:${acceptor.port}\n`);
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await new Promise<void>((resolve) => {
    if (options.duration > 0) setTimeout(resolve, options.duration * 1000);
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  const cpu = process.cpuUsage(cpuBefore);
  const total: Count = { messages: 0, bytes: 0, turns: 0 };
  for (const worker of workers) {
    worker.postMessage('report');
    const count = (await once(worker)) as Count;
    total.messages += count.messages;
    total.bytes += count.bytes;
    total.turns += count.turns;
  }
  const report = {
    ...total,
    elapsedMs: Math.round(performance.now() - startedAt),
    cpuUsPerMessage:
      total.messages === 0 ? 0 : Math.round(((cpu.user + cpu.system) / total.messages) * 10) / 10,
    rssMb: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
  if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    process.stdout.write(
      `${report.messages} messages, ${report.bytes} bytes in ${report.turns} turns\n` +
        `${report.cpuUsPerMessage} µs of CPU per message, ${report.rssMb} MB resident\n`,
    );
  }
  acceptor.close();
  await Promise.all(workers.map((worker) => worker.terminate()));
}

if (isMainThread) await main();
else runThread();
