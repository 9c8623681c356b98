/**
 * One outgoing connection as an SMTP client: holds the state, reads replies, and hands each to the file of its
 * phase (hello, envelope, content). Promises that every recipient it took meets an outcome or is given back, and
 * that nothing is waited for without a deadline.
 */
import { getSystemErrorName } from 'node:util';
import type { Outcome, PeerReply } from '../../mail/outcome.ts';
import type { TlsUse } from '../../mail/tls-use.ts';
import { CLOSE_REASON } from '../../native.ts';
import { type PeerReplyText, plainCode, ReplyParser } from '../../protocol/reply-parser.ts';
import type { ChannelBinding } from '../../protocol/sasl/scram.ts';
import type { TlsFacts } from '../../protocol/tls-facts.ts';
import type { Attempt } from '../attempt.ts';
import { type Asked, deferred, peerReply, refusalOf, replyLine, shownLine } from '../outcome.ts';
import type { Host } from '../route.ts';
import { authReply } from './auth.ts';
import { isCareful, isOfConnection, isOurs } from './blame.ts';
import { type Capabilities, HELO_CAPABILITIES } from './capabilities.ts';
import { contentReply } from './content.ts';
import { applyRefusals, begin, envelopeReply, repliesOf } from './envelope.ts';
import { greetingReply, helloReply } from './hello.ts';
import type { ClientPort, SessionOwner } from './owner.ts';
import { Secrets } from './secrets.ts';
import {
  CLOSED,
  type ClientState,
  CONNECTING,
  type Fault,
  GREETING,
  IDLE,
  QUITTING,
  type Transaction,
} from './state.ts';
import {
  brokeOff,
  lostSecured,
  notSecured,
  notStarted,
  opensSecured,
  secure,
  secured,
  startTlsReply,
} from './tls.ts';

/** An attempt that was put back so often is deferred instead. */
const MAX_RETURNS = 4;
/** Faults of a host, after which another one may be asked. */
const BY_HOST: ReadonlySet<string> = new Set(['peer-4xx', 'connection-lost', 'timeout']);
/** How long the reply to QUIT is waited for. */
const QUIT_TIMEOUT_MS = 5000;

export class ClientSession {
  readonly id: number;
  readonly host: Host;
  readonly port: ClientPort;
  readonly owner: SessionOwner;
  /** 'mx1.example.net [192.0.2.1]' */
  readonly peer: string;
  readonly startedAtMs: number;
  /** Time until the session was ready for work. */
  connectMs = 0;
  state: ClientState = CONNECTING;
  offered: Capabilities = HELO_CAPABILITIES;
  /** null: in the clear. */
  tls: TlsUse | null = null;
  /** Transactions begun, for the limit of messages per connection. */
  transactions = 0;
  /** Nobody between the peer and us can read along. */
  secure = false;
  /** In the clear because TLS failed, or failed lately. */
  fellBack: boolean;
  /** What SCRAM can be bound to; [] where there is nothing. */
  channelBindings: readonly ChannelBinding[] = [];
  /** Of the next hop's user; what the peer quotes of them is not kept. */
  readonly secrets = new Secrets();
  /** AUTH succeeded. */
  authenticated = false;
  /** MAIL was accepted but the transaction did not complete: RSET before the next one. */
  needsReset = false;
  /** A MAIL was accepted: the peer does serve us. */
  proven = false;
  /** A message was accepted. */
  delivers = false;
  /** The peer writes lines that belong to no reply: nothing is sent behind a content, whose 250 could not be told apart. */
  wordy = false;
  /** The loop turn in which something was written whose reply is the next one: one in the same turn answers nothing. */
  wroteTurn = -1;
  /** The loop turn in which a reply last renewed the deadline. */
  renewedTurn = -1;
  /** No new transaction: the config changed, or we drain. */
  retiring = false;
  /** Still in the reactor: a closed event will come. */
  connected = true;
  /** Taken from the destination and not yet in a state. */
  inHand: Attempt | null = null;
  #parser = new ReplyParser();
  /** The state that `fail` ends. */
  #failing: ClientState | null = null;

  constructor(id: number, host: Host, port: ClientPort, owner: SessionOwner) {
    this.id = id;
    this.host = host;
    this.port = port;
    this.owner = owner;
    this.peer = host.name === host.address ? `[${host.address}]` : `${host.name} [${host.address}]`;
    this.startedAtMs = owner.now();
    this.fellBack = host.plain === true;
    if (host.auth?.password !== undefined) this.secrets.add(host.auth.password);
    if (host.auth?.access_token !== undefined) this.secrets.add(host.auth.access_token);
  }

