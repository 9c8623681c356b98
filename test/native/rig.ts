/**
 * A reactor whose events are kept as objects, an acceptor in front of it, and clients of node:net. All in one thread:
 * loopback delivers at once, so after `turns()` whatever a client wrote was read by the reactor.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Acceptor,
  type Arena,
  type ContentRules,
  createArena,
  createReactor,
  EVENT,
  EVENT_WORDS,
  type ListenOptions,
  listen,
  NO_CONTENT,
  type Reactor,
  type ReactorOptions,
} from '../../src/native.ts';

export const RULES: ContentRules = { maxBytes: 1 << 24, maxLineBytes: 1000, normalizeNewlines: false };

export interface Seen {
  kind: keyof typeof EVENT;
  connection: number;
  flags: number;
  a: number;
  b: number;
  /** Text of lines and addresses. */
  text: string;
  /** Number of the turn that delivered it. */
  turn: number;
}

const KINDS = Object.keys(EVENT) as (keyof typeof EVENT)[];

export class Rig {
  readonly spillDir = mkdtempSync(join(tmpdir(), 'rig-'));
  readonly arena: Arena;
  readonly reactor: Reactor;
  readonly acceptor: Acceptor;
  readonly seen: Seen[] = [];
  /** Called for each event, after it was noted. */
  onEvent: (event: Seen) => void = () => {};
  /** false: nobody takes what `content` events carry. */
  takesContent = true;
  #turn = 0;
  #waiting: { until: () => boolean; resolve: () => void }[] = [];
  #clients: Socket[] = [];
  readonly #ownsArena: boolean;

  constructor(
    options: Partial<ReactorOptions> & { arenaBytes?: number; listen?: Partial<ListenOptions> } = {},
  ) {
    this.#ownsArena = options.arena === undefined;
    this.arena = options.arena ?? createArena(options.arenaBytes ?? 8 << 20, this.spillDir);
    this.reactor = createReactor({
      spillDir: this.spillDir,
      spillThresholdBytes: 1 << 20,
      maxConnections: 100,
      maxLineBytes: 512,
      holdAfterVerbs: true,
      ...options,
      arena: this.arena,
      onTurn: (count) => this.#onTurn(count),
    });
    this.acceptor = listen({
      backlog: 100,
      listener: 3,
      batch: 10,
      onAccept: (fds, addresses) => {
        fds.forEach((fd, i) => {
          const taken = this.acceptor.handOff(fd, this.reactor.id, addresses[i] as string);
          if (!taken) this.acceptor.refuse(fd, '421 full\r\n');
        });
      },
      onError: (errno) => {
        throw new Error(`accept failed, errno ${errno}`);
      },
      ...options.listen,
    });
  }

  #onTurn(count: number): void {
    const { events, text } = this.reactor;
    this.#turn++;
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      const head = events[at] as number;
      const a = events[at + 2] as number;
      const b = events[at + 3] as number;
      const kind = KINDS[(head & 0xff) - 1] as keyof typeof EVENT;
      const hasText = ['line', 'opened', 'secured', 'notSecured'].includes(kind);
      const event: Seen = {
        kind,
        connection: events[at + 1] as number,
        flags: head >>> 8,
        a,
        b,
        text: hasText ? text.toString('latin1', a, a + b) : '',
        turn: this.#turn,
      };
      if (kind === 'content' && this.takesContent) events[at + 2] = NO_CONTENT;
      this.seen.push(event);
      this.onEvent(event);
    }
    const ready = this.#waiting.filter((wait) => wait.until());
    this.#waiting = this.#waiting.filter((wait) => !ready.includes(wait));
    for (const wait of ready) wait.resolve();
  }

  of(kind: keyof typeof EVENT): Seen[] {
    return this.seen.filter((event) => event.kind === kind);
  }

  lines(): string[] {
    return this.of('line').map((event) => event.text);
  }

  /** Waits for the nth event of a kind (the first when not said). */
  async event(kind: keyof typeof EVENT, nth = 1): Promise<Seen> {
    await this.until(() => this.of(kind).length >= nth);
    return this.of(kind)[nth - 1] as Seen;
  }

  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ until: condition, resolve }));
  }

  /** A connected client whose input is gathered in `received`. */
  async client(): Promise<Client> {
    const opened = this.of('opened').length;
    const client = new Client(this.acceptor.port);
    this.#clients.push(client.socket);
    await this.until(() => this.of('opened').length > opened);
    client.id = this.of('opened').at(-1)?.connection ?? -1;
    return client;
  }

  /** Bytes of a content, wherever it lies. */
  content(handle: number): Buffer {
    return this.arena.head(handle, Number.MAX_SAFE_INTEGER);
  }

  /** Ends everything and checks that nothing stays behind in the arena. */
  async close(): Promise<void> {
    for (const socket of this.#clients) socket.destroy();
    this.acceptor.close();
    this.reactor.destroy();
    await turns();
    rmSync(this.spillDir, { recursive: true });
    if (this.#ownsArena && this.arena.freeBytes() !== this.arena.totalBytes) {
      throw new Error(`${this.arena.totalBytes - this.arena.freeBytes()} bytes were not given back`);
    }
  }
}

export class Client {
  readonly socket: Socket;
  received = '';
  /** Connection id in the reactor. */
  id = -1;
  ended = false;
  readonly closed: Promise<string>;
  #waiting: { length: number; resolve: () => void }[] = [];

  constructor(port: number | string) {
    this.socket =
      typeof port === 'string'
        ? createConnection(port)
        : createConnection({ port, host: '127.0.0.1', noDelay: true });
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text) => {
      this.received += text;
      this.#waiting = this.#waiting.filter((wait) => {
        if (this.received.length < wait.length) return true;
        wait.resolve();
        return false;
      });
    });
    this.closed = new Promise((resolve) => {
      let reason = 'end';
      this.socket.on('error', (error: NodeJS.ErrnoException) => {
        reason = error.code ?? 'error';
      });
      this.socket.on('close', () => {
        this.ended = true;
        resolve(reason);
      });
    });
  }

  /** Writes and lets the reactor read it. */
  async write(bytes: string | Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => this.socket.write(bytes, 'latin1', () => resolve()));
    await turns();
  }

  /** Waits until `length` characters came in all. */
  gather(length: number): Promise<void> {
    if (this.received.length >= length) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ length, resolve }));
  }
}

/** Lets the loop poll a few times. */
export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
