/**
 * SMTP sink on our own reactor: accepts everything, keeps nothing, counts. On demand it checks every message for
 * loss, duplicates and corruption, and injects faults. One thread, no timer and no allocation per message.
 */
import {
  type Acceptor,
  type Arena,
  CONTENT_FLAG,
  type ContentRules,
  createReactor,
  EVENT,
  EVENT_WORDS,
  listen,
  NO_CONTENT,
  type Reactor,
} from '../../src/native.ts';
import { type BenchMark, findMark, isIntact } from './bench-message.ts';
import type { Fault, FaultStage } from './faults.ts';
import { Histogram, type Percentiles } from './histogram.ts';
import { Tally } from './tally.ts';

export interface SinkOptions {
  host: string;
  port: number;
  maxConnections: number;
  /** Run to count ('' any): messages of others are `foreign`. */
  run: string;
  /** Verify checksums. */
  check: boolean;
  chunking: boolean;
  faults: Fault[];
  /** Recipients every message has: more arrivals than that are duplicates. */
  rcpts: number;
  /** Wait before the reply to the end of data. */
  delayMs: number;
  /** Messages taken in a second; what is more is answered 421 4.7.28. */
  limitPerSecond?: number;
  spillDir: string;
  /** Called once per turn in which messages arrived. */
  onProgress?: (sink: Sink) => void;
}

export interface SinkReport {
  connections: number;
  messages: number;
  recipients: number;
  bytes: number;
  distinct: number;
  duplicates: number;
  corrupted: number;
  foreign: number;
  faults: number;
  /** Refused, in each second since the start, because of limitPerSecond; and taken. Empty without it. */
  refusedBySecond: number[];
  takenBySecond: number[];
  /** When the first message was here, ms since 1970; 0: none was. */
  firstAtMs: number;
  /** From the first message to the last. */
  elapsedMs: number;
  messagesPerSecond: number;
  /** Sent by the client → complete here. */
  endToEnd: Percentiles;
}

const RULES: ContentRules = { maxBytes: 2 ** 40, maxLineBytes: 2 ** 30, normalizeNewlines: false };
const OK = Buffer.from('250 2.0.0 Ok\r\n');
const START = Buffer.from('354 End data with <CR><LF>.<CR><LF>\r\n');
const BANNER = Buffer.from('220 sink.test ESMTP\r\n');
const BYE = Buffer.from('221 2.0.0 Bye\r\n');
const UNKNOWN = Buffer.from('502 5.5.2 Command not recognized\r\n');
const TOO_FAST = Buffer.from(
  '421 4.7.28 Our system has detected an unusual rate of mail from your address\r\n',
);
const NO_SPACE = Buffer.from('452 4.3.1 No memory\r\n');

/** First letter and third letter (upper case) of a verb tell the ones we know apart. */
const verbOf = (text: Buffer, at: number): number =>
  ((text[at] as number) & 0xdf) * 256 + ((text[at + 2] as number) & 0xdf);
const verb = (name: string): number => verbOf(Buffer.from(name), 0);
const VERB = {
  ehlo: verb('EHLO'),
  helo: verb('HELO'),
  mail: verb('MAIL'),
  rcpt: verb('RCPT'),
  data: verb('DATA'),
  bdat: verb('BDAT'),
  rset: verb('RSET'),
  noop: verb('NOOP'),
  quit: verb('QUIT'),
} as const;

export class Sink {
  readonly #options: SinkOptions;
  readonly #arena: Arena;
  readonly #reactor: Reactor;
  readonly #acceptor: Acceptor;
  readonly #ehlo: Buffer;
  /** Recipients accepted so far, per open connection. */
  readonly #rcpts = new Map<number, number>();
  readonly #faults: Record<FaultStage, Fault[]>;
  readonly #mark: BenchMark = { at: 0, number: 0, timeUs: 0 };
  readonly tally = new Tally();
  readonly #endToEnd = new Histogram();
  #now = 0;
  #connections = 0;
  #faultCount = 0;
  #corrupted = 0;
  #foreign = 0;
  #bytes = 0;
  #firstAt = 0;
  #lastAt = 0;
  readonly #startedAt = performance.now();
  readonly #taken: number[] = [];
  readonly #refused: number[] = [];
  messages = 0;
  recipients = 0;

