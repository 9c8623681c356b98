/**
 * Somebody between a client of node's TLS and the reactor: passes bytes on, and puts in others. With a secret of the
 * client's (node tells it to a key log) also records that the reactor must take for the client's own.
 */
import { createCipheriv, createHmac } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { TLS_VERIFY } from '../../src/native.ts';
import type { Rig } from './rig.ts';
import { LOCALHOST } from './tls-rig.ts';

export const CONTENT = { alert: 0x15, handshake: 0x16, application: 0x17 } as const;

const plainRecord = (type: number, content: Buffer): Buffer =>
  Buffer.concat([Buffer.from([type, 3, 3, content.length >> 8, content.length & 255]), content]);

export const ALERTS = {
  'close-notify': plainRecord(CONTENT.alert, Buffer.from([1, 0])),
  'user-canceled': plainRecord(CONTENT.alert, Buffer.from([1, 90])),
  warning: plainRecord(CONTENT.alert, Buffer.from([1, 41])),
  fatal: plainRecord(CONTENT.alert, Buffer.from([2, 40])),
} as const;

/** HKDF-Expand-Label of RFC 8446 §7.1 for what fits in one block of SHA-256. */
function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/** A record of TLS_AES_128_GCM_SHA256 as the owner of the secret would send it. */
export function sealed(secret: Buffer, sequence: number, type: number, content: Buffer): Buffer {
  const nonce = expandLabel(secret, 'iv', 12);
  nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ sequence) >>> 0, 8);
  const length = content.length + 1 + 16;
  const head = Buffer.from([CONTENT.application, 3, 3, length >> 8, length & 255]);
  const cipher = createCipheriv('aes-128-gcm', expandLabel(secret, 'key', 16), nonce).setAAD(head);
  const body = [cipher.update(Buffer.concat([content, Buffer.from([type])])), cipher.final()];
  return Buffer.concat([head, ...body, cipher.getAuthTag()]);
}

export class Middle {
  readonly client: TLSSocket;
  /** Id of the reactor's connection. */
  readonly id: number;
  /** What becomes of bytes on their way to the reactor. */
  change: (bytes: Buffer) => Buffer = (bytes) => bytes;
  /** Of the client's application data; empty below TLS 1.3. */
  secret: Buffer = Buffer.alloc(0);
  /** The client ended its stream; with hold() the reactor is not told. */
  readonly ended: Promise<void>;
  #held = false;
  #outer: Socket | null = null;
  readonly #server: Server;

  private constructor(client: TLSSocket, server: Server, id: number, ended: Promise<void>) {
    this.ended = ended;
    this.client = client;
    this.#server = server;
    this.id = id;
  }

  /** A client whose handshake with the reactor is done. */
  static async open(rig: Rig, slot: number, over: ConnectionOptions = {}): Promise<Middle> {
    let outer: Socket | null = null;
    let middle: Middle | null = null;
    let clientEnded = (): void => {};
    const ended = new Promise<void>((resolve) => {
      clientEnded = resolve;
    });
    const server = createServer({ allowHalfOpen: true }, (inner) => {
      outer = connect({ port: rig.acceptor.port, host: '127.0.0.1', noDelay: true });
      inner.on('data', (bytes) => outer?.write(middle?.change(bytes) ?? bytes));
      outer.on('data', (bytes) => inner.write(bytes));
      inner.on('error', () => outer?.destroy());
      outer.on('error', () => inner.destroy());
      outer.on('end', () => inner.end());
      inner.on('end', () => {
        clientEnded();
        if (middle === null || !middle.#held) outer?.end();
      });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    const opened = rig.of('opened').length;
    const secured = rig.of('secured').length;
    const ciphers = 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256';
    const trust = { ca: LOCALHOST.certificate, servername: 'localhost', ciphers };
    const client = tlsConnect({ port, host: '127.0.0.1', ...trust, ...over });
    let secret = Buffer.alloc(0);
    client.on('keylog', (line) => {
      const [label, , hex = ''] = line.toString('latin1').trim().split(' ');
      if (label === 'CLIENT_TRAFFIC_SECRET_0') secret = Buffer.from(hex, 'hex');
    });
    client.on('error', () => {});
    const done = new Promise((resolve) => client.once('secureConnect', resolve));
    const { connection } = await rig.event('opened', opened + 1);
    rig.reactor.secure(connection, slot, TLS_VERIFY.none, '', '');
    rig.reactor.flush();
    await done;
    await rig.event('secured', secured + 1);
    middle = new Middle(client, server, connection, ended);
    middle.secret = secret;
    middle.#outer = outer;
    return middle;
  }

  /** Sends bytes to the reactor as they are. */
  async put(bytes: Buffer | string): Promise<void> {
    await new Promise<void>((done) => this.#outer?.write(bytes, () => done()));
  }

  /** Sends a record of the client's, the nth one (0, 1, …) after the handshake. */
  put13(sequence: number, type: number, content: Buffer | string): Promise<void> {
    return this.put(sealed(this.secret, sequence, type, Buffer.from(content)));
  }

  /** From here on the end of the client's stream is kept from the reactor. */
  hold(): void {
    this.#held = true;
  }

  close(): void {
    this.client.destroy();
    this.#outer?.destroy();
    this.#server.close();
  }
}
