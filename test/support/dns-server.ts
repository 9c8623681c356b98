/**
 * A DNS server for tests, on UDP and TCP of one free loopback port.
 *
 *   const dns = await DnsServer.start({
 *     'example.test': { MX: [[10, 'mx1.example.test'], [20, 'mx2.example.test']] },
 *     'mx1.example.test': { A: ['127.0.0.1'], AAAA: ['::1'], ttl: 30 },
 *     'null.test': { MX: [[0, '.']] },
 *     'alias.test': { CNAME: 'example.test' },
 *     'broken.test': { fault: 'SERVFAIL' },        // also NXDOMAIN, REFUSED, timeout (no answer at all), truncate
 *     'late.test': { A: ['127.0.0.1'], delayMs: 50 },
 *   });
 *   config.dns.servers = [dns.address]              // '127.0.0.1:PORT'
 *   dns.set('example.test', …); dns.remove('example.test');
 *   dns.queries                                     // ['MX example.test', 'A mx1.example.test', …]
 *   await dns.stop();
 *
 * A name that is not in the table is NXDOMAIN; one that has no record of the type asked gets an empty answer. A
 * fault can be bound to one type: { A: ['127.0.0.1'], faults: { AAAA: 'SERVFAIL' } }. CNAMEs are followed.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Answer, decode, encode, type Question } from 'dns-packet';

/** What may be wrong with a name at this server; see DnsFault. */
export const DNS_FAULTS = [
  'SERVFAIL',
  'NXDOMAIN',
  'REFUSED',
  'NOTIMP',
  'FORMERR',
  'NOTAUTH',
  /** No answer at all. */
  'timeout',
  /** The answer is cut short over UDP, whole over TCP. */
  'truncate',
  /** The same, and TCP is closed at once. */
  'truncate-only',
  /** The answer is cut short over TCP as well. */
  'truncate-always',
  /** Nothing but NOERROR, from one that does not recurse. */
  'referral',
  /** Octets that are no message. */
  'garbage',
  /** A reply to our question whose records cannot be read. */
  'damaged',
  /** A reply to another question: by its id, by its name. */
  'other-id',
  'other-name',
  /** A code of failure, and no question repeated. */
  'bare',
] as const;
export type DnsFault = (typeof DNS_FAULTS)[number];

export interface DnsName {
  A?: string[];
  AAAA?: string[];
  /** [preference, exchange]; exchange '.' is the null MX. */
  MX?: [number, string][];
  TXT?: string[];
  PTR?: string[];
  CNAME?: string;
  /** What is at the name that CNAME names is left out. */
  aliasOnly?: boolean;
  /** [usage, selector, matching type, data in hex]. */
  TLSA?: [number, number, number, string][];
  /** Answered as validated (AD), where the question asks for that. */
  secure?: boolean;
  /** Seconds; default 60. */
  ttl?: number;
  /** For every type. */
  fault?: DnsFault;
  faults?: Record<string, DnsFault>;
  delayMs?: number;
  /** What questions with EDNS get: this server is older than that. */
  withoutEdns?: 'FORMERR' | 'NOTIMP';
}

const RCODES: Partial<Record<DnsFault, number>> = {
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  NOTAUTH: 9,
};
const RESPONSE = 0x8180;
const TRUNCATED = 0x0200;
const AUTHENTIC = 0x0020;