  constructor(options: SinkOptions, arena: Arena) {
    this.#options = options;
    this.#arena = arena;
    const offers = [
      'sink.test',
      'PIPELINING',
      '8BITMIME',
      'SMTPUTF8',
      'ENHANCEDSTATUSCODES',
      'SIZE 1099511627776',
    ];
    if (options.chunking) offers.push('CHUNKING');
    this.#ehlo = Buffer.from(
      offers.map((line, i) => `250${i === offers.length - 1 ? ' ' : '-'}${line}\r\n`).join(''),
    );
    this.#faults = { connect: [], mail: [], rcpt: [], data: [], end: [] };
    for (const fault of options.faults) this.#faults[fault.stage].push(fault);
    this.#reactor = createReactor({
      arena,
      spillDir: options.spillDir,
      spillThresholdBytes: 1 << 30,
      maxConnections: options.maxConnections,
      maxLineBytes: 4096,
      holdAfterVerbs: true,
      onTurn: (count) => this.#turn(count),
    });
    this.#acceptor = listen({
      host: options.host,
      port: options.port,
      backlog: 1024,
      listener: 0,
      batch: 64,
      onAccept: (fds, addresses) => {
        for (let i = 0; i < fds.length; i++) {
          const fd = fds[i] as number;
          if (!this.#acceptor.handOff(fd, this.#reactor.id, addresses[i] as string)) {
            this.#acceptor.refuse(fd, '421 4.3.2 Too many connections\r\n');
          }
        }
      },
      onError: (errno) => process.emitWarning(`sink: accept failed, errno ${errno}`),
    });
  }

  get port(): number {
    return this.#acceptor.port;
  }

  report(): SinkReport {
    const elapsedMs = this.#lastAt - this.#firstAt;
    return {
      connections: this.#connections,
      messages: this.messages,
      recipients: this.recipients,
      bytes: this.#bytes,
      distinct: this.tally.distinct(),
      duplicates: this.tally.duplicates(this.#options.rcpts),
      corrupted: this.#corrupted,
      foreign: this.#foreign,
      faults: this.#faultCount,
      takenBySecond: Array.from(this.#taken, (count = 0) => count),
      refusedBySecond: Array.from(this.#refused, (count = 0) => count),
      firstAtMs: this.#firstAt === 0 ? 0 : performance.timeOrigin + this.#firstAt,
      elapsedMs: Math.round(elapsedMs * 10) / 10,
      messagesPerSecond: elapsedMs > 0 ? Math.round((this.messages / elapsedMs) * 10_000) / 10 : 0,
      endToEnd: this.#endToEnd.percentiles(),
    };
  }

  close(): void {
    this.#acceptor.close();
    this.#reactor.destroy();
  }

  #turn(count: number) {
    const { events, text } = this.#reactor;
    const before = this.messages;
    this.#now = performance.now();
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      const head = events[at] as number;
      const connection = events[at + 1] as number;
      const a = events[at + 2] as number;
      const b = events[at + 3] as number;
      switch (head & 0xff) {
        case EVENT.line:
          this.#command(connection, text, a, b);
          break;
        case EVENT.content:
          events[at + 2] = NO_CONTENT;
          this.#content(connection, a, head >>> 8);
          break;
        case EVENT.chunk:
          this.#reactor.send(connection, OK);
          this.#reactor.expectLines(connection);
          break;
        case EVENT.opened:
          this.#connections++;
          this.#rcpts.set(connection, 0);
          if (!this.#inject('connect', connection)) this.#reactor.send(connection, BANNER);
          break;
        case EVENT.closed:
          this.#rcpts.delete(connection);
          break;
      }
    }
    if (this.messages > before) this.#options.onProgress?.(this);
  }

  #command(connection: number, text: Buffer, at: number, length: number) {
    const reactor = this.#reactor;
    switch (length < 4 ? 0 : verbOf(text, at)) {
      case VERB.mail:
        this.#rcpts.set(connection, 0);
        if (!this.#inject('mail', connection)) reactor.send(connection, OK);
        return;
      case VERB.rcpt:
        if (this.#inject('rcpt', connection)) return;
        this.#rcpts.set(connection, (this.#rcpts.get(connection) ?? 0) + 1);
        reactor.send(connection, OK);
        return;
      case VERB.data:
        if (this.#rcpts.get(connection) === 0) {
          reactor.sendLatin1(connection, '554 5.5.1 No valid recipients\r\n');
          return reactor.expectLines(connection);
        }
        if (this.#inject('data', connection)) return reactor.expectLines(connection);
        reactor.send(connection, START);
        return reactor.expectData(connection, RULES);
      case VERB.bdat: {
        const [, size = '0', last] = text.toString('latin1', at, at + length).split(' ');
        return reactor.expectChunk(connection, Number(size), last !== undefined, RULES);
      }
      case VERB.ehlo:
      case VERB.helo:
        return reactor.send(connection, this.#ehlo);
      case VERB.rset:
        this.#rcpts.set(connection, 0);
        reactor.dropContent(connection);
        return reactor.send(connection, OK);
      case VERB.noop:
        return reactor.send(connection, OK);
      case VERB.quit:
        reactor.send(connection, BYE);
        return reactor.close(connection);
    }
    reactor.send(connection, UNKNOWN);
    // An unknown AUTH or STARTTLS holds the socket: go on reading.
    reactor.expectLines(connection);
  }

  #content(connection: number, content: number, flags: number) {
    const recipients = this.#rcpts.get(connection) ?? 0;
    this.#rcpts.set(connection, 0);
    if (content === NO_CONTENT || flags & CONTENT_FLAG.noMemory) {
      this.#reactor.send(connection, NO_SPACE);
      return this.#reactor.expectLines(connection);
    }
    const refused = this.#inject('end', connection) || !this.#withinLimit(connection);
    if (!refused) this.#count(content, recipients);
    this.#arena.release(content);
    if (refused) return this.#reactor.expectLines(connection);
    if (this.#options.delayMs === 0) return this.#accept(connection);
    setTimeout(() => {
      if (this.#rcpts.has(connection)) this.#accept(connection);
      this.#reactor.flush();
    }, this.#options.delayMs);
  }

  /** Says 421 to what is beyond the limit, and hangs up. */
  #withinLimit(connection: number): boolean {
    const { limitPerSecond = 0 } = this.#options;
    if (limitPerSecond === 0) return true;
    const second = Math.floor((this.#now - this.#startedAt) / 1000);
    const isWithin = (this.#taken[second] ?? 0) < limitPerSecond;
    const counts = isWithin ? this.#taken : this.#refused;
    counts[second] = (counts[second] ?? 0) + 1;
    if (isWithin) return true;
    this.#reactor.send(connection, TOO_FAST);
    this.#reactor.close(connection);
    return false;
  }

  #accept(connection: number) {
    this.#reactor.send(connection, OK);
    this.#reactor.expectLines(connection);
  }

  #count(content: number, recipients: number) {
    this.messages++;
    this.recipients += recipients;
    this.#bytes += this.#arena.lengthBytes(content);
    this.#lastAt = this.#now;
    if (this.#firstAt === 0) this.#firstAt = this.#now;
    const parts = this.#arena.parts(content);
    const first = parts[0];
    const mark = first === undefined ? null : findMark(first, this.#options.run, this.#mark);
    if (mark === null) {
      this.#foreign++;
      return;
    }
    this.tally.add(mark.number, recipients);
    this.#endToEnd.record(performance.timeOrigin + this.#now - mark.timeUs / 1000);
    if (this.#options.check && !isIntact(parts, mark)) this.#corrupted++;
  }

  /** true when a fault was answered in place of the normal reply. */
  #inject(stage: FaultStage, connection: number): boolean {
    for (const fault of this.#faults[stage]) {
      if (Math.random() >= fault.share) continue;
      this.#faultCount++;
      if (fault.code === 0) this.#reactor.close(connection, true);
      else
        this.#reactor.sendLatin1(
          connection,
          `${fault.code} ${Math.floor(fault.code / 100)}.0.0 Injected fault\r\n`,
        );
      if (fault.code === 421) this.#reactor.close(connection);
      return true;
    }
    return false;
  }
}
