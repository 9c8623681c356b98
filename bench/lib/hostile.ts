/**
 * Hostile clients, so many a second: garbage, one octet at a time, those who talk before the banner, those who guess
 * logins and recipients, those who connect and stay. Each comes from an address of its own range of 127.0.0.0/8. On our
 * own reactor and with one timer for all, so that they cost the machine little beside what they cost the server.
 */
import { tmpdir } from 'node:os';
import {
  CLOSE_REASON,
  createArena,
  createReactor,
  EVENT,
  EVENT_WORDS,
  type Reactor,
} from '../../src/native.ts';

export const KINDS = ['garbage', 'early', 'slow', 'login', 'recipients', 'silent'] as const;
export type Kind = (typeof KINDS)[number];

export interface HostileOptions {
  port: number;
  perSecond: number;
  /** Addresses they come from: 127.9.0.1 and on. */
  addresses: number;
  /** How long one stays at most. */
  stayMs: number;
  /** Default: all of them in turn. */
  kinds?: readonly Kind[];
}

/** What became of the connections of one kind. */
export interface Fates {
  begun: number;
  /** Not one that came to be: refused by the kernel, reset before it stood. */
  unconnected: number;
  /** 421 or 554 was the first they read. */
  turnedAway: number;
  /** Got a banner. */
  greeted: number;
  /** Replies they read, the banner included. */
  replies: number;
  /** The server ended it. */
  ended: number;
  /** They left themselves, after stayMs. */
  left: number;
}

interface Client {
  readonly id: number;
  readonly kind: Kind;
  readonly leaveAtMs: number;
  read: boolean;
}

const TICK_MS = 10;
/** A slow one says an octet in this time. */
const OCTET_MS = 100;
const SLOTS = OCTET_MS / TICK_MS;
const CONNECT_TIMEOUT_MS = 10_000;

const garbage = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 167 + 13) & 255));
const early = Buffer.from('EHLO x\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<c@d.net>\r\nDATA\r\n');
const logins = Buffer.from(`EHLO x\r\n${'AUTH PLAIN AHUAcA==\r\n'.repeat(20)}`);
const recipients = Buffer.from(
  `EHLO x\r\nMAIL FROM:<a@b.net>\r\n${Array.from({ length: 30 }, (_, i) => `RCPT TO:<user${i}@elsewhere.net>\r\n`).join('')}`,
);
const octet = Buffer.from('E');

/** Said as soon as the connection stands, and after the banner. */
const AT_ONCE: Partial<Record<Kind, Buffer>> = { garbage, early };
const GREETED: Partial<Record<Kind, Buffer>> = { login: logins, recipients };

const noFates = (): Fates => ({
  begun: 0,
  unconnected: 0,
  turnedAway: 0,
  greeted: 0,
  replies: 0,
  ended: 0,
  left: 0,
});

export class Hostile {
  readonly fates: Record<Kind, Fates>;
  readonly #options: HostileOptions;
  readonly #kinds: readonly Kind[];
  readonly #reactor: Reactor;
  readonly #clients = new Map<number, Client>();
  /** In the order in which they came, which is that in which they leave. */
  readonly #leaving: Client[] = [];
  /** Those that are slow, by the tick in which they speak. */
  readonly #slow: Set<number>[] = Array.from({ length: SLOTS }, () => new Set());
  readonly #timer: NodeJS.Timeout;
  #number = 0;
  #tick = 0;
  #due = 0;
  #lastMs = performance.now();

