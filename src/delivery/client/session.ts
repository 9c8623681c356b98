/**
 * One outgoing connection as an SMTP client: holds the state, reads replies, and hands each to the file of its phase
 * (hello, envelope, content). Promises that every recipient it took gets an outcome or is given back, and that it waits
 * for nothing without a deadline.
 */
import { getSystemErrorName } from 'node:util';
import type { Outcome, PeerReply } from '../../mail/outcome.ts';
import { type Peer, peerText } from '../../mail/peer.ts';
import type { TlsUse } from '../../mail/tls-use.ts';
import type { Verdict } from '../../mail/verdict.ts';
import { CLOSE_REASON } from '../../native.ts';
import { type PeerReplyText, plainCode, ReplyParser } from '../../protocol/reply-parser.ts';
import type { ChannelBinding } from '../../protocol/sasl/scram.ts';
import type { TlsFacts } from '../../protocol/tls-facts.ts';
import type { Attempt } from '../attempt.ts';
import { type Asked, peerReply, refusalOf, replyLine, shownLine } from '../outcome.ts';
import type { Host } from '../route.ts';
import type { HostMode } from '../security/host-mode.ts';
import { abandon, giveBack } from './abandon.ts';
import { authReply } from './auth.ts';
import { isCareful, isOurs } from './blame.ts';
import { asBorrowed } from './borrowed.ts';
import { type Capabilities, HELO_CAPABILITIES } from './capabilities.ts';
import { contentReply } from './content.ts';
import { begin, envelopeReply, repliesAwaited } from './envelope.ts';
import { greetingReply, helloReply } from './hello.ts';
import { heed } from './moves.ts';
import type { ClientPort, SessionOwner } from './owner.ts';
import { Secrets } from './secrets.ts';
import {
  CLOSED,
  type ClientState,
  CONNECTING,
  type Fault,
  GREETING,
  IDLE,
  lackOf,
  QUITTING,
} from './state.ts';
import { lostSecured, notSecured, notStarted, opensSecured, secure, secured, startTlsReply } from './tls.ts';
import { ClientTranscript, type DialogReader } from './transcript.ts';
import { hungUp, type UsedUp } from './used-up.ts';

/** How long to wait for the reply to QUIT. */
const QUIT_TIMEOUT_MS = 5000;
/** A connection that took messages, and then deferred so many in a row, may be why. */
const MAX_IN_VAIN = 3;

export class ClientSession {
  readonly id: number;
  /** As the route of the present owner has it. */
  host: Host;
  readonly port: ClientPort;
  owner: SessionOwner;
  /** null for most: the log has transcripts of no session. */
  readonly transcript: ClientTranscript | null;
  readonly hop: Peer;
  /** The same for people: 'mx1.example.net [192.0.2.1]'. */
  readonly peer: string;
  readonly startedAtMs: number;
  /** How long it took until the session was ready for work. */
  connectMs = 0;
  state: ClientState = CONNECTING;
  offered: Capabilities = HELO_CAPABILITIES;
  /** null when the connection is in the clear. */
  tls: TlsUse | null = null;
  /** What was asked of the last TLS handshake; null: there was none. */
  securedAs: HostMode | null = null;
  /** Number of transactions begun, for the limit of messages per connection. */
  transactions = 0;
  /** Whether TLS keeps anybody between the peer and us from reading along. */
  secure = false;
  /** Whether it is in the clear because TLS failed, now or lately. */
  fellBack: boolean;
  /** The channel bindings of the TLS connection, for SCRAM; [] without TLS. */
  channelBindings: readonly ChannelBinding[] = [];
  /** Secrets of the next hop's user; hidden where the peer quotes them. */
  readonly secrets = new Secrets();
  /** Whether AUTH succeeded. */
  authenticated = false;
  /** A MAIL was accepted, but its transaction did not complete: RSET must precede the next one. */
  needsReset = false;
  /** A MAIL was accepted, so the peer does serve us. */
  proven = false;
  /** Number of messages accepted, and when the last one was. */
  accepted = 0;
  acceptedAtMs = 0;
  /** The peer takes no more messages on this connection; null: it does, as far as we know. */
  usedUp: UsedUp | null = null;
  /** It became ready for mail. */
  served = false;
  /** The peer writes lines that belong to no reply. So nothing is sent behind a content: its 250 could not be told apart. */
  wordy = false;
  /** The loop turn in which the command was written that the next reply answers: a line in the same turn cannot answer it. */
  wroteTurn = -1;
  /** The loop turn in which a reply last renewed the deadline. */
  renewedTurn = -1;
  /** No new transaction may begin: the config changed, or the relay drains. */
  retiring = false;
  /** The connection is still in the reactor, so a closed event will come. */
  connected = true;
  /** An attempt that was taken from the destination, and is not yet part of `state`. */
  inHand: Attempt | null = null;
  /** It works for another domain than it was opened for, and has taken no mail of that one yet. */
  borrowed = false;
  /** Transactions in a row that met a deferral, and the number of the last one. */
  #inVain = 0;
  #lastInVain = 0;
  #parser = new ReplyParser();
  /** The state that `fail` is ending. */
  #failing: ClientState | null = null;

