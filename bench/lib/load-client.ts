/**
 * SMTP load generator on our own reactor: `concurrency` connections, each sending one message after another, in one
 * thread. Owns its connections and figures; decides nothing about programs or output. Per message it does no
 * allocation beyond the reactor's operations, so that it leaves the cores to what is measured.
 */
import {
  type Arena,
  CLOSE_REASON,
  createReactor,
  EVENT,
  EVENT_WORDS,
  NO_CONTENT,
  type Reactor,
} from '../../src/native.ts';
import { type BenchMessage, createMessage, mergedAddress, stampAddress } from './bench-message.ts';
import { Histogram, type Percentiles } from './histogram.ts';

export interface LoadOptions {
  /** IP address of the server. */
  host: string;
  port: number;
  /** Messages to attempt; Infinity with durationMs. */
  messages: number;
  sizeBytes: number;
  rcpts: number;
  concurrency: number;
  /** A new connection for each message. */
  perConnection: boolean;
  /** MAIL, RCPT and DATA in one write (RFC 2920). */
  pipeline: boolean;
  /** Messages per second to begin at most; 0: as fast as it goes. */
  ratePerSecond: number;
  /** No new message after this; 0: no limit. */
  durationMs: number;
  toDomain: string;
  /** Each message is merged for a recipient of its own, at one of so many domains under `toDomain`. */
  domains?: number;
  from: string;
  /** Names the run in every message, eight hex digits. */
  run: string;
  /** Milliseconds without any reply after which open messages count as failed. */
  stallMs: number;
  /** After a lost or refused connection: wait so long and connect again (the message in question failed); 0: at once. */
  reconnectMs: number;
  /** Number of the first message. */
  firstNumber?: number;
  /** A message was answered 250; called in the order of replies. */
  onAccepted?: (number: number) => void;
  /** End of data was sent for a message that was not answered 250. */
  onUnknown?: (number: number) => void;
  spillDir: string;
}

export const PHASES = [
  'connect',
  'banner',
  'ehlo',
  'mail',
  'rcpt',
  'data',
  'endOfData',
  'transaction',
] as const;
export type PhaseName = (typeof PHASES)[number];

export interface LoadReport {
  attempted: number;
  accepted: number;
  failed: number;
  acceptedRecipients: number;
  /** When the first connection was begun, ms since 1970. */
  startedAtMs: number;
  elapsedMs: number;
  messagesPerSecond: number;
  connections: number;
  connectFailures: number;
  connectionsLost: number;
  stalled: boolean;
  /** Replies by code: '250' → count. */
  replies: Record<string, number>;
  /** The first few texts of refusals. */
  refusals: string[];
  latency: Record<PhaseName, Percentiles>;
}

/** What a connection waits for; the first eight index the histograms. */
const AT = {
  connect: 0,
  banner: 1,
  ehlo: 2,
  mail: 3,
  rcpt: 4,
  data: 5,
  end: 6,
  quit: 8,
  idle: 9,
  reset: 10,
  dead: 11,
} as const;
const TRANSACTION = 7;

interface Peer {
  readonly id: number;
  phase: number;
  sentAt: number;
  beganAt: number;
  /** Number of the message under way, -1 between messages. */
  number: number;
  rcptNext: number;
  rcptAccepted: number;
  /** Has not begun a message yet. */
  fresh: boolean;
}

export class LoadClient {
  readonly #options: LoadOptions;
  readonly #arena: Arena;
  readonly #reactor: Reactor;
  readonly #message: BenchMessage;
  readonly #body: number;
  readonly #ehlo = Buffer.from('EHLO bench.test\r\n');
  readonly #mail: Buffer;
  readonly #rcpt: Buffer[] = [];
  readonly #group: Buffer;
  readonly #data = Buffer.from('DATA\r\n');
  readonly #quit = Buffer.from('QUIT\r\n');
  readonly #reset = Buffer.from('RSET\r\n');
  readonly #histograms = PHASES.map(() => new Histogram());
  readonly #replies = new Uint32Array(1000);
  readonly #refusals: string[] = [];