  constructor(options: HostileOptions) {
    this.#options = options;
    this.#kinds = options.kinds ?? KINDS;
    this.fates = Object.fromEntries(KINDS.map((kind) => [kind, noFates()])) as Record<Kind, Fates>;
    const spillDir = tmpdir();
    this.#reactor = createReactor({
      arena: createArena(1 << 20, spillDir),
      spillDir,
      spillThresholdBytes: 1 << 20,
      maxConnections: 65_536,
      maxLineBytes: 512,
      holdAfterVerbs: false,
      lingerMs: 0,
      onTurn: (count) => this.#turn(count),
    });
    this.#timer = setInterval(() => this.#onTick(), TICK_MS);
  }

  /** Begun. */
  get connections(): number {
    return this.#sum('begun');
  }

  /** Turned away with 421 or 554 before a banner. */
  get turnedAway(): number {
    return this.#sum('turnedAway');
  }

  #sum(figure: keyof Fates): number {
    return KINDS.reduce((sum, kind) => sum + this.fates[kind][figure], 0);
  }

  #onTick(): void {
    const nowMs = performance.now();
    // One that fell behind makes up for half a second, not for more: it would be a burst that nobody asked for.
    const elapsedMs = Math.min(nowMs - this.#lastMs, 500);
    this.#due += (elapsedMs * this.#options.perSecond) / 1000;
    this.#lastMs = nowMs;
    this.#tick = (this.#tick + 1) % SLOTS;
    for (; this.#due >= 1; this.#due--) this.#connect(nowMs);
    for (const id of this.#slow[this.#tick] as Set<number>) this.#reactor.send(id, octet);
    this.#leave(nowMs);
    this.#reactor.flush();
  }

  #connect(nowMs: number): void {
    const { port, addresses, stayMs } = this.#options;
    const number = this.#number++;
    const kind = this.#kinds[number % this.#kinds.length] as Kind;
    const at = number % addresses;
    const source = `127.9.${Math.floor(at / 250)}.${(at % 250) + 1}`;
    const id = this.#reactor.connect('127.0.0.1', port, source, CONNECT_TIMEOUT_MS);
    if (id < 0) throw new Error('the reactor has no free connection');
    this.fates[kind].begun++;
    const client = { id, kind, leaveAtMs: nowMs + stayMs, read: false };
    this.#clients.set(id, client);
    this.#leaving.push(client);
  }

  #leave(nowMs: number): void {
    let gone = 0;
    for (const client of this.#leaving) {
      if (client.leaveAtMs > nowMs) break;
      gone++;
      if (this.#clients.get(client.id) !== client) continue;
      this.fates[client.kind].left++;
      this.#forget(client);
      this.#reactor.close(client.id, true);
    }
    if (gone > 0) this.#leaving.splice(0, gone);
  }

  #forget(client: Client): void {
    this.#clients.delete(client.id);
    if (client.kind === 'slow') for (const slot of this.#slow) slot.delete(client.id);
  }

  #turn(count: number): void {
    const { events, text } = this.#reactor;
    for (let at = 0; at < count * EVENT_WORDS; at += EVENT_WORDS) {
      const client = this.#clients.get(events[at + 1] as number);
      if (client === undefined) continue;
      const a = events[at + 2] as number;
      switch ((events[at] as number) & 0xff) {
        case EVENT.opened:
          this.#opened(client);
          break;
        case EVENT.line:
          // 'NNN-' goes on.
          if (text[a + 3] !== 45) this.#reply(client, text[a] as number);
          break;
        case EVENT.closed:
          this.#forget(client);
          if (a === CLOSE_REASON.connectFailed) this.fates[client.kind].unconnected++;
          else this.fates[client.kind].ended++;
      }
    }
  }

  #opened({ id, kind }: Client): void {
    const bytes = AT_ONCE[kind];
    if (bytes !== undefined) this.#reactor.send(id, bytes);
    if (kind === 'slow') this.#slow[this.#tick]?.add(id);
  }

  /** @param digit the first of the reply. */
  #reply(client: Client, digit: number): void {
    const fates = this.fates[client.kind];
    fates.replies++;
    if (client.read) return;
    client.read = true;
    if (digit !== 50) {
      fates.turnedAway++;
      return;
    }
    fates.greeted++;
    const bytes = GREETED[client.kind];
    if (bytes !== undefined) this.#reactor.send(client.id, bytes);
  }

  /** All leave at once. */
  stop(): void {
    clearInterval(this.#timer);
    this.#reactor.destroy();
  }
}
