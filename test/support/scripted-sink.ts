/**
 * An SMTP server for tests, in plain node:net, that obeys the addresses it is given and records every message whole.
 *
 *   const sink = await ScriptedSink.start({ capabilities: ['PIPELINING', 'SIZE 1000000'] });
 *   config.delivery.smarthost = { host: '127.0.0.1', port: sink.port };
 *   await sink.received(3);                    // resolves when 3 messages were accepted
 *   sink.messages[0].content                   // exact bytes after unstuffing
 *   await sink.stop();
 *
 * Addresses. The local part says what happens, `+anything` after it makes addresses differ:
 *   451-at-rcpt@…    any code at a stage: mail (in the reverse-path), rcpt, data (reply to DATA), dot (final reply).
 *                    421 closes the connection afterwards. `250-at-data` answers out of turn.
 *   defer-451@…      short for 451-at-rcpt        bounce-550@…   short for 550-at-rcpt
 *   drop-at-STAGE@…  closes instead of replying (dot: the message is complete, but not recorded as accepted)
 *   hang-at-STAGE@…  never replies                 shut-at-dot@…  replies 250, then closes
 *   garbage-at-STAGE@…  sends a line that is no reply
 *   long-at-STAGE@…  a positive reply of 300 lines  wide-at-STAGE@… a positive reply of 8,000 characters
 *   drop-in-content@… closes after the first content bytes
 *   slow@…           final reply after 200 ms       slow-N@…       after N ms
 *   once-WHAT@…      the first time the address is met WHAT happens, later it is accepted
 *   anything else    accepted
 * `options.faults` asks for the same whatever the address: { mail: '450' }, { dot: 'drop' }. Beginning with '=' it is
 * the reply as written, lines of many joined by '\r\n': { dot: '=250-ok\r\n200 id' }.
 *
 * Options say what does not depend on an address: greeting, EHLO and HELO replies, capabilities, limits, delays.
 * They are read live: `sink.options.greeting = '421 …'` holds from the next connection on.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions, TLSSocket } from 'node:tls';

export interface SinkOptions {
  host?: string;
  port?: number;
  /** First line, 'drop' or 'hang'. Default '220 sink.test ESMTP'. A 4xx or 5xx greeting closes the connection. */
  greeting?: string;
  /** Lines of the EHLO reply after the first. Default: PIPELINING, 8BITMIME, SMTPUTF8, SIZE, DSN, ENHANCEDSTATUSCODES. */
  capabilities?: string[];
  /** Answer to EHLO other than 250, '502 5.5.1 what?', 'drop' or 'hang'; the same for HELO. */
  ehlo?: string;
  helo?: string;
  /** One more recipient gets 452 4.5.3. */
  maxRecipients?: number;
  /** After so many messages the connection ends: 'close' right after the 250, '421' at the next MAIL, 'drop' there without a reply. */
  maxMessages?: number;
  atMaxMessages?: 'close' | '421' | 'drop';
  /** That reply to MAIL as written; one that is no 421 leaves the connection open. */
  tooManyReply?: string;
  /** Reply to a RCPT whose domain is not that of the first of the transaction. */
  otherDomain?: string;
  /** Reply to a RCPT whose domain is not that of the first of the connection; 'drop' closes it. */
  otherDomainOfConnection?: string;
  /** After so many RCPTs on the connection, the reply to each further one; 'drop' closes it. */
  recipientsOfConnection?: { most: number; reply: string };
  /** Of a transaction of more recipients, the reply at a stage. */
  splitOver?: { recipients: number; at: 'data' | 'dot'; reply: string };
  /** DATA without an accepted recipient: '554' (default) or '354', which then takes the content. */
  emptyData?: '554' | '354';
  /** Milliseconds before the reply of a stage. */
  delays?: Partial<Record<'greeting' | 'ehlo' | Stage, number>>;
  /** What happens at a stage whatever the address. */
  faults?: Partial<Record<Stage | 'content', string>>;
  /** The same, as long as TLS has not begun. */
  clearFaults?: Partial<Record<Stage | 'content', string>>;
  /** Answer to RSET, 'drop' or 'hang'. */
  rset?: string;
  /** Offers STARTTLS, or speaks TLS from the first byte. */
  tls?: SinkTls;
  /**
   * Answers AUTH and each response after a 334, '' for an empty one; MAIL without a 235 is refused. What is offered is for
   * `capabilities` to say.
   */
  auth?: (line: string) => string;
  /** false: messages are counted, their content is not kept. */
  keepContent?: boolean;
}

