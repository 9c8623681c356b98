/**
 * One SMTP dialog: takes lines, content, timeouts and verdicts, gives replies. Owns the state and what outlives a
 * transaction (name, counts of errors and transactions, deadline); the verbs decide, one file per group. It never
 * touches a socket, never waits, and holds no reference on content except between end of data and verdict.
 */
import type { User } from '../auth/auth.ts';
import type { ClientInfo } from '../mail/message.ts';
import { LINE_FLAG, TLS_VERIFY } from '../native.ts';
import type { Refusal, SessionPolicy } from '../policy/session-policy.ts';
import { isOtherProtocol, verbCode } from '../protocol/command.ts';
import { REPLY, Reply } from '../protocol/reply.ts';
import type { ChannelBinding } from '../protocol/sasl/scram.ts';
import type { Told } from '../protocol/xclient.ts';
import { arrive, arriveByProxy } from './arrival.ts';
import { exchangeLine } from './auth.ts';
import { chunkRead, commandTimeMs } from './chunk.ts';
import { Completion } from './completion.ts';
import type { SessionContext } from './context.ts';
import { isEcho } from './failures.ts';
import { Holding } from './holding.ts';
import { logRefusal } from './refusal-log.ts';
import type { ListenerFacts } from './settings.ts';
import { abandonTls, lacksTls } from './starttls.ts';
import type { SessionState } from './state.ts';
import { CLOSED, isReadingLines, isTransaction, NEW, READY } from './state.ts';
import type { Verb } from './verb.ts';

const BAD_LINE = LINE_FLAG.tooLong | LINE_FLAG.bareLf | LINE_FLAG.bareCr | LINE_FLAG.nul;

/** After lines that begin so the reactor holds the socket until it is told how to read on. */
const DATA = verbCode('DATA');
const BDAT = verbCode('BDAT');
const AUTH = verbCode('AUTH');
const STARTTLS = verbCode('STARTTLS');

/** What is known of a connection from its first moment. */
export interface ConnectionFacts {
  /** Peer address, or 'unix'. */
  address: string;
  /** Number of the listener it came through. */
  listener: number;
}

