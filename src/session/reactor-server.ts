/**
 * The reactor as SMTP server: one loop over the events of a turn, each given to the session of its connection slot;
 * then one post to the main thread. Knows events and slots, nothing of the dialog.
 */
import type { AuthAnswer } from '../auth/auth.ts';
import { CLOSE_REASON, EVENT, LINE_FLAG, NO_CONTENT, type Reactor } from '../native.ts';
import { readTlsFacts } from '../protocol/tls-facts.ts';
import { loginAnswered } from './auth.ts';
import type { SessionContext } from './context.ts';
import { Session } from './session.ts';
import { notSecured, secured } from './starttls.ts';

/** Words in the text of `opened`: "listener remoteIp remotePort localIp localPort". */
const LISTENER = 0;
const REMOTE_IP = 1;
const REMOTE_PORT = 2;

/** For the log of faults. */
const EVENT_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(EVENT).map(([name, number]) => [number, name]),
);

/** Buffer's own decoders without the look-up of an encoding's name; @types/node does not list them. */
interface LineText {
  latin1Slice(start: number, end: number): string;
  utf8Slice(start: number, end: number): string;
}

export class ReactorServer {
  readonly #context: SessionContext;
  readonly #reactor: Reactor;
  readonly #lines: LineText;
  /** By connection id. Ids are numbers below 2^31, not slots: an array over them would grow with every connection. */
  readonly #sessions = new Map<number, Session>();
  /** Peers of connections for which no session could be made, by connection id, until they are closed. */
  readonly #orphans = new Map<number, string>();
  #drained: (() => void) | null = null;

  constructor(context: SessionContext, reactor: Reactor) {
    this.#context = context;
    this.#reactor = reactor;
    this.#lines = reactor.text as unknown as LineText;
  }

  /** Sessions open now. */
  get open(): number {
    return this.#sessions.size;
  }

  /** Handles the events of one loop turn. An error in a dialog ends that dialog; only BrokenInvariant is thrown. */
  onTurn(count: number): void {
    this.#context.readClock();
    const { events } = this.#reactor;
    for (let at = 0, end = count * 4; at < end; at += 4) {
      const word = events[at] as number;
      const connection = events[at + 1] as number;
      const a = events[at + 2] as number;
      const b = events[at + 3] as number;
      if ((word & 0xff) === EVENT.opened) this.#opened(connection, a, b);
      else {
        const session = this.#sessions.get(connection);
        if (session) {
          // The session owns the content now; one that stays in its event the reactor releases after the turn.
          if ((word & 0xff) === EVENT.content) events[at + 2] = NO_CONTENT;
          try {
            this.#event(session, word, a, b);
          } catch (error) {
            this.#context.barrier.ends(session, EVENT_NAMES[word & 0xff] ?? 'event', error);
          }
        } else if ((word & 0xff) === EVENT.closed) this.#orphanClosed(connection);
      }
    }
    this.#endTurn();
  }

  #event(session: Session, word: number, a: number, b: number): void {
    const flags = (word >>> 8) & 0xff;
    switch (word & 0xff) {
      case EVENT.line:
        session.lines.take(this.#text(a, b, flags), flags);
        break;
      case EVENT.content:
        session.content(a, flags, b);
        break;
      case EVENT.chunk:
        session.chunk(flags, b);
        break;
      case EVENT.proxy:
        session.proxied(flags === 0 ? this.#text(a, b, 0) : '');
        break;
      case EVENT.timeout:
        session.timeout(a === 1, b);
        break;
      case EVENT.secured:
        secured(session, readTlsFacts(this.#text(a, b, 0)));
        break;
      case EVENT.notSecured:
        notSecured(session, this.#text(a, b, 0));
        break;
      case EVENT.closed:
        this.#closed(session, a, b);
        break;
    }
  }

  #text(offset: number, length: number, flags: number): string {
    return (flags & LINE_FLAG.eightBit) === 0
      ? this.#lines.latin1Slice(offset, offset + length)
      : this.#lines.utf8Slice(offset, offset + length);
  }

  #opened(connection: number, offset: number, length: number): void {
    const words = this.#text(offset, length, 0).split(' ');
    const facts = {
      address: words[REMOTE_IP] ?? '',
      port: Number(words[REMOTE_PORT]),
      listener: Number(words[LISTENER]),
    };
    const { barrier } = this.#context;
    let session: Session;
    try {
      session = new Session(this.#context, connection, facts);
    } catch (error) {
      this.#orphans.set(connection, facts.address);
      this.#reactor.close(connection, true);
      barrier.report('', facts.address, 'opened', error);
      return;
    }
    this.#sessions.set(connection, session);
    barrier.guard(session, 'opened', () => session.open());
  }

  #orphanClosed(connection: number): void {
    const peer = this.#orphans.get(connection);
    if (peer !== undefined) this.#context.submissions.closedPeer(peer);
    this.#orphans.delete(connection);
  }

  #closed(session: Session, reason: number, errno: number): void {
    this.#sessions.delete(session.connection);
    this.#context.submissions.closedPeer(session.peer);
    session.closed();
    if (reason === CLOSE_REASON.error)
      this.#context.log.debug('session.connection_failed', { session_id: session.id, errno });
  }

  #endTurn(): void {
    this.#context.submissions.flush();
    this.#context.logins.flush();
    if (this.#drained !== null && this.#sessions.size === 0) {
      const drained = this.#drained;
      this.#drained = null;
      drained();
    }
  }

  /** Answers the sessions that wait. @param pairs ticket, verdict, ticket, verdict … */
  verdicts(pairs: readonly number[]): void {
    this.#context.readClock();
    for (let i = 0; i + 1 < pairs.length; i += 2) {
      const session = this.#context.submissions.claim(pairs[i] as number);
      if (session === undefined) continue;
      try {
        session.verdict(pairs[i + 1] as number);
      } catch (error) {
        this.#context.barrier.ends(session, 'verdict', error);
      }
    }
    this.#reactor.flush();
  }

  /** Answers the session whose login was checked. */
  login(answer: AuthAnswer): void {
    this.#context.readClock();
    const session = this.#context.logins.claim(answer.id);
    if (session !== undefined)
      this.#context.barrier.guard(session, 'login', () => loginAnswered(session, answer));
    this.#reactor.flush();
    this.#endTurn();
  }

  /** Ends sessions without a transaction at once and the others after theirs; `drained` is called when none is left. */
  drain(drained: () => void): void {
    this.#context.readClock();
    this.#drained = drained;
    for (const session of this.#sessions.values())
      this.#context.barrier.guard(session, 'drain', () => session.drain());
    this.#reactor.flush();
    this.#endTurn();
  }
}