export interface SinkTls extends SecureContextOptions {
  implicit?: boolean;
  /** Keep STARTTLS out of the EHLO reply, as one who strips it does. */
  hidden?: boolean;
  /** Reply to STARTTLS other than 220, 'drop' or 'hang'. */
  reply?: string;
  /** Sent in the clear behind the 220. */
  injected?: string;
  /** In place of a handshake: 'garbage', 'drop' (close), 'hang', or an alert's octets. */
  fault?: 'garbage' | 'drop' | 'hang' | Buffer;
  /** When the handshake stands: close, reset, say nothing more, or send what is not of TLS. */
  afterwards?: 'drop' | 'reset' | 'hang' | 'garbage';
  requestCert?: boolean;
}

export type Stage = 'mail' | 'rcpt' | 'data' | 'dot';

export interface SinkMessage {
  /** Number of the connection, from 1. */
  connection: number;
  hello: string;
  /** Reverse-path without brackets, and the parameters as sent. */
  from: string;
  fromParams: string[];
  /** Accepted forward-paths. */
  recipients: { address: string; params: string[] }[];
  content: Buffer;
  via: 'DATA' | 'BDAT';
}

interface Fault {
  what: string;
  stage: string;
}

const CAPABILITIES = ['PIPELINING', 'SIZE 104857600', '8BITMIME', 'SMTPUTF8', 'DSN', 'ENHANCEDSTATUSCODES'];
const END = Buffer.from('\r\n.\r\n');

export class ScriptedSink {
  readonly options: SinkOptions;
  /** Messages accepted with 250, in order. */
  readonly messages: SinkMessage[] = [];
  /** Messages whose content was complete but that got no 250. */
  readonly unaccepted: SinkMessage[] = [];
  /** 'N: LINE' for each command line, N the number of its connection. */
  readonly commands: string[] = [];
  /** What the client did against the rules (commands sent ahead without PIPELINING, 503s). */
  readonly violations: string[] = [];
  /** 'TLSv1.3 localhost resumed' for each handshake: version, name asked for, whether resumed; subject of a certificate. */
  readonly handshakes: string[] = [];
  /** Connections ever made. */
  connections = 0;
  /** Most connections open at once. */
  peakConnections = 0;
  readonly open = new Set<SinkConnection>();
  readonly seen = new Set<string>();
  readonly #server: Server;
  #waiters: { ready: () => boolean; resolve: () => void }[] = [];

  private constructor(server: Server, options: SinkOptions) {
    this.#server = server;
    this.options = options;
    server.on('connection', (socket) => {
      this.open.add(new SinkConnection(this, socket, ++this.connections));
      this.peakConnections = Math.max(this.peakConnections, this.open.size);
      this.changed();
    });
  }

  static async start(options: SinkOptions = {}): Promise<ScriptedSink> {
    const server = createServer();
    server.listen(options.port ?? 0, options.host ?? '127.0.0.1');
    await once(server, 'listening');
    return new ScriptedSink(server, options);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves once `count` messages were accepted. */
  received(count: number): Promise<void> {
    return this.until(() => this.messages.length >= count);
  }

  /** Resolves once the condition holds; looked at after each message, command, connection opened or closed. */
  until(ready: () => boolean): Promise<void> {
    if (ready()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ ready, resolve }));
  }

  /** Closes every connection now, as a crash of the peer would. */
  dropAll(): void {
    for (const connection of this.open) connection.socket.destroy();
  }

  async stop(): Promise<void> {
    this.dropAll();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  changed(): void {
    if (this.#waiters.length === 0) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (waiter.ready()) waiter.resolve();
      else this.#waiters.push(waiter);
    }
  }
}

