/**
 * Questions and answers on the wire. A UDP socket serves some questions, and is closed when the last of them is
 * answered; over TCP each question has a connection of its own. Other packets that arrive are ignored until time is
 * up.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';

export interface Server {
  address: string;
  port: number;
}

export interface Question<T> {
  /** The message. Its first two octets are left for the id. */
  bytes: Buffer;
  /** Reads the answer; null when these bytes do not answer this question. */
  read(bytes: Uint8Array, id: number): T | null;
  timeoutMs: number;
  /** Whether to ask from a port of its own, which nobody can foretell. */
  alone: boolean;
}

/** Most questions of one UDP socket: a burst needs few sockets, and no port can be observed for long. */
const MAX_SHARED = 64;

interface Pending {
  read(bytes: Uint8Array): boolean;
  fail(error: Error): void;
}

/** The error of a resolver that takes no questions over TCP. */
export const CLOSED = 'the resolver closed the connection';

const late = (): Error => Object.assign(new Error('no answer in time'), { code: 'ETIMEOUT' });

/** Asks one server over UDP. */
export class UdpWay {
  readonly #server: Server;
  #shared: UdpSocket | null = null;

  constructor(server: Server) {
    this.#server = server;
  }

  /** @throws Error with the code ETIMEOUT, or a code of the system. */
  ask<T>(question: Question<T>): Promise<T> {
    if (question.alone) return new UdpSocket(this.#server, 1).ask(question);
    if (this.#shared === null || !this.#shared.hasRoom)
      this.#shared = new UdpSocket(this.#server, MAX_SHARED);
    return this.#shared.ask(question);
  }
}

/** A socket that is connected, so that the kernel only passes on packets from the server's address and port. */
class UdpSocket {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #places: number;
  #closed = false;
  /** Questions to send once the socket is connected; null after that. */
  #unsent: Buffer[] | null = [];

  constructor({ address, port }: Server, places: number) {
    this.#places = places;
    this.#socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('message', (bytes) => {
      if (bytes.length >= 2) this.#pending.get(bytes.readUInt16BE(0))?.read(bytes);
    });
    this.#socket.on('connect', () => {
      if (this.#closed) return;
      for (const bytes of this.#unsent ?? []) this.#socket.send(bytes);
      this.#unsent = null;
    });
    // Without a callback, which would get a failure in place of the 'error' event.
    this.#socket.connect(port, address);
  }

  get hasRoom(): boolean {
    return this.#places > 0 && !this.#closed;
  }

  ask<T>({ bytes, read, timeoutMs }: Question<T>): Promise<T> {
    this.#places--;
    let id = randomInt(65_536);
    while (this.#pending.has(id)) id = randomInt(65_536);
    const ours = Buffer.from(bytes);
    ours.writeUInt16BE(id, 0);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#pending.delete(id);
        if (this.#pending.size === 0) this.#close();
      };
      const fail = (error: Error): void => {
        end();
        reject(error);
      };
      const timer = setTimeout(() => fail(late()), timeoutMs);
      this.#pending.set(id, {
        fail,
        read(answer) {
          const found = read(answer, id);
          if (found === null) return false;
          end();
          resolve(found);
          return true;
        },
      });
      if (this.#unsent === null) this.#socket.send(ours);
      else this.#unsent.push(ours);
    });
  }

  #fail(error: Error): void {
    for (const { fail } of [...this.#pending.values()]) fail(error);
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }
}

/** @throws Error with the code ETIMEOUT, or a code of the system. */
export function askOverTcp<T>(server: Server, { bytes, read, timeoutMs }: Question<T>): Promise<T> {
  const id = randomInt(65_536);
  const framed = Buffer.alloc(2 + bytes.length);
  framed.writeUInt16BE(bytes.length);
  bytes.copy(framed, 2);
  framed.writeUInt16BE(id, 2);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server.address, port: server.port });
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const timer = setTimeout(() => end(() => reject(late())), timeoutMs);
    const gathered = Buffer.allocUnsafe(2 + 0xffff);
    let count = 0;
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('close', () => end(() => reject(new Error(CLOSED))));
    socket.on('data', (more) => {
      count += more.copy(gathered, count);
      if (count < 2 || count < 2 + gathered.readUInt16BE(0)) return;
      const answer = read(gathered.subarray(2, 2 + gathered.readUInt16BE(0)), id);
      end(() =>
        answer === null ? reject(new Error('the resolver answered something else')) : resolve(answer),
      );
    });
    socket.write(framed);
  });
}