const NO_LISTENER: ListenerFacts = { auth: 'off', submission: false, tls: 'off', verify: TLS_VERIFY.none };

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
  /** Nobody between the client and us can read along. */
  secure = false;
  /** What SCRAM with channel binding can be bound to; [] where there is nothing. */
  channelBindings: readonly ChannelBinding[] = [];
  /** Who authenticated. */
  user: User | null = null;
  failedLogins = 0;
  /** Of the command being served, as its text lies in memory. */
  lineBytes = 0;
  client: ClientInfo;
  state: SessionState = NEW;
  transactions = 0;
  /** The last MAIL was refused, or a chunk of its content. */
  offerRefused = false;
  /** When MAIL was taken, or mail brought forward, last. */
  forwardMs = 0;
  #errors = 0;
  /** Commands that have to wait, for the policy's answer or the end of a pause. */
  readonly holding: Holding = new Holding(this);
  /** Content that is complete, and what XFORWARD said about the next message. */
  readonly completion: Completion = new Completion(this);
  /** Commands since the last that brought mail forward. */
  #idleCommands = 0;
  #deadlineSetMs = 0;
  /** The reactor gives us lines; false after one that it holds the socket for, until it is told how to read on. */
  #reading = true;
  /** Flags of what bare LFs parted from the end of its line: only CRLF ends one, and nothing of such a line is done. */
  #broken = 0;
  /** AUTH was said: a line that is no command may be a password. */
  #authSaid = false;

  constructor(context: SessionContext, connection: number, { address, listener }: ConnectionFacts) {
    this.context = context;
    this.connection = connection;
    this.id = `s${context.queueIds.next()}`;
    this.peer = address;
    this.listener = context.settings.listeners[listener] ?? NO_LISTENER;
    this.mayRelay = context.relayPolicy.isRelayClient(address);
    this.policy = context.policyOf(this.id, address, this.mayRelay);
    this.client = { address, helo: '', protocol: 'SMTP', sessionId: this.id };
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

  /** A command line without its end; flags of LINE_FLAG. */
  line(text: string, flags: number): void {
    const { state } = this;
    // What came in the clear before a handshake counts for nothing after it.
    if (state.phase === 'closed' || state.phase === 'securing') return;
    if (this.holding.active) {
      this.holding.keep(text, flags);
      return;
    }
    if (++this.#idleCommands > this.#idleLimit()) {
      this.reply(REPLY.tooManyIdleCommands.with(this.context.settings.hostname));
      return;
    }
    if (state.phase === 'new' && isOtherProtocol(text)) {
      this.reply(REPLY.otherProtocol.with(this.context.settings.hostname));
      return;
    }
    this.lineBytes = (flags & LINE_FLAG.eightBit) === 0 ? text.length : text.length * 2;
    let code = verbCode(text);
    if (code === DATA || code === BDAT || code === AUTH || code === STARTTLS) this.#reading = false;
    if ((flags & LINE_FLAG.bareLf) !== 0 && (code !== BDAT || this.#broken !== 0)) {
      this.#broken |= flags;
      this.expectLines();
      return;
    }
    if (this.#broken !== 0) {
      flags |= this.#broken;
      this.#broken = 0;
      code = 0;
    }
    if (state.phase === 'exchange') {
      this.context.transcript?.hidden(this.id);
      exchangeLine(this, state.exchange, text, flags);
    } else this.#commandLine(text, code, flags);
    if (this.holding.active || !this.readsLines()) return;
    this.expectLines();
    this.#renewDeadline();
  }

  #commandLine(text: string, code: number, flags: number): void {
    if (code === AUTH) this.#authSaid = true;
    else if (isTooLong(text, flags, this.context.settings.maxLineBytes)) flags |= LINE_FLAG.tooLong;
    const { transcript } = this.context;
    if (transcript !== null) {
      const known = (flags & BAD_LINE) === 0 && this.context.verbs.find(text, code) !== undefined;
      if (known) transcript.command(this.id, text);
      else transcript.hidden(this.id, this.#authSaid ? '' : text);
    }
    if ((flags & BAD_LINE) === 0) this.#command(text, code);
    else
      this.#unreadable(
        (flags & LINE_FLAG.tooLong) !== 0 ? REPLY.commandTooLong : REPLY.commandBadBytes,
        code,
      );
  }

  /** Reads nothing until `expectLines`. */
  hold(): void {
    this.#reading = false;
    this.context.port.hold(this.connection);
  }

  /** The reactor gives lines again by itself: a handshake is done, what came before it is forgotten. */
  resumed(): void {
    this.#broken = 0;
    this.#reading = true;
    this.commandDeadline();
  }

  expectLines(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.context.port.expectLines(this.connection);
  }

  /** A list may have many recipients twice, or be longer than we take: it is heard out, and nothing is lost. */
  #idleLimit(): number {
    const { maxIdleCommands, maxRecipients } = this.context.settings;
    return this.state.phase === 'envelope' ? maxIdleCommands + maxRecipients : maxIdleCommands;
  }

  #command(text: string, code: number): void {
    const verb = this.context.verbs.find(text, code);
    if (verb === undefined) {
      this.#unreadable(REPLY.unknownCommand, code);
      return;
    }
    if (!this.inTransaction() && verb.name !== 'QUIT' && this.context.admission.draining()) {
      this.shutDown();
      return;
    }
    if (verb.offers) this.offerRefused = true;
    const answer = this.policy.command();
    if (answer === null) this.#execute(verb, text);
    else this.holding.unless(answer, () => this.#execute(verb, text));
  }

  #execute(verb: Verb<unknown>, text: string): void {
    const command = lacksTls(this, verb) ? REPLY.startTlsFirst : verb.check(this, text);
    if (command instanceof Reply) {
      this.reply(command);
      return;
    }
    const refusal = verb.admit?.(this, command) ?? null;
    if (refusal !== null) {
      // Mail was offered, and it is we who have no room.
      if (refusal.code < 500 && refusal !== REPLY.tooManyRecipients) this.movedOn();
      this.reply(refusal);
      return;
    }
    const answer = verb.screen?.(this, command) ?? null;
    if (answer === null) verb.apply(this, command);
    else this.holding.unless(answer, () => verb.apply(this, command));
  }

  /** Octets follow BDAT at once; where their number cannot be known they would be taken for commands. */
  #unreadable(reply: Reply, code: number): void {
    if (code === AUTH && reply === REPLY.commandTooLong) this.reply(REPLY.authLineTooLong);
    else this.reply(code === BDAT ? REPLY.bdatSyntax : reply);
    if (code === BDAT) this.close();
  }

  /**
   * The end of data came, or of a chunk marked last, or of one that is discarded.
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
    if (state.phase === 'securing') abandonTls(this, 'no handshake in time');
    else this.reply((tooSlow ? REPLY.tooSlow : REPLY.timedOut).with(this.context.settings.hostname));
  }

  /** The main thread says what became of the message this session waits with. */
  verdict(verdict: number): void {
    const { state } = this;
    if (state.phase === 'waiting') this.completion.verdict(state, verdict);
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
    if (!mute) this.#send(REPLY.internalError.with(context.settings.hostname));
    context.port.close(connection, mute);
  }

  /** Ends the state and gives back what belongs to it. */
  #letGo(): void {
    const { state } = this;
    this.#forgetLogin();
    this.state = CLOSED;
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

  /** Mail was brought forward: what harmless commands are counted from. */
  movedOn(): void {
    this.#idleCommands = 0;
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
      if (isError && ++this.#errors > settings.maxErrors) sent = REPLY.tooManyErrors.with(settings.hostname);
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
    this.#reading = true;
    this.context.port.expectLines(this.connection);
    this.commandDeadline();
  }

  /** Commands can come now. */
  readsLines(): boolean {
    return isReadingLines(this.state);
  }

  /** For the next command. */
  commandDeadline(): void {
    this.#setDeadline(commandTimeMs(this));
  }

  #setDeadline(ms: number): void {
    this.#deadlineSetMs = this.context.clock.steadyMs;
    this.context.port.deadline(this.connection, ms + (ms >> 5));
  }

  /** Set a thirty-second part late, the deadline need not be moved for each of many quick commands. */
  #renewDeadline(): void {
    const ms = this.context.settings.commandTimeoutMs;
    if (this.context.clock.steadyMs - this.#deadlineSetMs > ms >> 5) this.commandDeadline();
  }
}

/** Longer than a command may be; the reactor lets lines pass that an exchange of AUTH may need. */
function isTooLong(text: string, flags: number, maxBytes: number): boolean {
  const bytes = (flags & LINE_FLAG.eightBit) === 0 ? text.length : Buffer.byteLength(text);
  return bytes > maxBytes;
}