/** One connection: reads lines or content, obeys faults, answers in order. */
class SinkConnection {
  socket: Socket;
  readonly #sink: ScriptedSink;
  readonly #number: number;
  #gathered: Buffer = Buffer.alloc(0);
  #mode: 'lines' | 'data' | 'bdat' | 'deaf' = 'lines';
  /** A reply waits for its time: nothing more is read until then. */
  #busy = false;
  #timer: NodeJS.Timeout | undefined;
  #hello = '';
  #extended = false;
  #from: { address: string; params: string[] } | null = null;
  #recipients: SinkMessage['recipients'] = [];
  #dotFault: Fault | null = null;
  #dataFault: Fault | null = null;
  #chunks: Buffer[] = [];
  #chunkLeft = 0;
  #chunkLast = false;
  #authenticated = false;
  #inAuth = false;
  #accepted = 0;
  #firstDomain = '';
  #rcpts = 0;
  /** Where the search for the end of data goes on. */
  #searched = 0;

  constructor(sink: ScriptedSink, socket: Socket, number: number) {
    this.#sink = sink;
    this.socket = socket;
    this.#number = number;
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(this.#timer);
      sink.open.delete(this);
      sink.changed();
    });
    if (sink.options.tls?.implicit === true) this.#secure(sink.options.tls, () => this.#greet());
    else {
      socket.on('data', this.#onData);
      this.#greet();
    }
  }