  readonly #peers = new Map<number, Peer>();
  #now = 0;
  #begun = 0;
  /** Open connections that will begin their first message. */
  #fresh = 0;
  #accepted = 0;
  #failed = 0;
  #acceptedRecipients = 0;
  #connections = 0;
  #connectFailures = 0;
  #lost = 0;
  #open = 0;
  #stalled = false;
  #lastReplyAt = 0;
  #startedAt = 0;
  #endedAt = 0;
  #stopped = false;
  #paced: Peer[] = [];
  #timers: NodeJS.Timeout[] = [];
  #finish: (() => void) | null = null;

  constructor(options: LoadOptions, arena: Arena) {
    this.#options = options;
    this.#arena = arena;
    const slots = options.concurrency * 2 + 64;
    this.#reactor = createReactor({
      arena,
      spillDir: options.spillDir,
      spillThresholdBytes: 1 << 20,
      maxConnections: slots,
      maxLineBytes: 2048,
      holdAfterVerbs: false,
      onTurn: (count) => this.#turn(count),
    });
    const address = (index: number): string =>
      (options.domains ?? 0) > 0 ? mergedAddress(options.toDomain) : `user${index}@${options.toDomain}`;
    this.#message = createMessage({ ...options, to: address(0) });
    this.#body = arena.store(this.#message.body);
    if (this.#body === NO_CONTENT)
      throw new Error(`a message of ${options.sizeBytes} bytes does not fit into memory`);
    this.#mail = Buffer.from(`MAIL FROM:<${options.from}>\r\n`);
    for (let i = 0; i < options.rcpts; i++) this.#rcpt.push(Buffer.from(`RCPT TO:<${address(i)}>\r\n`));
    this.#group = Buffer.concat([this.#mail, ...this.#rcpt, this.#data]);
  }

  get accepted(): number {
    return this.#accepted;
  }

  get failed(): number {
    return this.#failed;
  }

  /** Sends everything; resolves when every message begun has its answer and every connection is closed. */
  run(): Promise<void> {
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.#startedAt = this.#lastReplyAt = this.#now = performance.now();
      const { concurrency, messages, ratePerSecond, stallMs } = this.#options;
      for (let i = 0; i < Math.min(concurrency, messages); i++) this.#connect();
      if (ratePerSecond > 0) this.#timers.push(setInterval(() => this.#pace(), 2));
      this.#timers.push(setInterval(() => this.#watch(stallMs), 250));
      this.#reactor.flush();
    });
  }

  /** Begins no new message; `run` resolves once the open ones are answered. */
  stop(): void {
    this.#stopped = true;
    for (const peer of this.#paced.splice(0)) this.#leave(peer);
    this.#reactor.flush();
  }

  report(): LoadReport {
    const elapsedMs = (this.#endedAt || performance.now()) - this.#startedAt;
    const replies: Record<string, number> = {};
    for (let code = 0; code < this.#replies.length; code++) {
      if (this.#replies[code]) replies[String(code)] = this.#replies[code] as number;
    }
    return {
      attempted: this.#begun,
      accepted: this.#accepted,
      failed: this.#failed,
      acceptedRecipients: this.#acceptedRecipients,
      startedAtMs: performance.timeOrigin + this.#startedAt,
      elapsedMs: Math.round(elapsedMs * 10) / 10,
      messagesPerSecond: Math.round((this.#accepted / elapsedMs) * 10_000) / 10,
      connections: this.#connections,
      connectFailures: this.#connectFailures,
      connectionsLost: this.#lost,
      stalled: this.#stalled,
      replies,
      refusals: this.#refusals,
      latency: Object.fromEntries(
        PHASES.map((name, index) => [name, (this.#histograms[index] as Histogram).percentiles()]),
      ) as LoadReport['latency'],
    };
  }

  /** Frees reactor and message. */
  destroy(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#reactor.destroy();
    this.#arena.release(this.#body);
  }

  // ------------------------------------------------------------------------------------------------- events

  #turn(count: number) {
    const { events, text } = this.#reactor;
    this.#now = performance.now();
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      const peer = this.#peers.get(events[at + 1] as number);
      if (peer === undefined) continue;
      const a = events[at + 2] as number;
      switch ((events[at] as number) & 0xff) {
        case EVENT.line:
          // 'NNN-' goes on: only the last line of a reply counts.
          if (text[a + 3] !== 45) this.#reply(peer, text, a, events[at + 3] as number);
          break;
        case EVENT.opened:
          this.#answered(peer, AT.connect);
          this.#await(peer, AT.banner);
          break;
        case EVENT.closed:
          this.#closed(peer, a);
          break;
      }
    }
  }

  #reply(peer: Peer, text: Buffer, at: number, length: number) {
    const code =
      length < 3
        ? 0
        : ((text[at] as number) - 48) * 100 +
          ((text[at + 1] as number) - 48) * 10 +
          (text[at + 2] as number) -
          48;
    const counted = code >= 0 && code < 1000 ? code : 0;
    this.#replies[counted] = (this.#replies[counted] as number) + 1;
    this.#lastReplyAt = this.#now;
    if (code >= 400 && this.#refusals.length < 5)
      this.#refusals.push(text.toString('latin1', at, at + length));
    switch (peer.phase) {
      case AT.banner:
        this.#answered(peer, AT.banner);
        if (code !== 220) return this.#leave(peer);
        this.#reactor.send(peer.id, this.#ehlo);
        return this.#await(peer, AT.ehlo);
      case AT.ehlo:
        this.#answered(peer, AT.ehlo);
        return code === 250 ? this.#next(peer) : this.#leave(peer);
      case AT.mail:
        this.#answered(peer, AT.mail);
        return this.#afterMail(peer, code);
      case AT.rcpt:
        return this.#afterRcpt(peer, code);
      case AT.data:
        this.#answered(peer, AT.data);
        return this.#afterData(peer, code);
      case AT.end:
        this.#answered(peer, AT.end);
        return this.#afterEnd(peer, code);
      case AT.reset:
        return code === 250 ? this.#next(peer) : this.#leave(peer);
      case AT.quit:
        return this.#reactor.close(peer.id);
    }
  }

  #afterMail(peer: Peer, code: number) {
    if (code !== 250 && !this.#options.pipeline) return this.#refused(peer, code);
    if (!this.#options.pipeline) this.#reactor.send(peer.id, this.#firstRcpt(peer.number));
    this.#await(peer, AT.rcpt);
  }

  #firstRcpt(number: number): Buffer {
    const rcpt = this.#rcpt[0] as Buffer;
    const { domains = 0 } = this.#options;
    if (domains > 0) stampAddress(rcpt, 'RCPT TO:<'.length, number, domains);
    return rcpt;
  }

  #afterRcpt(peer: Peer, code: number) {
    const { rcpts, pipeline } = this.#options;
    if (code === 250) peer.rcptAccepted = peer.rcptAccepted + 1;
    const answered = peer.rcptNext + 1;
    peer.rcptNext = answered;
    if (answered < rcpts) {
      if (pipeline) return;
      this.#answered(peer, AT.rcpt);
      this.#reactor.send(peer.id, this.#rcpt[answered] as Buffer);
      return this.#await(peer, AT.rcpt);
    }
    this.#answered(peer, AT.rcpt);
    if (!pipeline && peer.rcptAccepted === 0) return this.#refused(peer, code);
    if (!pipeline) this.#reactor.send(peer.id, this.#data);
    this.#await(peer, AT.data);
  }

  #afterData(peer: Peer, code: number) {
    if (code !== 354) return this.#refused(peer, code);
    const number = peer.number;
    this.#message.stamp(number, Math.floor((performance.timeOrigin + this.#now) * 1000));
    this.#reactor.sendContent(peer.id, this.#message.header, this.#body, true);
    this.#await(peer, AT.end);
  }

  #afterEnd(peer: Peer, code: number) {
    const number = peer.number;
    peer.number = -1;
    if (code === 250) {
      this.#accepted++;
      this.#acceptedRecipients += peer.rcptAccepted;
      (this.#histograms[TRANSACTION] as Histogram).record(this.#now - peer.beganAt);
      this.#options.onAccepted?.(number);
    } else {
      this.#failed++;
      this.#options.onUnknown?.(number);
      if (code === 421) return this.#leave(peer);
    }
    this.#endedAt = this.#now;
    if (!this.#options.perConnection) return this.#next(peer);
    this.#leave(peer);
  }

  /** A command of the transaction was refused: the message failed; the connection goes on unless it was 421. */
  #refused(peer: Peer, code: number) {
    this.#failed++;
    peer.number = -1;
    if (code === 421) return this.#leave(peer);
    this.#reactor.send(peer.id, this.#reset);
    this.#await(peer, AT.reset);
  }

  #closed(peer: Peer, reason: number) {
    const { phase } = peer;
    peer.phase = AT.dead;
    this.#peers.delete(peer.id);
    this.#begunOn(peer);
    this.#open--;
    if (reason === CLOSE_REASON.connectFailed) this.#connectFailures++;
    else if (phase !== AT.quit) this.#lost++;
    if (peer.number >= 0) {
      this.#failed++;
      if (phase === AT.end) this.#options.onUnknown?.(peer.number);
      peer.number = -1;
    } else if (phase !== AT.quit && phase !== AT.idle && this.#wanted()) {
      // Could not even begin: without a reconnect delay that is a failed message, or the loop would never end.
      if (this.#options.reconnectMs === 0) {
        this.#begun++;
        this.#failed++;
      }
    }
    if (!this.#wanted() || this.#begun + this.#fresh >= this.#options.messages) return this.#endWhenIdle();
    const wait = phase === AT.quit ? 0 : this.#options.reconnectMs;
    if (wait === 0) return this.#connect();
    this.#timers.push(
      setTimeout(() => {
        if (this.#wanted() && this.#begun + this.#fresh < this.#options.messages) this.#connect();
        this.#endWhenIdle();
        this.#reactor.flush();
      }, wait),
    );
  }

  // -------------------------------------------------------------------------------------------------- steps

  #connect() {
    const id = this.#reactor.connect(this.#options.host, this.#options.port, '', 30_000);
    if (id < 0) throw new Error('the reactor has no free connection');
    this.#open++;
    this.#connections++;
    this.#fresh++;
    const started = { phase: AT.connect, sentAt: this.#now, beganAt: 0, rcptNext: 0, rcptAccepted: 0 };
    this.#peers.set(id, { id, number: -1, fresh: true, ...started });
  }

  #wanted(): boolean {
    const { messages, durationMs } = this.#options;
    if (this.#stopped || this.#begun >= messages) return false;
    return durationMs === 0 || this.#now - this.#startedAt < durationMs;
  }

  #begunOn(peer: Peer) {
    if (!peer.fresh) return;
    peer.fresh = false;
    this.#fresh--;
  }

  /** Begins the next message on this connection, or waits for its turn, or says QUIT. */
  #next(peer: Peer) {
    if (!this.#wanted()) return this.#leave(peer);
    const { ratePerSecond } = this.#options;
    if (ratePerSecond > 0 && this.#begun >= ((this.#now - this.#startedAt) / 1000) * ratePerSecond) {
      peer.phase = AT.idle;
      this.#paced.push(peer);
      return;
    }
    this.#begunOn(peer);
    peer.number = (this.#options.firstNumber ?? 0) + this.#begun++;
    peer.rcptNext = 0;
    peer.rcptAccepted = 0;
    peer.beganAt = this.#now;
    this.#reactor.send(peer.id, this.#options.pipeline ? this.#group : this.#mail);
    this.#await(peer, AT.mail);
  }

  #pace() {
    this.#now = performance.now();
    for (const peer of this.#paced.splice(0)) {
      if (peer.phase === AT.idle) this.#next(peer);
    }
    this.#reactor.flush();
  }

  #leave(peer: Peer) {
    this.#reactor.send(peer.id, this.#quit);
    this.#await(peer, AT.quit);
  }

  #await(peer: Peer, phase: number) {
    peer.phase = phase;
    peer.sentAt = this.#now;
  }

  #answered(peer: Peer, phase: number) {
    (this.#histograms[phase] as Histogram).record(this.#now - peer.sentAt);
  }

  #watch(stallMs: number) {
    const now = performance.now();
    if (this.#open > 0 && this.#paced.length < this.#open && now - this.#lastReplyAt > stallMs) {
      this.#stalled = true;
      this.#stopped = true;
      for (const id of this.#peers.keys()) this.#reactor.close(id, true);
    }
    this.#now = now;
    if (!this.#wanted()) for (const peer of this.#paced.splice(0)) this.#leave(peer);
    this.#reactor.flush();
    this.#endWhenIdle();
  }

  #endWhenIdle() {
    if (this.#open > 0 || this.#wanted()) return;
    if (this.#endedAt === 0) this.#endedAt = this.#now;
    for (const timer of this.#timers.splice(0)) clearTimeout(timer);
    this.#finish?.();
    this.#finish = null;
  }
}