  constructor(
    id: number,
    host: Host,
    port: ClientPort,
    owner: SessionOwner,
    reader: DialogReader | null = null,
  ) {
    this.id = id;
    this.host = host;
    this.owner = owner;
    this.transcript = reader === null ? null : new ClientTranscript(this, reader);
    this.port = this.transcript?.on(port) ?? port;
    this.hop = { host: host.name, address: host.address, port: host.port, source: '' };
    this.peer = peerText(this.hop);
    this.startedAtMs = owner.now();
    this.fellBack = host.plain === true;
    if (host.auth?.password !== undefined) this.secrets.add(host.auth.password);
    if (host.auth?.access_token !== undefined) this.secrets.add(host.auth.access_token);
  }

  /** @param source our address of the connection. */
  opened(source: string): void {
    this.hop.source = source;
    if (opensSecured(this)) {
      secure(this);
      return;
    }
    this.state = GREETING;
    this.port.expectLines(this.id);
    this.port.deadline(this.id, this.owner.rules.command_timeout_ms);
  }

  /**
   * Takes one line of a reply, in `text` from `offset`. Most lines are positive one-line replies to MAIL and RCPT, and
   * the 354 to DATA: these are known by their three digits, and no string is made of them.
   */
  line(text: Buffer, offset: number, length: number, flags: number): void {
    const state = this.state;
    this.transcript?.received(text.toString('utf8', offset, offset + length));
    if (this.wroteTurn === this.owner.turn && this.#early(text, offset, length)) return;
    if (state.phase === 'envelope' && flags === 0 && !this.#parser.partial) {
      const code = plainCode(text, offset, length);
      if (code === 250 || code === 354) {
        envelopeReply(this, state.transaction, code, null);
        return;
      }
    }
    // During a handshake nothing counts that comes in the clear: anybody may have sent it before.
    if (state.phase === 'closed' || state.phase === 'securing') return;
    const reply = this.#parser.push(text.toString('utf8', offset, offset + length));
    if (reply === null) return;
    // If one reply is awaited, a line that is no reply is skipped. If more are, nobody knows in place of which it came.
    if (reply === 'stray' && repliesAwaited(this, state) === 1) {
      this.wordy = true;
      return;
    }
    if (reply === 'stray' || reply === 'malformed') {
      const shown = shownLine(text.toString('utf8', offset, offset + length), this.secrets);
      const detail = `${this.peer} sent a malformed reply: ${shown}`;
      this.fail({ reason: 'connection_lost', reply: null, detail, confused: true });
      return;
    }
    this.#reply(state, reply);
  }

  /**
   * Whether the line came before the peer can have read the command: then no later reply could be told apart, and the
   * session ends.
   */
  #early(text: Buffer, offset: number, length: number): boolean {
    const { phase } = this.state;
    if (phase === 'content' || phase === 'quitting' || phase === 'closed' || phase === 'securing')
      return false;
    const shown = shownLine(text.toString('utf8', offset, offset + length), this.secrets);
    const detail = `${this.peer} replied out of turn, before it was asked: ${shown}`;
    this.fail({ reason: 'connection_lost', reply: null, detail, confused: true });
    return true;
  }

  /**
   * What a 4xx or 5xx reply means. If a lack of TLS after a failure may have caused it, the next connection tries TLS
   * again.
   */
  judge(reply: PeerReply, asked: Asked): Outcome {
    const outcome = refusalOf(reply, asked, this);
    if (outcome.kind === 'deferred' && outcome.verdict !== undefined) {
      heed(this, outcome.verdict);
      if (outcome.verdict.move === 'retry_later') this.#isInVain();
    }
    if (this.fellBack && outcome.kind === 'deferred' && outcome.reason === 'tls_failed') {
      this.owner.tls.broken.delete(this.host);
      this.retiring = true;
    }
    return outcome;
  }

  #isInVain(): void {
    if (this.#lastInVain === this.transactions) return;
    this.#lastInVain = this.transactions;
    if (++this.#inVain >= MAX_IN_VAIN && this.delivers) this.retiring = true;
  }

  classify(reply: PeerReply): Verdict {
    const verdict = this.owner.classify(reply);
    return this.borrowed ? asBorrowed(this, verdict) : verdict;
  }

  /** Whether a message was accepted. */
  get delivers(): boolean {
    return this.accepted > 0;
  }

  /** Notes that the host accepted a message. */
  took(): void {
    this.borrowed = false;
    this.#inVain = 0;
    this.acceptedAtMs = this.owner.now();
    if (this.accepted++ === 0) this.owner.works(this);
  }

  /**
   * MAIL was accepted and no content followed: RSET must precede the next one. Where the peer cannot do that, the
   * session ends.
   */
  leaveOpen(): void {
    if (isCareful(this)) this.retiring = true;
    else this.needsReset = true;
  }

  #reply(state: ClientState, text: PeerReplyText): void {
    if (state.phase === 'quitting') {
      this.#close(false);
      return;
    }
    const reply = peerReply(text, this.hop, this.secrets);
    if (text.code === 421 && state.phase !== 'auth') {
      const [verdict, detail] = [this.classify(reply), replyLine(reply)];
      heed(this, verdict);
      this.fail({ reason: 'peer_4xx', reply, detail, verdict });
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
        // Nobody asked for this reply: the next replies on this connection could not be told apart.
        this.outOfTurn(reply, 'without a command');
    }
  }

