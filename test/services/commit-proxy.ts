/** Stands between a client and a MariaDB server and breaks connections at the one moment that matters: COMMIT. */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** before: the server never reads the COMMIT; after: it did it, and the client never learns. */
export type Cut = 'before' | 'after';

/** COM_QUERY with this text. */
const COMMIT = Buffer.from('\x03COMMIT');

export class CommitProxy {
  /** Connections to break, one after another. */
  cuts: Cut[] = [];
  /** COMMITs seen. */
  commits = 0;
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
    const server = connect(target, '127.0.0.1');
    this.#sockets.add(client).add(server);
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    let deaf = false;
    server.on('data', (bytes) => {
      // The answer to the COMMIT: it is done, and lost.
      if (deaf) end();
      else client.write(bytes);
    });
    client.on('data', (bytes) => {
      if (bytes.includes(COMMIT)) {
        this.commits++;
        const cut = this.cuts.shift();
        if (cut === 'before') {
          end();
          return;
        }
        deaf = cut === 'after';
      }
      server.write(bytes);
    });
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
