/**
 * What a session thread tells the main thread: messages complete and connections closed, gathered over a loop turn
 * and posted as one message; and which session waits for which verdict.
 */
import type { Message } from '../mail/message.ts';
import { writeMessage } from '../mail/message-wire.ts';
import type { Wire } from '../mail/wire.ts';
import type { FromSession } from './messages.ts';
import type { Session } from './session.ts';

/** Ticket of a message whose verdict nobody awaits. */
const NO_TICKET = -1;

export class Submissions {
  readonly #post: (message: FromSession) => void;
  readonly #waiting = new Map<number, Session>();
  #messages: Wire = [];
  #tickets: number[] = [];
  #closedPeers: string[] = [];
  #users: string[] = [];
  #nextTicket = 0;

  constructor(post: (message: FromSession) => void) {
    this.#post = post;
  }

  /** Sends the message with the turn's batch. The session's reference on the content goes along. */
  add(message: Message): void {
    this.#write(message, NO_TICKET);
  }

  /** The same for a message whose verdict the session awaits. Returns the ticket, never used again. */
  addAwaited(message: Message, session: Session): number {
    const ticket = this.#nextTicket++;
    this.#write(message, ticket);
    this.#waiting.set(ticket, session);
    return ticket;
  }

  /** A ticket for a session that waits for something else than a message. */
  expect(session: Session): number {
    const ticket = this.#nextTicket++;
    this.#waiting.set(ticket, session);
    return ticket;
  }

  /** Writes the whole message or nothing of it: messages of other sessions lie before and after it. */
  #write(message: Message, ticket: number): void {
    const { length } = this.#messages;
    try {
      writeMessage(this.#messages, message);
    } catch (error) {
      this.#messages.length = length;
      throw error;
    }
    this.#tickets.push(ticket);
  }

  /** Asks which shard this user's mail goes to. */
  lookUp(user: string): void {
    this.#users.push(user);
  }

  closedPeer(address: string): void {
    this.#closedPeers.push(address);
  }

  /** The session that waits with this ticket, which is spent; undefined when it gave up. */
  claim(ticket: number): Session | undefined {
    const session = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    return session;
  }

  /** The session no longer waits (timeout, connection gone); a verdict that still comes is ignored. */
  forget(ticket: number): void {
    this.#waiting.delete(ticket);
  }

  /** Posts what the turn gathered, if anything. */
  flush(): void {
    if (this.#users.length > 0) {
      this.#post({ type: 'users', users: this.#users });
      this.#users = [];
    }
    if (this.#tickets.length === 0 && this.#closedPeers.length === 0) return;
    this.#post({
      type: 'turn',
      messages: this.#messages,
      tickets: this.#tickets,
      closedPeers: this.#closedPeers,
    });
    this.#messages = [];
    this.#tickets = [];
    this.#closedPeers = [];
  }
}
