/**
 * Hostile clients, so many a second: garbage, one octet at a time, those who talk before the banner, those who guess
 * logins and recipients, those who connect and stay. Each comes from an address of its own range of 127.0.0.0/8.
 */
import { connect, type Socket } from 'node:net';

export interface HostileOptions {
  port: number;
  perSecond: number;
  /** Addresses they come from: 127.9.0.1 and on. */
  addresses: number;
  /** How long one stays at most. */
  stayMs: number;
}

const TICK_MS = 20;

type Behaviour = (socket: Socket) => void;

const garbage = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 167 + 13) & 255));

const BEHAVIOURS: Behaviour[] = [
  (socket) => socket.write(garbage),
  (socket) => socket.write('EHLO x\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<c@d.net>\r\nDATA\r\n'),
  (socket) => {
    const slow = setInterval(() => socket.write('E'), 100);
    socket.on('close', () => clearInterval(slow));
  },
  (socket) => socket.once('data', () => socket.write(`EHLO x\r\n${'AUTH PLAIN AHUAcA==\r\n'.repeat(20)}`)),
  (socket) =>
    socket.once('data', () => {
      const guesses = Array.from({ length: 30 }, (_, i) => `RCPT TO:<user${i}@elsewhere.net>\r\n`);
      socket.write(`EHLO x\r\nMAIL FROM:<a@b.net>\r\n${guesses.join('')}`);
    }),
  () => {},
];

export class Hostile {
  /** Begun, and turned away with 421 or 554 before a banner. */
  connections = 0;
  turnedAway = 0;
  readonly #options: HostileOptions;
  readonly #sockets = new Set<Socket>();
  readonly #timer: NodeJS.Timeout;
  #due = 0;
  #lastMs = performance.now();

  constructor(options: HostileOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    const nowMs = performance.now();
    this.#due += ((nowMs - this.#lastMs) * this.#options.perSecond) / 1000;
    this.#lastMs = nowMs;
    for (; this.#due >= 1; this.#due--) this.#connect();
  }

  #connect(): void {
    const { port, addresses, stayMs } = this.#options;
    const number = this.connections++;
    const at = number % addresses;
    const localAddress = `127.9.${Math.floor(at / 250)}.${(at % 250) + 1}`;
    const socket = connect({ host: '127.0.0.1', port, localAddress });
    this.#sockets.add(socket);
    const leave = setTimeout(() => socket.destroy(), stayMs);
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(leave);
      this.#sockets.delete(socket);
    });
    socket.once('data', (text) => {
      if (/^(421|554) /.test(text.toString('latin1'))) this.turnedAway++;
    });
    socket.once('connect', () => BEHAVIOURS[number % BEHAVIOURS.length]?.(socket));
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
  }
}
