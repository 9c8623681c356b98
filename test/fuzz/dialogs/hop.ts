/**
 * A next hop that answers from a grammar: as it should for the most part, else with other codes, replies of many lines or
 * of none, early ones, joined ones, garbage, broken TLS, odd challenges, silence and closes. What it says follows from the
 * seed of the round and the number of the connection.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { LOCALHOST } from '../../native/tls-rig.ts';
import { Dice } from '../../support/dice.ts';

const CODES = [
  200, 211, 220, 221, 235, 250, 251, 252, 334, 354, 421, 421, 432, 450, 451, 452, 454, 455, 500, 501, 502, 503, 504, 521, 523, 530,
  534, 535, 538, 550, 551, 552, 553, 554, 555, 556, 571, 600, 999, 99, 2500,
]; // biome-ignore format: codes
const OFFERS = [
  'PIPELINING', 'PIPELINING', '8BITMIME', 'SMTPUTF8', 'DSN', 'ENHANCEDSTATUSCODES', 'CHUNKING', 'BINARYMIME', 'SIZE', 'SIZE 0',
  'SIZE 500', 'SIZE x', 'SIZE 99999999999999999999', 'STARTTLS', 'STARTTLS', 'STARTTLS x', 'REQUIRETLS', 'XCLIENT ADDR', 'LIMITS MAILMAX=1 RCPTMAX=1',
  'AUTH PLAIN LOGIN', 'AUTH=LOGIN', 'AUTH CRAM-MD5', 'AUTH SCRAM-SHA-256', 'AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256', 'AUTH', 'AUTH XOAUTH2 __proto__',
  '__proto__', 'constructor', '', '\xff', 'VRFY', 'HELP',
]; // biome-ignore format: capabilities

type Verb =
  | 'greeting'
  | 'ehlo'
  | 'helo'
  | 'starttls'
  | 'auth'
  | 'mail'
  | 'rcpt'
  | 'data'
  | 'dot'
  | 'rset'
  | 'quit'
  | 'other';

/** What is right at each place; of EHLO the grammar makes more. */
const PROPER: Record<Verb, string> = {
  greeting: '220 hop.test ESMTP',
  ehlo: '',
  helo: '250 hop.test',
  starttls: '220 go ahead',
  auth: '235 2.7.0 welcome',
  mail: '250 2.1.0 ok',
  rcpt: '250 2.1.5 ok',
  data: '354 go on',
  dot: '250 2.0.0 taken',
  rset: '250 2.0.0 ok',
  quit: '221 2.0.0 bye',
  other: '500 5.5.2 what?',
};

export class Hop {
  seed = 0;
  /** Between rounds everybody is turned away. */
  closing = false;
  connections = 0;
  readonly #open = new Set<Socket>();
  readonly #server: Server;
  readonly context: SecureContext = createSecureContext({ cert: LOCALHOST.certificate, key: LOCALHOST.key });

