/**
 * A plain SMTP conversation for tests: what is written is written exactly, replies are read whole.
 *
 *   const talk = await Talk.open({ port });            // greeting read
 *   assert.match(await talk.say('EHLO test'), /^250/);
 *   await talk.send(message);                          // MAIL … 250, throws on any refusal
 */
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { bounded } from './relay-fixture.ts';

export interface Mail {
  from?: string;
  to: string | string[];
  /** Content with CRLF line ends; the final CRLF is added when missing. */
  content?: string | Buffer;
  /** Parameters after MAIL FROM:<…> and RCPT TO:<…>, with a leading space. */
  mailParameters?: string;
  rcptParameters?: string;
}

export class Talk {
  readonly socket: Socket;
  greeting = '';
  #gathered = '';
  #closed = false;
  #wake: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (bytes: Buffer) => {
      this.#gathered += bytes.toString('utf8');
      this.#changed();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#changed();
    });
  }

  /** Connects and reads the greeting. */
  static async open(where: NetConnectOpts): Promise<Talk> {
    const talk = new Talk(connect(where));
    talk.greeting = await talk.reply();
    return talk;
  }

  /** Connects, reads the greeting, says EHLO. */
  static async hello(where: NetConnectOpts): Promise<Talk> {
    const talk = await Talk.open(where);
    if (!talk.greeting.startsWith('220')) throw new Error(talk.greeting);
    const reply = await talk.say('EHLO client.test');
    if (!reply.startsWith('250')) throw new Error(`EHLO: ${reply}`);
    return talk;
  }

  /** Writes one line and reads its reply. */
  say(line: string): Promise<string> {
    this.write(`${line}\r\n`);
    return this.reply();
  }

  write(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  /** The next whole reply without its last CRLF; '' when the connection closed. */
  async reply(timeoutMs = 15_000): Promise<string> {
    for (;;) {
      const match = /^(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n/.exec(this.#gathered);
      if (match !== null) {
        this.#gathered = this.#gathered.slice(match[0].length);
        return match[0].trimEnd();
      }
      if (this.#closed) return '';
      const more = new Promise<void>((resolve) => this.#wake.push(resolve));
      await bounded(more, timeoutMs, () => `no reply; read so far: ${JSON.stringify(this.#gathered)}`);
    }
  }

  /** One whole transaction; returns the reply to the end of data, throws on any earlier refusal. */
  async send(mail: Mail): Promise<string> {
    const recipients = Array.isArray(mail.to) ? mail.to : [mail.to];
    await this.#expect(`MAIL FROM:<${mail.from ?? 'sender@client.test'}>${mail.mailParameters ?? ''}`, '250');
    for (const to of recipients) await this.#expect(`RCPT TO:<${to}>${mail.rcptParameters ?? ''}`, '250');
    await this.#expect('DATA', '354');
    const content = mail.content ?? 'Subject: test\r\n\r\nHello.\r\n';
    this.write(stuffed(content));
    return this.reply();
  }

  /** The same, and the message must be accepted; returns the queue id that the reply names. */
  async accepted(mail: Mail): Promise<string> {
    const reply = await this.send(mail);
    const queueId = /\b([0-9a-hjkmnp-tv-z]{16})\b/.exec(reply)?.[1];
    if (!reply.startsWith('250') || queueId === undefined) throw new Error(`not accepted: ${reply}`);
    return queueId;
  }

  async quit(): Promise<void> {
    await this.say('QUIT');
    await this.closed();
  }

  /** Resolves when the connection is gone. */
  async closed(timeoutMs = 15_000): Promise<void> {
    while (!this.#closed) {
      const more = new Promise<void>((resolve) => this.#wake.push(resolve));
      await bounded(more, timeoutMs, () => 'the connection stays open');
    }
  }

  destroy(): void {
    this.socket.destroy();
  }

  async #expect(line: string, code: string): Promise<void> {
    const reply = await this.say(line);
    if (!reply.startsWith(code)) throw new Error(`${line}: ${reply}`);
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** Content as DATA carries it: dots stuffed, CRLF.CRLF at the end. */
function stuffed(content: string | Buffer): Buffer {
  const text = Buffer.isBuffer(content)
    ? content.toString('latin1')
    : Buffer.from(content).toString('latin1');
  const whole = text.endsWith('\r\n') || text === '' ? text : `${text}\r\n`;
  return Buffer.from(`${whole.replace(/^\./, '..').replaceAll('\r\n.', '\r\n..')}.\r\n`, 'latin1');
}
