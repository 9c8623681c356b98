/** The main thread's side of the session threads: passes their messages on and the verdicts back. */
import type { AuthAnswer } from '../auth/auth.ts';
import { WorkerThreads } from '../base/worker-threads.ts';
import type { Message } from '../mail/message.ts';
import { readMessages } from '../mail/message-wire.ts';
import type { FromSession, LoginBatch, SessionThreadStart, ToSession } from './messages.ts';

export interface SessionThreadsPorts {
  /** Complete messages of one loop turn of one thread. */
  messages(thread: number, messages: Message[], tickets: number[]): void;
  closedPeers(peers: string[]): void;
  /** Logins of one loop turn of one thread. */
  logins(thread: number, batch: LoginBatch): void;
  /** Shards of these users, in order. */
  users(users: string[]): Promise<(number | null)[]>;
  /** Whether the target is on the suppression list. */
  suppressed(target: string): Promise<boolean>;
  /** The first octets of what came to a return path; `verdict` answers the ticket. */
  report(thread: number, report: Omit<Extract<FromSession, { type: 'report' }>, 'type'>): void;
  /** A thread died. That is our own fault; the process must not go on. */
  failed(error: Error): void;
}

export class SessionThreads {
  readonly #ports: SessionThreadsPorts;
  /** Gathers numbers in pairs: ticket, verdict. */
  readonly #threads: WorkerThreads<number, ToSession, FromSession>;
  readonly reactorIds: number[] = [];

  constructor(ports: SessionThreadsPorts) {
    this.#ports = ports;
    this.#threads = new WorkerThreads({
      name: 'session',
      entry: new URL('./thread.ts', import.meta.url),
      batch: (pairs) => ({ type: 'verdicts', pairs }),
      message: (thread, message) => this.#message(thread, message),
      failed: (error) => ports.failed(error),
    });
  }

  /** Resolves when every thread has its reactor. */
  start(starts: SessionThreadStart[]): Promise<void> {
    return this.#threads.start(starts);
  }

  #message(thread: number, message: FromSession): void {
    switch (message.type) {
      case 'turn': {
        const { closedPeers, messages, tickets } = message;
        if (closedPeers.length > 0) this.#ports.closedPeers(closedPeers);
        if (tickets.length > 0) this.#ports.messages(thread, readMessages(messages, tickets.length), tickets);
        break;
      }
      case 'users': {
        const { users } = message;
        const answer = (shards: (number | null)[] | null): void =>
          this.#threads.post(thread, { type: 'shards', users, shards });
        this.#ports.users(users).then(answer, () => answer(null));
        break;
      }
      case 'suppressed': {
        const { id, target } = message;
        const answer = (isSuppressed: boolean): void =>
          this.#threads.post(thread, { type: 'suppressed', id, isSuppressed });
        this.#ports.suppressed(target).then(answer, () => answer(false));
        break;
      }
      case 'report': {
        const { ticket, local, head } = message;
        this.#ports.report(thread, { ticket, local, head });
        break;
      }
      case 'logins':
        this.#ports.logins(thread, message);
        break;
      case 'ready':
        this.reactorIds[thread] = message.reactorId;
    }
  }

  /** Answers the session that waits with this ticket; sent with all others of this turn. */
  verdict(thread: number, ticket: number, verdict: number): void {
    if (ticket >= 0) this.#threads.gather(thread)?.push(ticket, verdict);
  }

  /** Answers the session whose login was checked. */
  loginAnswered(thread: number, answer: AuthAnswer): void {
    this.#threads.post(thread, { type: 'login', answer });
  }

  postAll(message: ToSession): void {
    this.#threads.postAll(message);
  }

  /** Resolves when every session has ended its open transaction; sessions then answer 421. */
  async drain(): Promise<void> {
    await this.#threads.drain({ type: 'drain' });
  }

  stop(): Promise<void> {
    return this.#threads.stop();
  }
}