  /** The TLS handshake succeeded. */
  secured(facts: TlsFacts): void {
    secured(this, facts);
  }

  /** The handshake failed. */
  notSecured(reason: string): void {
    if (this.state.phase === 'securing') notSecured(this, reason);
  }

  /** Drops the part of a reply that was read before TLS. */
  forgetInput(): void {
    this.#parser = new ReplyParser();
  }

  /** All content is with the kernel: now the time for the final reply begins. */
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
      const detail = `${this.peer}: ${lackOf(this.state)}${strays}`;
      this.fail({ reason: 'timeout', reply: null, detail });
    }
  }

  /** The connection is gone (a CLOSE_REASON and an errno of the reactor). */
  /** @param byProxy the proxy on the way is to blame. */
  closed(reason: number, errno: number, byProxy = false): void {
    this.connected = false;
    if (this.state.phase === 'closed') return;
    const error = errno === 0 ? '' : ` (${errorName(errno)})`;
    if (this.state.phase === 'securing') {
      notSecured(this, `the connection was closed${error}`);
    } else if (reason === CLOSE_REASON.connectFailed && this.state.phase === 'connecting') {
      const to = byProxy ? `the proxy on the way to ${this.peer}` : `${this.peer} port ${this.host.port}`;
      const detail = `cannot connect to ${to}${error}`;
      const ours = byProxy || isOurs(errorName(errno), this.host.address);
      this.fail({
        reason: ours ? 'local_trouble' : 'connect_failed',
        reply: null,
        detail,
      });
    } else if (this.state.phase === 'idle' || this.state.phase === 'quitting') {
      if (this.state.phase === 'idle') hungUp(this, null);
      this.#end(null);
    } else {
      this.fail({
        reason: 'connection_lost',
        reply: null,
        detail: `${this.peer} closed the connection${error}`,
      });
    }
  }

  /** Greeting, EHLO, TLS and AUTH are done. */
  established(): void {
    this.connectMs = this.owner.now() - this.startedAtMs;
    this.served = true;
    this.owner.established(this);
  }

  /** Without work, it goes over to another domain of its site, whose policies it meets (security/shared-session.ts). */
  moveTo(owner: SessionOwner, host: Host): void {
    this.borrowed = true;
    this.owner = owner;
    this.host = host;
  }

  /** Looks for work and begins it. */
  work(): void {
    this.owner.guard(this, 'work', begin);
  }

  idle(): void {
    this.state = IDLE;
    const { idleMs } = this.owner;
    if (idleMs === 0 || this.full) {
      this.quit();
      return;
    }
    this.port.deadline(this.id, idleMs);
    this.owner.idle(this);
  }

  /** Whether no further transaction may begin here. */
  get full(): boolean {
    return this.retiring || this.transactions >= this.owner.messageLimit;
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
    this.fail({ reason: 'connection_lost', reply, detail, confused: true });
  }

  /** Ends the connection now. Mail on its way is deferred, or given back when the peer cannot have seen it. */
  fail(fault: Fault): void {
    const state = this.state;
    fault.peer = this.hop;
    this.#failing = state;
    this.transcript?.failed(fault);
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
        abandon(this, state.transaction, fault, 'envelope');
        break;
      case 'content': {
        const { transaction, next, sent } = state;
        if (next !== null && next.attempt !== transaction.attempt) giveBack(this, next, fault);
        else if (next !== null) next.attempt.cursor = next.from;
        // After half a content, or a refusal, the peer has not taken the message. After silence it may have (I6).
        const taken = sent && fault.reason !== 'peer_4xx';
        abandon(this, transaction, fault, taken ? 'unknown' : 'content');
        break;
      }
    }
    if (state.phase === 'idle') hungUp(this, fault);
    this.owner.ended(this, state.phase === 'idle' ? null : fault);
  }

  /**
   * A program error came up in this dialog: closes the connection, and ends the attempts on it. Recipients whose
   * outcome was decided keep it (I3); the others get `outcome`.
   * @param done ends an attempt; it never throws. @returns whether there was an attempt.
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

  #end(fault: Fault | null): void {
    const quitting = this.state.phase === 'quitting';
    this.state = CLOSED;
    this.transcript?.closed();
    if (!quitting) this.owner.ended(this, fault);
  }

  #close(atOnce: boolean): void {
    this.state = CLOSED;
    this.transcript?.closed();
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
