/**
 * One SMTP dialog: takes lines, content, timeouts and verdicts, gives replies. Owns the state and what outlives a
 * transaction (name, counts of errors and transactions, deadline); the verbs decide, one file per group. It never
 * touches a socket, never waits, and holds no reference on content except between end of data and verdict.
 */
import type { User } from '../auth/auth.ts';
import type { ClientInfo } from '../mail/message.ts';
import { TLS_VERIFY } from '../native.ts';
import type { Refusal, SessionPolicy } from '../policy/session-policy.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import type { ChannelBinding } from '../protocol/sasl/scram.ts';
import type { Told } from '../protocol/xclient.ts';
import { arrive, arriveByProxy } from './arrival.ts';
import { chunkRead, commandTimeMs } from './chunk.ts';
import { CommandLines } from './command-lines.ts';
import { Completion } from './completion.ts';
import type { SessionContext } from './context.ts';
import { isEcho } from './failures.ts';
import { Holding } from './holding.ts';
import { logRefusal } from './refusal-log.ts';
import type { ListenerFacts } from './settings.ts';
import { abandonTls } from './starttls.ts';
import type { SessionState } from './state.ts';
import { CLOSED, isReadingLines, isTransaction, NEW, READY } from './state.ts';

/** What is known of a connection from its first moment. */
export interface ConnectionFacts {
  /** Peer address, or 'unix'. */
  address: string;
  /** 0: there is none, as with Unix sockets. */
  port: number;
  /** Number of the listener it came through. */
  listener: number;
}

const NO_LISTENER: ListenerFacts = {
  name: '',
  auth: 'off',
  submission: false,
  tls: 'off',
  verify: TLS_VERIFY.none,
};

export class Session {
  readonly context: SessionContext;
  readonly connection: number;
  readonly id: string;
  readonly listener: ListenerFacts;
  readonly policy: SessionPolicy;
  /** Address of the socket's other end, whoever it speaks for. */
  readonly peer: string;
  /** Decided when the connection opens, when the client turns out to be another one, when somebody authenticates. */
  mayRelay: boolean;
  /** TLS is up: nobody between the client and us can read along. */
  secure = false;
  /** What SCRAM with channel binding can be bound to; [] where there is nothing. */
  channelBindings: readonly ChannelBinding[] = [];
  /** Who authenticated. */
  user: User | null = null;
  failedLogins = 0;
  /** What the text of the command being served takes in memory. */
  lineBytes = 0;
  client: ClientInfo;
  state: SessionState = NEW;
  transactions = 0;
  /** The last MAIL was refused, or a chunk of its content. */
  offerRefused = false;
  /** When MAIL was last accepted, or mail last brought forward. */
  forwardMs = 0;
  #errors = 0;
  /** Command lines: whether they are read, and what each of them sets off. */
  readonly lines: CommandLines = new CommandLines(this);
  /** Commands that have to wait, for the policy's answer or the end of a pause. */
  readonly holding: Holding = new Holding(this);
  /** Content that is complete, and what XFORWARD said about the next message. */
  readonly completion: Completion = new Completion(this);
  #deadlineSetMs = 0;

  constructor(context: SessionContext, connection: number, { address, port, listener }: ConnectionFacts) {
    this.context = context;
    this.connection = connection;
    this.id = `s${context.queueIds.next()}`;
    this.peer = address;
    this.listener = context.settings.listeners[listener] ?? NO_LISTENER;
    this.mayRelay = context.relayPolicy.isRelayClient(address);
    this.policy = context.policyOf(this.id, address, this.mayRelay);
    this.client = { address, helo: '', protocol: 'SMTP', sessionId: this.id, listener: this.listener.name };
    if (port > 0) this.client.port = port;
  }

  /** The connection is open. */
  open(): void {
    this.context.transcript?.opened(this.id, this.client.address);
    arrive(this);
  }

  /** The PROXY header, '' when what came is none. */
  proxied(header: string): void {
    if (this.state.phase === 'closed') return;
    this.holding.end();
    arriveByProxy(this, header);
  }

  greet(): void {
    const { port, settings } = this.context;
    port.minRate(this.connection, settings.minRateBytesPerSecond, settings.minRateGraceMs);
    this.reply(settings.banner);
    this.#setDeadline(settings.commandTimeoutMs);
  }

  /** XFORWARD: whom the next message is from, for the records. */
  forward(told: Told): void {
    this.completion.forward(told);
    this.reply(REPLY.ok);
  }

  /** The policy's refusal; some end the connection. */
  refuse({ reply, ends }: Refusal): void {
    if (!ends) {
      this.reply(reply);
      return;
    }
    logRefusal(this, reply);
    this.#send(reply);
    this.close();
  }

  /**
   * Content was read to its end: to the end of data, of the chunk marked last, or of a chunk that is discarded.
   * @param content the session owns one reference from here on, unless it is NO_CONTENT.
   * @param flags of CONTENT_FLAG.
   * @param detail number of Received: fields, or errno with spillFailed.
   */
  content(content: number, flags: number, detail: number): void {
    const state = this.state;
    this.completion.take(content);
    switch (state.phase) {
      case 'data':
      case 'chunk':
        this.completion.complete(state.transaction, flags, detail);
        return;
      case 'discard':
        this.completion.putDown();
        this.reply(state.reply);
        this.proceed(state.next);
        return;
      default:
        this.completion.putDown();
    }
  }

  /** A BDAT chunk that is not the last was read. @param detail as of `content`, so far. */
  chunk(flags: number, detail: number): void {
    if (this.state.phase === 'chunk') chunkRead(this, this.state, flags, detail);
  }