  opened(): void {
    if (opensSecured(this)) {
      secure(this);
      return;
    }
    this.state = GREETING;
    this.port.expectLines(this.id);
    this.port.deadline(this.id, this.owner.rules.command_timeout_ms);
  }

  /**
   * One line of a reply, in `text` from `offset`. Positive one-line replies to MAIL and RCPT and the 354 to DATA
   * are the bulk of all lines and are known by their three digits: no string is made of them.
   */
  line(text: Buffer, offset: number, length: number, flags: number): void {
    const state = this.state;
    if (this.wroteTurn === this.owner.turn && this.#early(text, offset, length)) return;
    if (state.phase === 'envelope' && flags === 0 && !this.#parser.partial) {
      const code = plainCode(text, offset, length);
      if (code === 250 || code === 354) {
        envelopeReply(this, state.transaction, code, null);
        return;
      }
    }
    // In a handshake nothing is said in the clear: what comes was sent before it, by whomever.
    if (state.phase === 'closed' || state.phase === 'securing') return;
    const reply = this.#parser.push(text.toString('utf8', offset, offset + length));
    if (reply === null) return;
    // With one reply to come, what is none is passed over; with more, nobody knows which of them it was to be.
    if (reply === 'stray' && this.#awaited(state) === 1) {
      this.wordy = true;
      return;
    }
    if (reply === 'stray' || reply === 'malformed') {
      const shown = shownLine(text.toString('utf8', offset, offset + length), this.secrets);
      const detail = `${this.peer} sent a malformed reply: ${shown}`;
      this.fail({ reason: 'connection-lost', reply: null, detail, confused: true });
      return;
    }
    this.#reply(state, reply);
  }

  /** A line that came before the peer can have read what it would answer; what comes after it could not be told apart. */
  #early(text: Buffer, offset: number, length: number): boolean {
    const { phase } = this.state;
    if (phase === 'content' || phase === 'quitting' || phase === 'closed' || phase === 'securing')
      return false;
    const shown = shownLine(text.toString('utf8', offset, offset + length), this.secrets);
    const detail = `${this.peer} replied out of turn, before it was asked: ${shown}`;
    this.fail({ reason: 'connection-lost', reply: null, detail, confused: true });
    return true;
  }

  /** What a 4xx or 5xx reply means here. After one that may come of our own trouble with TLS, the next connection tries TLS. */
  judge(reply: PeerReply, asked: Asked): Outcome {
    const outcome = refusalOf(reply, asked, this);
    if (this.fellBack && outcome.kind === 'deferred' && outcome.reason === 'tls-failed') {
      this.owner.tls.broken.delete(this.host);
      this.retiring = true;
    }
    return outcome;
  }

  /** The first message was accepted. */
  worksNow(): void {
    this.delivers = true;
    this.owner.works(this);
  }

  /** MAIL was accepted and no content followed: RSET before the next one, or an end where the peer is not up to that. */
  leaveOpen(): void {
    if (isCareful(this)) this.retiring = true;
    else this.needsReset = true;
  }