export class DnsServer {
  /** Every question, 'TYPE name', in order of arrival. */
  readonly queries: string[] = [];
  /** Ports that questions over UDP came from. */
  readonly ports = new Set<number>();
  readonly #names = new Map<string, DnsName>();
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #open = new Set<Socket>();
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(udp: UdpSocket, tcp: Server, names: Record<string, DnsName>) {
    this.#udp = udp;
    this.#tcp = tcp;
    for (const [name, records] of Object.entries(names)) this.set(name, records);
    udp.on('message', (bytes, from) => {
      this.ports.add(from.port);
      this.#answer(bytes, true, (reply) => udp.send(reply, from.port, from.address));
    });
    tcp.on('connection', (socket) => this.#serve(socket));
  }

  static async start(names: Record<string, DnsName> = {}): Promise<DnsServer> {
    for (;;) {
      const udp = createSocket('udp4');
      udp.bind(0, '127.0.0.1');
      await once(udp, 'listening');
      const tcp = createServer();
      tcp.listen(udp.address().port, '127.0.0.1');
      try {
        await once(tcp, 'listening');
        return new DnsServer(udp, tcp, names);
      } catch {
        // Another program has the TCP port of that number: take another one.
        udp.close();
      }
    }
  }

  get port(): number {
    return (this.#udp.address() as AddressInfo).port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  set(name: string, records: DnsName): void {
    this.#names.set(name.toLowerCase(), records);
  }

  remove(name: string): void {
    this.#names.delete(name.toLowerCase());
  }

  /** How often `TYPE name` was asked. */
  asked(question: string): number {
    return this.queries.filter((query) => query === question).length;
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of this.#open) socket.destroy();
    this.#udp.close();
    this.#tcp.close();
    await once(this.#tcp, 'close');
  }

  #serve(socket: Socket): void {
    this.#open.add(socket);
    socket.on('close', () => this.#open.delete(socket));
    socket.on('error', () => socket.destroy());
    let gathered = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      gathered = Buffer.concat([gathered, bytes]);
      while (gathered.length >= 2 && gathered.length >= 2 + gathered.readUInt16BE(0)) {
        const length = gathered.readUInt16BE(0);
        this.#answer(gathered.subarray(2, 2 + length), false, (reply) => {
          if (reply.length === 0) return socket.destroy();
          const prefix = Buffer.alloc(2);
          prefix.writeUInt16BE(reply.length);
          socket.write(Buffer.concat([prefix, reply]));
        });
        gathered = gathered.subarray(2 + length);
      }
    });
  }

  #answer(bytes: Buffer, udp: boolean, send: (reply: Buffer) => void) {
    const query = decode(bytes);
    const question = query.questions[0] as Question;
    const name = question.name.toLowerCase();
    this.queries.push(`${question.type} ${name}`);
    const records = this.#names.get(name);
    let fault = records === undefined ? 'NXDOMAIN' : (records.faults?.[question.type] ?? records.fault);
    if (records?.withoutEdns !== undefined && bytes.readUInt16BE(10) > 0) fault = records.withoutEdns;
    if (fault === 'timeout') return;
    if (fault === 'referral')
      return send(
        encode({ type: 'response', id: query.id ?? 0, flags: 0x8100, questions: [question], answers: [] }),
      );
    if (fault === 'garbage') return send(Buffer.from('garbage'));
    if (fault === 'truncate-only' && !udp) return send(Buffer.alloc(0));
    if (fault === 'bare')
      return send(
        encode({ type: 'response', id: query.id ?? 0, flags: RESPONSE | 1, questions: [], answers: [] }),
      );
    if (fault === 'other-id' || fault === 'other-name' || fault === 'damaged') {
      const answers = this.#records(name, question.type);
      const questions = [fault === 'other-name' ? { ...question, name: `x${name}` } : question];
      const id = ((query.id ?? 0) + (fault === 'other-id' ? 1 : 0)) & 0xffff;
      const whole = encode({ type: 'response', id, flags: RESPONSE, questions, answers });
      return send(fault === 'damaged' ? whole.subarray(0, whole.length - 1) : whole);
    }
    let flags = RESPONSE;
    if (fault === 'truncate' || fault === 'truncate-only') flags |= udp ? TRUNCATED : 0;
    else if (fault === 'truncate-always') flags |= TRUNCATED;
    else if (fault !== undefined) flags |= RCODES[fault] ?? 0;
    const empty = fault !== undefined && !(fault === 'truncate' && !udp);
    if (records?.secure === true && ((query.flags ?? 0) & AUTHENTIC) !== 0) flags |= AUTHENTIC;
    const answers = empty ? [] : this.#records(name, question.type);
    const reply = encode({ type: 'response', id: query.id ?? 0, flags, questions: [question], answers });
    const delayMs = records?.delayMs ?? 0;
    if (delayMs === 0) return send(reply);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      send(reply);
    }, delayMs);
    this.#timers.add(timer);
  }

  #records(name: string, type: string): Answer[] {
    const records = this.#names.get(name);
    if (records === undefined) return [];
    const ttl = records.ttl ?? 60;
    if (records.CNAME !== undefined) {
      const target = records.CNAME.toLowerCase();
      const rest = records.aliasOnly === true ? [] : this.#records(target, type);
      return [{ type: 'CNAME', name, ttl, data: target }, ...rest];
    }
    const answer = (data: unknown): Answer => ({ type, name, ttl, data });
    if (type === 'A') return (records.A ?? []).map(answer);
    if (type === 'AAAA') return (records.AAAA ?? []).map(answer);
    if (type === 'PTR') return (records.PTR ?? []).map(answer);
    if (type === 'TXT')
      return (records.TXT ?? []).map((text) => answer(text.match(/[\s\S]{1,255}/g) ?? ['']));
    if (type === 'TLSA')
      return (records.TLSA ?? []).map(([usage, selector, matchingType, hex]) =>
        answer({ usage, selector, matchingType, certificate: Buffer.from(hex, 'hex') }),
      );
    if (type !== 'MX') return [];
    return (records.MX ?? []).map(([preference, exchange]) => answer({ preference, exchange }));
  }
}