  /** The deadline passed, or content came too slowly. @param partBytes read of a line whose end has not come. */
  timeout(tooSlow: boolean, partBytes = 0): void {
    const { state } = this;
    if (state.phase === 'closed') return;
    if (this.holding.active) {
      this.holding.expired(partBytes);
      return;
    }
    if (state.phase === 'waiting') {
      this.completion.withdraw(state);
      return;
    }
    if (state.phase === 'reported') {
      this.context.reports.expired(this, state.ticket);
      return;
    }
    if (state.phase === 'securing') abandonTls(this, 'no handshake in time');
    else this.reply((tooSlow ? REPLY.too_slow : REPLY.timed_out).with(this.context.settings.hostname));
  }

  /** The main thread says what became of the message this session waits with. */
  verdict(verdict: number): void {
    const { state } = this;
    if (state.phase === 'waiting') this.completion.verdict(state, verdict);
    else if (state.phase === 'reported') this.context.reports.verdict(this, verdict);
  }

  /** The connection is gone. A message whose verdict was awaited stays with the relay: the client may have read our 250. */
  closed(): void {
    try {
      this.#letGo();
    } finally {
      this.policy.closed();
      this.context.transcript?.closed(this.id);
    }
  }

  /**
   * An error of ours came up in this dialog: it ends here and gives back what it holds. A message whose verdict was awaited
   * stays with the relay, as when the client hangs up.
   */
  breakOff(): void {
    const { context, connection } = this;
    const { phase } = this.state;
    this.holding.end();
    this.#letGo();
    const mute = phase === 'closed' || phase === 'securing';
    if (!mute) this.#send(REPLY.internal_error.with(context.settings.hostname));
    context.port.close(connection, mute);
  }

  /** Ends the state and gives back what belongs to it. */
  #letGo(): void {
    const { state } = this;
    this.#forgetLogin();
    this.state = CLOSED;
    if (state.phase === 'reported') this.context.reports.forget(this, state.ticket);
    this.completion.letGo(state);
  }

  /** Drain: a session without a transaction ends now, another after its transaction. */
  drain(): void {
    if (this.state.phase === 'securing') abandonTls(this, 'the relay shuts down');
    else if (!this.inTransaction() && this.state.phase !== 'closed') this.shutDown();
  }

  /** 421: the relay drains. RFC 5321 §3.8 allows it without a command; the client reads it at its next one. */
  shutDown(): void {
    this.reply(REPLY.draining.with(this.context.settings.hostname));
  }

  /** Mail was brought forward: idle commands are counted from here. */
  movedOn(): void {
    this.lines.countIdleAnew();
    this.forwardMs = this.context.clock.steadyMs;
  }

  inTransaction(): boolean {
    return isTransaction(this.state);
  }

  /**
   * Sends a reply. A 421 or 221 closes the connection; a 5xx counts as an error, unless it only echoes a refusal, and one
   * too many becomes a 421.
   */
  reply(reply: Reply): void {
    const { settings } = this.context;
    let sent = reply;
    const isError = reply.code >= 500 && !isEcho(reply);
    if (reply.code >= 421) {
      if (isError && ++this.#errors > settings.maxErrors)
        sent = REPLY.too_many_errors.with(settings.hostname);
      logRefusal(this, sent);
    }
    this.#send(sent);
    if (sent.code === 421 || sent.code === 221) this.close();
    else if (isError) this.holding.erred(sent, this.#errors);
  }

  #send(reply: Reply): void {
    const { port, transcript } = this.context;
    if (reply.bytes !== null) port.send(this.connection, reply.bytes);
    else port.sendLatin1(this.connection, reply.line);
    transcript?.reply(this.id, reply.line);
  }

  /** Closes once what was sent is out. */
  close(): void {
    if (this.state.phase === 'closed') return;
    this.#forgetLogin();
    this.state = CLOSED;
    this.context.port.close(this.connection);
  }

  #forgetLogin(): void {
    if (this.state.phase === 'login') this.context.logins.forget(this.state.request);
  }

  /** Forgets the transaction, as RSET, HELO and EHLO do. */
  reset(): void {
    if (this.state.phase === 'chunks') this.context.port.dropContent(this.connection);
    this.policy.share.endEnvelope();
    this.completion.forget();
    this.offerRefused = false;
    this.state = READY;
  }

  /** Begins a phase in which content is read: the deadline is renewed by every octet. */
  readContent(state: SessionState): void {
    this.state = state;
    this.#setDeadline(this.context.settings.dataTimeoutMs);
  }

  /** Goes on with command lines after content, unless the reply just given closed the connection. */
  proceed(next: SessionState): void {
    if (this.state.phase === 'closed') return;
    this.state = next;
    if (next === READY) this.policy.share.endEnvelope();
    if (next === READY && this.context.admission.draining()) {
      this.shutDown();
      return;
    }
    this.lines.readOn();
    this.commandDeadline();
  }

  /** Commands can come now. */
  readsLines(): boolean {
    return isReadingLines(this.state);
  }

  /** Sets the deadline for the next command. */
  commandDeadline(): void {
    this.#setDeadline(commandTimeMs(this));
  }

  #setDeadline(ms: number): void {
    this.#deadlineSetMs = this.context.clock.steadyMs;
    this.context.port.deadline(this.connection, ms + (ms >> 5));
  }

  /** After a command. Deadlines are set 1/32 late, so that quick commands need not move theirs each time. */
  renewDeadline(): void {
    const ms = this.context.settings.commandTimeoutMs;
    if (this.context.clock.steadyMs - this.#deadlineSetMs > ms >> 5) this.commandDeadline();
  }
}