  private constructor() {
    this.#server = createServer((socket) => {
      socket.on('error', () => {});
      if (this.closing) {
        socket.destroy();
        return;
      }
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
      new HopDialog(this, socket, new Dice(this.seed, ++this.connections)).begin();
    });
  }

  static async start(): Promise<Hop> {
    const hop = new Hop();
    hop.#server.listen(0, '127.0.0.1');
    await once(hop.#server, 'listening');
    return hop;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  begin(seed: number): void {
    this.seed = seed;
    this.connections = 0;
    this.closing = false;
  }

  turnAway(): void {
    this.closing = true;
    for (const socket of this.#open) socket.destroy();
  }

  async stop(): Promise<void> {
    this.turnAway();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

class HopDialog {
  readonly #hop: Hop;
  readonly #d: Dice;
  /** Share of replies that are odd: some peers are nearly right, and their dialogs get far. */
  readonly #oddness: number;
  readonly #raw: Socket;
  #socket: Socket;
  #text = '';
  /** Octets of a chunk still to come; -1: lines; -2: content up to its dot. */
  #reading = -1;
  #lastChunk = false;
  #inAuth = 0;

  constructor(hop: Hop, socket: Socket, dice: Dice) {
    this.#hop = hop;
    this.#raw = socket;
    this.#socket = socket;
    this.#d = dice;
    this.#oddness = dice.pick([0, 0.03, 0.1, 0.3]);
    socket.setNoDelay(true);
  }

  begin(): void {
    this.#listen(this.#socket);
    this.#answer('greeting');
  }

  #listen(socket: Socket): void {
    socket.on('data', (bytes: Buffer) => {
      this.#text += bytes.toString('latin1');
      while (!this.#raw.destroyed && this.#take());
    });
  }

  /** Reads one thing that the client says; false when it is not whole. */
  #take(): boolean {
    if (this.#reading >= 0) {
      const taken = Math.min(this.#reading, this.#text.length);
      this.#text = this.#text.slice(taken);
      this.#reading -= taken;
      if (this.#reading > 0) return false;
      this.#reading = -1;
      this.#answer(this.#lastChunk ? 'dot' : 'rset');
      return true;
    }
    const mark = this.#reading === -2 ? '\r\n.\r\n' : '\r\n';
    const end = this.#text.indexOf(mark);
    if (end === -1) return false;
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + mark.length);
    if (this.#reading === -2) {
      this.#reading = -1;
      this.#answer('dot');
    } else this.#line(line);
    return true;
  }

  #line(line: string): void {
    const [, verb = ''] = /^([a-z]*)/i.exec(line.toUpperCase()) ?? [];
    if (this.#inAuth > 0) {
      this.#inAuth--;
      this.#auth();
    } else if (verb === 'AUTH') {
      this.#inAuth = this.#d.below(4);
      this.#auth();
    } else if (verb === 'BDAT') {
      this.#reading = Number(/^BDAT (\d+)/i.exec(line)?.[1] ?? 0);
      this.#lastChunk = / LAST$/i.test(line);
    } else if (verb === 'STARTTLS') this.#startTls();
    else if (verb === 'DATA') {
      this.#answer('data');
      // A hop that refused goes on reading lines, and one that did not may do so too.
      if (this.#d.chance(0.97)) this.#reading = -2;
      // The end of an empty content stands at the start of a line.
      this.#text = `\r\n${this.#text}`;
    } else {
      const known = (['ehlo', 'helo', 'mail', 'rcpt', 'rset', 'quit'] as const).find(
        (one) => one.toUpperCase() === verb,
      );
      this.#answer(known ?? 'other');
      if (verb === 'QUIT') this.#socket.end();
    }
  }

  #auth(): void {
    const d = this.#d;
    if (this.#inAuth === 0) {
      this.#answer('auth');
      return;
    }
    const server = Buffer.from('r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096').toString('base64');
    const challenge = [
      'VXNlcm5hbWU6',
      'VXNlcm5hbWU6 extra',
      '',
      '=',
      server,
      d.base64(40),
      d.octets(20),
      'PDEuMkBob3A+',
      'eyJzdGF0dXMiOiI0MDEifQ==',
    ];
    this.#say(`334 ${d.pick(challenge)}\r\n`);
  }

  #startTls(): void {
    const d = this.#d;
    if (d.chance(this.#oddness)) {
      this.#answer('starttls');
      return;
    }
    const injected = d.chance(0.05) ? '250 injected\r\n' : '';
    this.#say(`${PROPER.starttls}\r\n${injected}`);
    d.branch(
      [8, () => this.#secure()],
      [
        1,
        () =>
          this.#say(d.pick(['no TLS\r\n', '\x15\x03\x01\0\x02\x02\x28', '\x16\x03\x03\x40\0', d.octets(50)])),
      ],
      [1, () => this.#raw.destroy()],
      [0.3, () => {}],
    );
  }

  #secure(): void {
    this.#raw.removeAllListeners('data');
    const secure = new TLSSocket(this.#raw, { isServer: true, secureContext: this.#hop.context });
    secure.on('error', () => this.#raw.destroy());
    this.#socket = secure;
    this.#text = '';
    this.#listen(secure);
    // In the middle of the handshake, or right behind it.
    if (this.#d.chance(0.1)) this.#raw.once('data', () => this.#raw.destroy());
  }

  #answer(verb: Verb): void {
    const d = this.#d;
    const proper = verb === 'ehlo' ? this.#offers() : PROPER[verb];
    if (!d.chance(this.#oddness)) {
      this.#say(`${proper}\r\n`);
      return;
    }
    const other = (): string =>
      `${d.pick(CODES)}${d.pick([' ', ' ', ' 5.7.1 ', ' 4.3.0 ', '\t', '', ' 5.'])}text`;
    d.branch(
      [8, () => this.#say(`${other()}\r\n`)],
      [3, () => this.#many(proper)],
      [2, () => this.#say(`${proper}\r\n${d.times(1 + d.below(5), other).join('\r\n')}\r\n`)],
      [1, () => this.#say(`${proper}\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n`)],
      [1, () => this.#say(`${proper}\n`)],
      [1, () => this.#say(`${d.octets(40)}\r\n`)],
      [1, () => this.#say(d.octets(40))],
      [1, () => this.#say(`${proper}${'x'.repeat(d.pick([600, 5000, 70_000]))}\r\n`)],
      [0.3, () => this.#say(`${'250-x\r\n'.repeat(3000)}`)],
      [1, () => this.#pieces(`${proper}\r\n`)],
      [1, () => this.#socket.end(`${proper}\r\n`, 'latin1')],
      [1, () => this.#socket.end(`421 4.3.2 bye\r\n`)],
      [1, () => this.#raw.destroy()],
      // Node cannot reset below TLS.
      [1, () => (this.#socket === this.#raw ? this.#raw.resetAndDestroy() : this.#raw.destroy())],
      [1, () => {}],
    );
  }

  #offers(): string {
    const d = this.#d;
    const offers = ['hop.test', ...d.times(d.below(9), () => d.pick(OFFERS))];
    return offers.map((text, i) => `250${i === offers.length - 1 ? ' ' : '-'}${text}`).join('\r\n');
  }

  /** Lines of one reply, whose codes may differ, and whose end may be missing. */
  #many(proper: string): void {
    const d = this.#d;
    const code = (): string => (d.chance(0.6) ? proper.slice(0, 3) : String(d.pick(CODES)));
    const lines = d.times(1 + d.below(4), () => `${code()}-${d.pick(['line', '', '5.1.1 x', '\0', '\xff'])}`);
    lines.push(`${code()}${d.pick([' end', '', '-end', 'end'])}`);
    this.#say(`${lines.join('\r\n')}\r\n`);
  }

  #pieces(text: string): void {
    const cut = this.#d.below(text.length);
    this.#say(text.slice(0, cut));
    setImmediate(() => this.#say(text.slice(cut)));
  }

  #say(text: string): void {
    if (!this.#socket.destroyed && !this.#socket.writableEnded) this.#socket.write(text, 'latin1');
  }
}
