/**
 * HTTPS at port 443 of a loopback address of its own, as hosts of other people have it. Needs the right to bind that
 * port; `WebHost.lacks` says why it cannot be had.
 *
 *   const web = await WebHost.start({ cert, key }, (request, response) => response.end('hello'));
 *   dns.set('www.example.test', { A: [web.address] });
 *   await web.stop();
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import { createServer as createPlain } from 'node:net';

export class WebHost {
  readonly address: string;
  readonly #server: Server;

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  static async start(tls: { cert: string; key: string }, serve: RequestListener): Promise<WebHost> {
    for (let tries = 0; ; tries++) {
      const address = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
      const server = createServer(tls, serve);
      server.listen(443, address);
      try {
        await once(server, 'listening');
        return new WebHost(server, address);
      } catch (error) {
        if (tries > 20) throw error;
      }
    }
  }

  /** Why tests with it are skipped, or false. */
  static async lacks(): Promise<string | false> {
    const server = createPlain().listen(443, `127.${randomInt(1, 255)}.${randomInt(256)}.1`);
    try {
      await once(server, 'listening');
    } catch (error) {
      return `needs port 443 of loopback addresses (${(error as NodeJS.ErrnoException).code})`;
    }
    server.close();
    return false;
  }

  /** Open connections are cut. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}
