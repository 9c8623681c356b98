/** Clients that send one message after another, come what may, and remember which recipients were acknowledged. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Talk } from './talk.ts';

const PAUSE_MS = 20;

export class SteadyLoad {
  /** Recipients that got their 250. */
  readonly acknowledged: string[] = [];
  /** Replies that were no 250, and connections that broke. */
  refused: string[] = [];
  readonly #ports: () => number[];
  readonly #domain: string;
  readonly #paceMs: number;
  #number = 0;
  #running = true;
  readonly #clients: Promise<void>[];
  #waiters: { count: number; resolve: () => void }[] = [];

  /** @param ports of the relays to send to, asked anew for each connection. */
  /** @param paceMs pause of each client after each message: for relays that shall not fall behind. */
  constructor(ports: () => number[], clients: number, domain: string, paceMs = 0) {
    this.#ports = ports;
    this.#paceMs = paceMs;
    this.#domain = domain;
    this.#clients = Array.from({ length: clients }, (_, i) => this.#client(i));
  }

  /** Resolves when so many more were acknowledged. */
  more(count: number): Promise<void> {
    return new Promise((resolve) => this.#waiters.push({ count: this.acknowledged.length + count, resolve }));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#clients);
  }

  async #client(index: number): Promise<void> {
    while (this.#running) {
      const ports = this.#ports();
      let talk: Talk | null = null;
      try {
        talk = await Talk.hello({ host: '127.0.0.1', port: ports[index % ports.length] as number });
        while (this.#running) {
          const to = `u${++this.#number}@${this.#domain}`;
          const reply = await talk.send({ to });
          if (reply.startsWith('250')) {
            this.#add(to);
            if (this.#paceMs > 0) await sleep(this.#paceMs);
          } else {
            this.refused.push(reply);
            if (reply === '' || reply.startsWith('421')) break;
            await sleep(PAUSE_MS);
          }
        }
      } catch (error) {
        this.refused.push((error as Error).message);
        await sleep(PAUSE_MS);
      }
      talk?.destroy();
    }
  }

  #add(recipient: string): void {
    this.acknowledged.push(recipient);
    this.#waiters = this.#waiters.filter(({ count, resolve }) => {
      if (this.acknowledged.length < count) return true;
      resolve();
      return false;
    });
  }
}