  readonly #onData = (bytes: Buffer): void => {
    this.#gathered = this.#gathered.length === 0 ? bytes : Buffer.concat([this.#gathered, bytes]);
    this.#pump();
  };

  #secure(tls: SinkTls, done: () => void): void {
    const plain = this.socket;
    plain.off('data', this.#onData);
    this.#gathered = Buffer.alloc(0);
    if (tls.fault !== undefined) {
      const { fault } = tls;
      // After the client's first octets: what comes before is clear text to it.
      if (fault === 'drop') plain.destroy();
      else if (fault !== 'hang')
        plain.once('data', () => plain.write(fault === 'garbage' ? 'no TLS here, sorry\r\n' : fault));
      return;
    }
    const context = { secureContext: createSecureContext(tls), requestCert: tls.requestCert ?? false };
    const secure = new TLSSocket(plain, { isServer: true, rejectUnauthorized: false, ...context });
    secure.on('error', () => plain.destroy());
    secure.on('secure', () => {
      const subject = (secure.getPeerCertificate() as { subject?: { CN?: string } } | null)?.subject?.CN;
      const notes = [secure.isSessionReused() ? 'resumed' : '', subject ?? ''].filter(Boolean);
      const name = (secure as unknown as { servername: string | false }).servername || '-';
      this.#sink.handshakes.push([secure.getProtocol(), name, ...notes].join(' '));
      this.socket = secure;
      this.#extended = false;
      this.#sink.changed();
      if (tls.afterwards === undefined) done();
      else {
        secure.off('data', this.#onData).resume();
        if (tls.afterwards === 'drop') secure.end();
        else if (tls.afterwards === 'reset') plain.resetAndDestroy();
        else if (tls.afterwards === 'garbage') plain.write('no TLS here any more\r\n');
      }
    });
    secure.on('data', this.#onData);
  }

  #startTls(): void {
    const { tls } = this.#sink.options;
    if (tls === undefined || this.socket instanceof TLSSocket) this.#violation('502 5.5.1 no STARTTLS');
    else if (tls.reply !== undefined) this.#scripted(tls.reply);
    else {
      this.#say(`220 2.0.0 go ahead${tls.injected ?? ''}`);
      this.#secure(tls, () => {});
    }
  }

  #greet(): void {
    const { sink, socket } = { sink: this.#sink, socket: this.socket };
    const greeting = sink.options.greeting ?? '220 sink.test ESMTP';
    this.#after(sink.options.delays?.greeting, () => {
      this.#scripted(greeting);
      if (/^[45]/.test(greeting)) socket.end();
    });
  }

  #scripted(reply: string): void {
    if (reply === 'drop') this.socket.destroy();
    else if (reply === 'hang') this.#mode = 'deaf';
    else this.#say(reply);
  }

  #say(reply: string): void {
    if (!this.socket.destroyed) this.socket.write(`${reply}\r\n`, 'utf8');
  }

  #after(delayMs: number | undefined, answer: () => void) {
    if (delayMs === undefined || delayMs === 0) return answer();
    this.#busy = true;
    const timer = setTimeout(() => {
      this.#busy = false;
      answer();
      this.#pump();
    }, delayMs);
    this.#timer = timer;
  }

  #pump(): void {
    while (!this.#busy && this.#mode !== 'deaf' && !this.socket.destroyed) {
      if (this.#mode === 'lines' ? !this.#line() : this.#mode === 'data' ? !this.#data() : !this.#bdat())
        return;
    }
  }

  #line(): boolean {
    const end = this.#gathered.indexOf('\r\n');
    if (end === -1) return false;
    const line = this.#gathered.toString('utf8', 0, end);
    this.#gathered = this.#gathered.subarray(end + 2);
    this.#sink.commands.push(`${this.#number}: ${line}`);
    const verb = this.#inAuth ? 'AUTH' : (line.split(' ', 1)[0]?.toUpperCase() ?? '');
    if (this.#gathered.length > 0 && verb !== 'BDAT' && !this.#offers('PIPELINING'))
      this.#sink.violations.push(`sent ahead of the reply to: ${line}`);
    this.#command(verb, line);
    this.#sink.changed();
    return true;
  }

  #offers(capability: string): boolean {
    const offered = this.#sink.options.capabilities ?? CAPABILITIES;
    return this.#extended && offered.some((line) => line.toUpperCase().split(' ')[0] === capability);
  }

  #command(verb: string, line: string): void {
    const delays = this.#sink.options.delays;
    if (verb === 'EHLO') this.#after(delays?.ehlo, () => this.#ehlo(line));
    else if (verb === 'HELO') this.#after(delays?.ehlo, () => this.#helo(line));
    else if (verb === 'MAIL') this.#after(delays?.mail, () => this.#mail(line));
    else if (verb === 'RCPT') this.#after(delays?.rcpt, () => this.#rcpt(line));
    else if (verb === 'DATA') this.#after(delays?.data, () => this.#dataCommand());
    else if (verb === 'BDAT') this.#bdatCommand(line);
    else if (verb === 'STARTTLS') this.#startTls();
    else if (verb === 'RSET' && this.#sink.options.rset !== undefined)
      this.#scripted(this.#sink.options.rset);
    else if (verb === 'RSET') this.#reset('250 2.0.0 reset');
    else if (verb === 'AUTH' && this.#sink.options.auth !== undefined)
      this.#auth(this.#sink.options.auth(line));
    else if (verb === 'NOOP') this.#say('250 2.0.0 ok');
    else if (verb === 'QUIT') {
      this.#say('221 2.0.0 bye');
      this.socket.end();
    } else this.#violation(`500 5.5.2 unknown: ${line}`);
  }

  #auth(reply: string): void {
    this.#inAuth = reply.startsWith('334');
    this.#authenticated ||= reply.startsWith('235');
    this.#say(reply);
  }

  #violation(reply: string): void {
    this.#sink.violations.push(`${this.#number}: ${reply}`);
    this.#say(reply);
  }

  #reset(reply: string): void {
    this.#from = null;
    this.#recipients = [];
    this.#chunks = [];
    this.#dotFault = null;
    this.#dataFault = null;
    this.#say(reply);
  }

  #ehlo(line: string) {
    const scripted = this.#sink.options.ehlo;
    if (scripted !== undefined) return this.#scripted(scripted);
    this.#hello = line.slice(5);
    this.#extended = true;
    const { tls, capabilities } = this.#sink.options;
    const offersTls = tls !== undefined && tls.hidden !== true && !(this.socket instanceof TLSSocket);
    const lines = ['sink.test', ...(capabilities ?? CAPABILITIES), ...(offersTls ? ['STARTTLS'] : [])];
    this.#say(lines.map((text, i) => `250${i === lines.length - 1 ? ' ' : '-'}${text}`).join('\r\n'));
  }

  #helo(line: string) {
    const scripted = this.#sink.options.helo;
    if (scripted !== undefined) return this.#scripted(scripted);
    this.#hello = line.slice(5);
    this.#say('250 sink.test');
  }

  #mail(line: string) {
    const path = /^MAIL FROM:<([^>]*)>(.*)$/i.exec(line);
    if (path === null) return this.#violation(`501 5.5.4 ${line}`);
    if (this.#from !== null) return this.#violation('503 5.5.1 nested MAIL');
    if (this.#sink.options.auth !== undefined && !this.#authenticated)
      return this.#violation('530 5.7.0 authenticate first');
    const limit = this.#sink.options.maxMessages;
    const isFull = limit !== undefined && this.#accepted >= limit;
    if (isFull && this.#sink.options.atMaxMessages === 'drop') return this.#hangUp();
    if (isFull && this.#sink.options.atMaxMessages === '421')
      return this.#tooMany(this.#sink.options.tooManyReply ?? '421 4.7.0 enough for this connection');
    const fault = this.#fault(path[1] as string, 'mail');
    if (fault !== null && !this.#positive(fault)) return this.#fail(fault, 'MAIL');
    this.#from = { address: path[1] as string, params: parameters(path[2] as string) };
    this.#positiveReply(fault, '250 2.1.0 sender ok');
  }

  #rcpt(line: string) {
    const path = /^RCPT TO:<((?:"[^"]*"|[^>])+)>(.*)$/i.exec(line);
    if (path === null) return this.#violation(`501 5.5.4 ${line}`);
    if (this.#from === null) return this.#say('503 5.5.1 RCPT before MAIL');
    const address = path[1] as string;
    const limit = this.#sink.options.maxRecipients;
    if (limit !== undefined && this.#recipients.length >= limit)
      return this.#say('452 4.5.3 too many recipients');
    const domain = address.slice(address.lastIndexOf('@'));
    const [first] = this.#recipients;
    const { otherDomain } = this.#sink.options;
    if (otherDomain !== undefined && first?.address.endsWith(domain) === false) return this.#say(otherDomain);
    this.#firstDomain ||= domain;
    const { otherDomainOfConnection: stranger, recipientsOfConnection: counted } = this.#sink.options;
    if (stranger !== undefined && domain !== this.#firstDomain) return this.#tooMany(stranger);
    if (counted !== undefined && ++this.#rcpts > counted.most) return this.#tooMany(counted.reply);
    const fault = this.#fault(address, 'rcpt');
    if (fault !== null && !this.#positive(fault)) return this.#fail(fault, `RCPT <${address}>`);
    this.#recipients.push({ address, params: parameters(path[2] as string) });
    this.#dataFault ??= this.#fault(address, 'data');
    this.#dotFault ??= this.#fault(address, 'dot') ?? this.#fault(address, 'content');
    const { splitOver } = this.#sink.options;
    if (splitOver !== undefined && this.#recipients.length > splitOver.recipients) {
      const split = { what: `=${splitOver.reply}`, stage: splitOver.at };
      if (splitOver.at === 'data') this.#dataFault = split;
      else this.#dotFault = split;
    }
    this.#positiveReply(fault, '250 2.1.5 recipient ok');
  }

  #dataCommand() {
    if (this.#from === null) return this.#say('503 5.5.1 DATA before MAIL');
    if (this.#recipients.length === 0 && this.#sink.options.emptyData !== '354')
      return this.#say('554 5.5.1 no valid recipients');
    if (this.#dataFault !== null && !this.#positive(this.#dataFault))
      return this.#fail(this.#dataFault, 'DATA');
    this.#positiveReply(this.#dataFault, '354 go on');
    this.#searched = 0;
    this.#mode = 'data';
  }

  #data(): boolean {
    if (this.#dotFault?.stage === 'content' && this.#gathered.length > 0) {
      this.socket.destroy();
      return false;
    }
    // An empty message ends with the dot at once.
    const empty = this.#gathered.length >= 3 && this.#gathered.toString('latin1', 0, 3) === '.\r\n';
    const end = empty ? 0 : this.#gathered.indexOf(END, Math.max(0, this.#searched - END.length));
    if (end === -1) {
      this.#searched = this.#gathered.length;
      return false;
    }
    const content = this.#gathered.subarray(0, empty ? 0 : end + 2);
    this.#gathered = this.#gathered.subarray(empty ? 3 : end + END.length);
    this.#mode = 'lines';
    this.#complete(unstuff(content), 'DATA');
    return true;
  }

  #bdatCommand(line: string) {
    const chunk = /^BDAT (\d+)( LAST)?$/i.exec(line);
    if (chunk === null || !this.#offers('CHUNKING')) return this.#violation(`501 5.5.4 ${line}`);
    this.#chunkLeft = Number(chunk[1]);
    this.#chunkLast = chunk[2] !== undefined;
    this.#mode = 'bdat';
  }

  #bdat(): boolean {
    if (this.#gathered.length < this.#chunkLeft) return false;
    this.#chunks.push(this.#gathered.subarray(0, this.#chunkLeft));
    this.#gathered = this.#gathered.subarray(this.#chunkLeft);
    this.#mode = 'lines';
    if (!this.#chunkLast) this.#say('250 2.0.0 chunk');
    else if (this.#recipients.length === 0) this.#reset('554 5.5.1 no valid recipients');
    else this.#complete(Buffer.concat(this.#chunks), 'BDAT');
    return true;
  }

  #complete(content: Buffer, via: SinkMessage['via']): void {
    const message: SinkMessage = {
      connection: this.#number,
      hello: this.#hello,
      from: this.#from?.address ?? '',
      fromParams: this.#from?.params ?? [],
      recipients: this.#recipients,
      content: this.#sink.options.keepContent === false ? Buffer.alloc(0) : Buffer.from(content),
      via,
    };
    const fault = this.#dotFault;
    const slow = /^slow(?:-(\d+))?$/.exec(fault?.what ?? '');
    const delayMs = slow !== null ? Number(slow[1] ?? 200) : this.#sink.options.delays?.dot;
    this.#after(delayMs, () => this.#finish(message, slow !== null ? null : fault));
  }

  #finish(message: SinkMessage, fault: Fault | null) {
    const refused = message.recipients.length === 0;
    if (refused) return this.#reset('250 2.0.0 nothing for nobody');
    const accepted = fault === null || this.#positive(fault) || fault.what === 'shut';
    if (!accepted) {
      this.#sink.unaccepted.push(message);
      this.#from = null;
      this.#recipients = [];
      this.#dotFault = null;
      this.#dataFault = null;
      this.#fail(fault as Fault, 'content');
      return this.#sink.changed();
    }
    this.#accepted++;
    this.#sink.messages.push(message);
    this.#from = null;
    this.#recipients = [];
    this.#chunks = [];
    this.#dotFault = null;
    this.#dataFault = null;
    this.#positiveReply(fault, '250 2.0.0 accepted');
    const limit = this.#sink.options.maxMessages;
    const { atMaxMessages = 'close' } = this.#sink.options;
    const full = limit !== undefined && this.#accepted >= limit && atMaxMessages === 'close';
    if (fault?.what === 'shut' || full) this.#hangUp();
    this.#sink.changed();
  }

  /** What was said before still arrives. */
  #hangUp(): void {
    this.#mode = 'deaf';
    this.socket.end();
  }

  /** What the address asks for at this stage, if anything. */
  #fault(address: string, stage: string): Fault | null {
    const local = address.slice(0, address.lastIndexOf('@')).replace(/^"|"$/g, '').split('+')[0] as string;
    const wanted = local.replace(/^once-/, '');
    const short = /^(?:defer|bounce)-(\d{3})$/.exec(wanted);
    const named = /^(\w+)-(?:at|in)-(mail|rcpt|data|dot|content)$/.exec(wanted);
    const { faults, clearFaults } = this.#sink.options;
    const clear = this.socket instanceof TLSSocket ? undefined : clearFaults?.[stage as Stage | 'content'];
    const always = clear ?? faults?.[stage as Stage | 'content'];
    if (always !== undefined) return { what: always, stage };
    let fault: Fault | null = null;
    if (short !== null) fault = { what: short[1] as string, stage: 'rcpt' };
    else if (named !== null) fault = { what: named[1] as string, stage: named[2] as string };
    else if (/^slow(-\d+)?$/.test(wanted)) fault = { what: wanted, stage: 'dot' };
    if (fault === null || fault.stage !== stage) return null;
    if (local === wanted) return fault;
    if (this.#sink.seen.has(address)) return null;
    this.#sink.seen.add(address);
    return fault;
  }

  #positive(fault: Fault): boolean {
    if (fault.what.startsWith('='))
      return /^[23]/.test(fault.what.split('\r\n').at(-1)?.replace('=', '') ?? '');
    return fault.what === 'long' || fault.what === 'wide' || /^[23]\d\d$/.test(fault.what);
  }

  #positiveReply(fault: Fault | null, reply: string): void {
    const code = reply.slice(0, 3);
    if (fault?.what === 'long') this.#say(`${`${code}-more\r\n`.repeat(299)}${reply}`);
    else if (fault?.what === 'wide') this.#say(`${reply} ${'x'.repeat(8000)}`);
    else if (fault?.what.startsWith('=')) this.#say(fault.what.slice(1));
    else if (fault !== null && /^\d{3}$/.test(fault.what)) this.#say(`${fault.what} as asked`);
    else this.#say(reply);
  }

  #fail(fault: Fault, at: string): void {
    if (fault.what === 'drop') this.socket.destroy();
    else if (fault.what === 'hang') this.#mode = 'deaf';
    else if (fault.what === 'garbage') this.#say('this is no reply');
    else if (fault.what.startsWith('=')) this.#say(fault.what.slice(1));
    else if (fault.what === '421') this.#close(`421 4.3.2 ${at} as asked`);
    else this.#say(`${fault.what} ${fault.what[0]}.7.1 ${at} as asked`);
  }

  #tooMany(reply: string): void {
    if (reply === 'drop') this.#hangUp();
    else if (reply.startsWith('421')) this.#close(reply);
    else this.#say(reply);
  }

  #close(reply: string): void {
    this.#say(reply);
    this.#mode = 'deaf';
    this.socket.end();
  }
}

function parameters(text: string): string[] {
  return text.trim().split(/ +/).filter(Boolean);
}

/** Removes the dot that each line of DATA content starting with one was given (RFC 5321 §4.5.2). */
function unstuff(content: Buffer): Buffer {
  if (content[0] !== 0x2e && content.indexOf('\r\n.') === -1) return content;
  const text = content.toString('latin1');
  return Buffer.from(text.replace(/^\./, '').replaceAll('\r\n.', '\r\n'), 'latin1');
}
