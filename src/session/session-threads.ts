/**
 * The main thread's side of the session threads: starts them, passes their messages on, gathers verdicts and
 * sends them in one postMessage per thread and loop turn.
 */
import { Worker } from 'node:worker_threads';
import type { Message } from '../mail/message.ts';
import { readMessages } from '../mail/message-wire.ts';
import type { FromSession, SessionThreadStart, ToSession } from './messages.ts';

export interface SessionThreadsPorts {
  /** Complete messages of one loop turn of one thread. */
  messages(thread: number, messages: Message[], tickets: number[]): void;
  closedPeers(peers: string[]): void;
  /** Shards of these users, in order. */
  users(users: string[]): Promise<(number | null)[]>;
  /** A thread died: our own fault, the process must not go on. */
  failed(error: Error): void;
}

export class SessionThreads {
  readonly #ports: SessionThreadsPorts;
  readonly #workers: Worker[] = [];
  readonly #verdicts: number[][] = [];
  #flushing = false;
  #drained: (() => void)[] = [];
  #stopping = false;
  readonly reactorIds: number[] = [];

  constructor(ports: SessionThreadsPorts) {
    this.#ports = ports;
  }

  /** Resolves when every thread has its reactor. */
  async start(starts: SessionThreadStart[]): Promise<void> {
    await Promise.all(starts.map((start, thread) => this.#startOne(start, thread)));
  }

  #startOne(start: SessionThreadStart, thread: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./thread.ts', import.meta.url), {
        workerData: start,
        name: `session-${thread}`,
      });
      this.#workers[thread] = worker;
      this.#verdicts[thread] = [];
      worker.on('error', (error) => {
        reject(error);
        this.#ports.failed(error as Error);
      });
      worker.on('exit', (code) => {
        if (!this.#stopping)
          this.#ports.failed(new Error(`session thread ${thread} ended with code ${code}`));
      });
      worker.on('message', (message: FromSession) => {
        switch (message.type) {
          case 'turn':
            if (message.closedPeers.length > 0) this.#ports.closedPeers(message.closedPeers);
            if (message.tickets.length > 0)
              this.#ports.messages(
                thread,
                readMessages(message.messages, message.tickets.length),
                message.tickets,
              );
            break;
          case 'users':
            this.#ports.users(message.users).then(
              (shards) => this.#post(thread, { type: 'shards', users: message.users, shards }),
              () => this.#post(thread, { type: 'shards', users: message.users, shards: null }),
            );
            break;
          case 'ready':
            this.reactorIds[thread] = message.reactorId;
            resolve();
            break;
          case 'drained':
            this.#drained.pop()?.();
            break;
        }
      });
    });
  }

  /** Answers the session that waits with this ticket; sent with all others of this turn. */
  verdict(thread: number, ticket: number, verdict: number): void {
    if (ticket < 0) return;
    this.#verdicts[thread]?.push(ticket, verdict);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    for (let thread = 0; thread < this.#workers.length; thread++) {
      const pairs = this.#verdicts[thread] as number[];
      if (pairs.length === 0) continue;
      this.#verdicts[thread] = [];
      this.#post(thread, { type: 'verdicts', pairs });
    }
  }

  #post(thread: number, message: ToSession): void {
    this.#workers[thread]?.postMessage(message);
  }

  postAll(message: ToSession): void {
    for (let thread = 0; thread < this.#workers.length; thread++) this.#post(thread, message);
  }

  /** Resolves when every session has ended its open transaction; sessions then answer 421. */
  drain(): Promise<void> {
    if (this.#workers.length === 0) return Promise.resolve();
    const all = Promise.all(this.#workers.map(() => new Promise<void>((done) => this.#drained.push(done))));
    this.postAll({ type: 'drain' });
    return all.then(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const done of this.#drained.splice(0)) done();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