  /** Replies to come. */
  #awaited(state: ClientState): number {
    switch (state.phase) {
      case 'idle':
        return 0;
      case 'envelope':
        return repliesOf(this, state.transaction);
      case 'content':
        return state.next === null ? 1 : 1 + repliesOf(this, state.next);
      default:
        return 1;
    }
  }

  #reply(state: ClientState, text: PeerReplyText): void {
    if (state.phase === 'quitting') {
      this.#close(false);
      return;
    }
    const reply = peerReply(text, this.peer, this.secrets);
    if (text.code === 421 && state.phase !== 'auth') {
      this.fail({ reason: 'peer-4xx', reply, detail: replyLine(reply) });
      return;
    }
    switch (state.phase) {
      case 'greeting':
        greetingReply(this, reply);
        break;
      case 'hello':
        helloReply(this, state.verb, reply, text.lines);
        break;
      case 'starttls':
        startTlsReply(this, reply);
        break;
      case 'auth':
        authReply(this, state, reply, text.lines[0] as string);
        break;
      case 'envelope':
        envelopeReply(this, state.transaction, text.code, reply);
        break;
      case 'content':
        contentReply(this, state, reply);
        break;
      default:
        // A reply nobody asked for: what comes next on this connection could not be told apart.
        this.outOfTurn(reply, 'without a command');
    }
  }

  /** TLS stands. */
  secured(facts: TlsFacts): void {
    secured(this, facts);
  }

  /** The handshake failed. */
  notSecured(reason: string): void {
    if (this.state.phase === 'securing') notSecured(this, reason);
  }

  /** Part of a reply that was read before TLS counts for nothing after it. */
  forgetInput(): void {
    this.#parser = new ReplyParser();
  }

  /** All of the content is with the kernel: the final reply may take its own time. */
  sent(): void {
    if (this.state.phase !== 'content') return;
    this.state.sent = true;
    this.port.deadline(this.id, this.owner.rules.final_reply_timeout_ms);
  }

  timedOut(): void {
    const { phase } = this.state;
    if (phase === 'closed') return;
    if (phase === 'idle') this.quit();
    else if (phase === 'quitting') this.#close(true);
    else if (phase === 'securing') notSecured(this, 'no handshake in time');
    else {
      const strays = this.#parser.strays > 0 ? ', only lines that are malformed' : '';
      const detail = `${this.peer}: ${this.#waitedFor()}${strays}`;
      this.fail({ reason: 'timeout', reply: null, detail });
    }
  }

  #waitedFor(): string {
    const { state } = this;
    switch (state.phase) {
      case 'connecting':
        return 'no connection in time';
      case 'greeting':
        return 'no greeting in time';
      case 'hello':
        return `no reply to ${state.verb} in time`;
      case 'starttls':
        return 'no reply to STARTTLS in time';
      case 'auth':
        return 'no reply to AUTH in time';
      case 'envelope':
        return `no reply to ${state.transaction.awaits.toUpperCase()} in time`;
      case 'content':
        return state.sent ? 'no reply to the end of data in time' : 'content was not taken in time';
      default:
        return 'no reply in time';
    }
  }

  /** The connection is gone (a CLOSE_REASON and an errno of the reactor). */
  closed(reason: number, errno: number): void {
    this.connected = false;
    if (this.state.phase === 'closed') return;
    const error = errno === 0 ? '' : ` (${errorName(errno)})`;
    if (this.state.phase === 'securing') {
      notSecured(this, `the connection was closed${error}`);
    } else if (reason === CLOSE_REASON.connectFailed && this.state.phase === 'connecting') {
      const detail = `cannot connect to ${this.peer} port ${this.host.port}${error}`;
      this.fail({
        reason: isOurs(errorName(errno), this.host.address) ? 'local-trouble' : 'connect-failed',
        reply: null,
        detail,
      });
    } else if (this.state.phase === 'idle' || this.state.phase === 'quitting') {
      this.#end(null);
    } else {
      this.fail({
        reason: 'connection-lost',
        reply: null,
        detail: `${this.peer} closed the connection${error}`,
      });
    }
  }

  /** Greeting, EHLO and what belongs to them are done. */
  established(): void {
    this.connectMs = this.owner.now() - this.startedAtMs;
    this.owner.established(this);
  }

  /** Work was found while idle, or it is looked for. */
  work(): void {
    this.owner.guard(this, 'work', begin);
  }

  idle(): void {
    this.state = IDLE;
    const { idle_connection_ms } = this.owner.rules;
    if (idle_connection_ms === 0 || this.full) {
      this.quit();
      return;
    }
    this.port.deadline(this.id, idle_connection_ms);
    this.owner.idle(this);
  }

  /** No further transaction may begin here. */
  get full(): boolean {
    return this.retiring || this.transactions >= this.owner.rules.max_messages_per_connection;
  }

  /** Ends an idle session politely. */
  quit(): void {
    this.owner.guard(this, 'quit', sayQuit);
  }

  /** Ends a session that was not yet established, without telling its owner. */
  abort(): void {
    this.#close(true);
  }

  outOfTurn(reply: PeerReply, at: string): void {
    const detail = `${this.peer} replied out of turn ${at}: ${replyLine(reply)}`;
    this.fail({ reason: 'connection-lost', reply, detail, confused: true });
  }

  /** Ends the connection now; what was on its way is deferred, or given back when the peer cannot have seen it. */
  fail(fault: Fault): void {
    const state = this.state;
    this.#failing = state;
    this.#close(true);
    switch (state.phase) {
      case 'hello':
        lostSecured(this, fault);
        this.owner.notEstablished(this, fault);
        return;
      case 'starttls':
        notStarted(this, fault);
        this.owner.notEstablished(this, fault);
        return;
      case 'connecting':
      case 'greeting':
      case 'securing':
      case 'auth':
        this.owner.notEstablished(this, fault);
        return;
      case 'envelope':
        this.#abandon(state.transaction, fault, 'envelope');
        break;
      case 'content': {
        const { transaction, next, sent } = state;
        if (next !== null && next.attempt !== transaction.attempt) this.#giveBack(next, fault);
        else if (next !== null) next.attempt.cursor = next.from;
        // Half a content, or a refusal: the peer has no message of ours. After silence it may (I6).
        const taken = sent && fault.reason !== 'peer-4xx';
        this.#abandon(transaction, fault, taken ? 'unknown' : 'content');
        break;
      }
    }
    this.owner.ended(this, state.phase === 'idle' ? null : fault);
  }

  /**
   * An error of ours came up in this dialog: the connection closes, and the attempts on it end with what is known of
   * them. What was decided stays so (I3); the rest waits.
   * @param done ends an attempt; it never throws. @returns whether there was one.
   */
  breakOff(outcome: Outcome, done: (attempt: Attempt) => void): boolean {
    const { inHand } = this;
    const state = this.#failing ?? this.state;
    this.inHand = null;
    this.#close(true);
    const attempts = new Set<Attempt>(inHand === null ? [] : [inHand]);
    if (state.phase === 'envelope') attempts.add(state.transaction.attempt);
    else if (state.phase === 'content') {
      attempts.add(state.transaction.attempt);
      if (state.next !== null) attempts.add(state.next.attempt);
    }
    let any = false;
    for (const attempt of attempts) {
      if (attempt.ended || attempt.holder !== this) continue;
      any = true;
      attempt.decideRest(outcome);
      done(attempt);
    }
    return any;
  }

  /**
   * The transaction that was under way: its fate is the fault, unless that is the connection's alone.
   * @param at unknown: the peer may have taken the message; no other host is asked in the same attempt.
   */
  #abandon(transaction: Transaction, fault: Fault, at: 'envelope' | 'content' | 'unknown'): void {
    const { attempt } = transaction;
    if (at === 'envelope' && isOfConnection(this, transaction, fault)) {
      fault.ofConnection = true;
      this.#giveBack(transaction, fault);
      return;
    }
    brokeOff(this, fault, attempt.job.attempts);
    attempt.counted = true;
    applyRefusals(this, transaction);
    const outcome = deferred(fault.reason, fault.reply, fault.detail);
    const elsewhere = at !== 'unknown' && BY_HOST.has(fault.reason);
    const conclude = (positions: readonly number[]) =>
      elsewhere ? attempt.postpone(positions, outcome) : attempt.decide(positions, outcome);
    conclude(transaction.accepted);
    if (transaction.awaits !== 'data') {
      // Later than that the ones called too many wait in `todo` for another transaction.
      if (transaction.tooMany !== null) conclude(transaction.tooMany);
      const { from, count, rcptReplied } = transaction;
      conclude(attempt.todo.slice(from + rcptReplied, from + count));
    }
    this.#continueElsewhere(attempt, fault);
  }

  #giveBack(transaction: Transaction, fault: Fault): void {
    const { attempt, from, count, replies } = transaction;
    if (replies === 0) attempt.cursor = from;
    else attempt.again(attempt.todo.slice(from, from + count));
    this.#continueElsewhere(attempt, fault);
  }

  #continueElsewhere(attempt: Attempt, fault: Fault): void {
    if (!attempt.over && attempt.returns++ >= MAX_RETURNS) {
      attempt.counted = true;
      attempt.decideRest(deferred(fault.reason, fault.reply, fault.detail));
    }
    if (attempt.over) this.owner.finished(attempt, this);
    else this.owner.returned(attempt);
  }

  #end(fault: Fault | null): void {
    const quitting = this.state.phase === 'quitting';
    this.state = CLOSED;
    if (!quitting) this.owner.ended(this, fault);
  }

  #close(atOnce: boolean): void {
    this.state = CLOSED;
    if (this.connected) this.port.close(this.id, atOnce);
  }
}

function sayQuit(session: ClientSession): void {
  const { id, port, owner } = session;
  session.state = QUITTING;
  port.sendLatin1(id, 'QUIT\r\n');
  port.deadline(id, Math.min(QUIT_TIMEOUT_MS, owner.rules.command_timeout_ms));
  owner.ended(session, null);
}

function errorName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}
