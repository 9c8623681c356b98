/** Stands between a client and a MariaDB server and breaks connections at the one moment that matters: COMMIT. */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** before: the server never reads the COMMIT; after: it did it, and the client never learns. */
export type Cut = 'before' | 'after';

/** COM_QUERY with this text. */
const COMMIT = Buffer.from('\x03COMMIT');

export class CommitProxy {
  /** Connections to break, one after another. */
  cuts: Cut[] = [];
  /** The server is away from the next broken connection on: no commit is tried again in between. */
  awayAtCut = false;
  /** COMMITs seen. */
  commits = 0;
  /**
   * So many further commands of clients reach the server; then the connection that sent the last one stands still in
   * both directions, and stays open. null: none does.
   */
  freezeAfter: number | null = null;
  /** As a server that is down: what is connected breaks, and nothing new connects. */
  #away = false;
  /** A connection stands still. */
  frozen = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  port = 0;

  private constructor(target: number) {
    this.#server = createServer((client) => this.#serve(client, target));
  }

  static async start(target: number): Promise<CommitProxy> {
    const proxy = new CommitProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    proxy.port = (proxy.#server.address() as { port: number }).port;
    return proxy;
  }

  #serve(client: Socket, target: number): void {
    if (this.#away) {
      client.destroy();
      return;
    }
    const server = connect(target, '127.0.0.1');
    this.#sockets.add(client).add(server);
    let deaf = false;
    let still = false;
    const end = (): void => {
      if (still) return; // as behind a cut cable: neither learns that the other is gone
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    const packets = new Packets();
    server.on('data', (bytes) => {
      // The answer to the COMMIT: it is done, and lost.
      if (deaf) end();
      else if (!still) client.write(bytes);
    });
    client.on('data', (bytes) => {
      if (still) return;
      if (this.freezeAfter !== null) {
        const { passes, commands } = packets.take(bytes, this.freezeAfter);
        this.freezeAfter -= commands;
        if (this.freezeAfter === 0) {
          still = true;
          this.frozen = true;
          this.freezeAfter = null;
        }
        server.write(bytes.subarray(0, passes));
        return;
      }
      packets.take(bytes, Number.POSITIVE_INFINITY);
      if (bytes.includes(COMMIT)) {
        this.commits++;
        const cut = this.cuts.shift();
        if (cut === 'before') {
          end();
          if (this.awayAtCut) this.goAway();
          return;
        }
        deaf = cut === 'after';
      }
      server.write(bytes);
    });
  }

  goAway(): void {
    this.#away = true;
    this.cutAll();
  }

  comeBack(): void {
    this.#away = false;
  }

  /** Breaks every connection. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.cutAll();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** Finds where commands end in what a client sends: packets numbered 0 begin one. */
class Packets {
  /** Of a packet that is not complete yet. */
  #rest = 0;
  #header = Buffer.alloc(0);

  /** @returns octets up to the end of the last command wanted, and how many there were. */
  take(bytes: Buffer, wanted: number): { passes: number; commands: number } {
    let at = 0;
    let commands = 0;
    while (at < bytes.length) {
      if (this.#rest === 0) {
        const missing = 4 - this.#header.length;
        this.#header = Buffer.concat([this.#header, bytes.subarray(at, at + missing)]);
        at += Math.min(missing, bytes.length - at);
        if (this.#header.length < 4) break;
        this.#rest = this.#header.readUIntLE(0, 3);
        if (this.#header[3] === 0) commands++;
        this.#header = Buffer.alloc(0);
      }
      const part = Math.min(this.#rest, bytes.length - at);
      at += part;
      this.#rest -= part;
      if (this.#rest === 0 && commands === wanted) break;
    }
    return { passes: at, commands };
  }
}
