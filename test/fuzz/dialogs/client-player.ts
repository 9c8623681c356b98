/** Plays a dialog of the grammar on a real socket. What is answered is read and not judged: the relay has to live with it. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Dialog } from './client-grammar.ts';

/** Longest wait for an answer that may never come: then the client goes on as if it had. */
const PATIENCE_MS = 120;
const HANDSHAKE_MS = 500;

export interface Ports {
  clear: number;
  tls: number;
}

export async function play(ports: Ports, dialog: Dialog): Promise<void> {
  const port = dialog.implicitTls ? ports.tls : ports.clear;
  const raw = connect({ host: '127.0.0.1', port, localAddress: dialog.from, noDelay: true });
  const player = new Player(raw);
  await Promise.race([once(raw, 'connect').catch(() => {}), player.closed]);
  if (dialog.implicitTls) await player.secure();
  else await player.answer();
  for (const act of dialog.acts) {
    if (player.over) break;
    if (act.kind === 'write') {
      for (const piece of act.pieces) await player.write(piece);
      if (act.awaits) await player.answer();
    } else if (act.how === 'handshake') await player.secure();
    // What begins like a record of TLS, and what does not.
    else await player.write(act.how === 'half' ? '\x16\x03\x01\x02\x00\x01\x00\x01' : 'no TLS at all\r\n');
  }
  await player.end(dialog.ending);
}

class Player {
  readonly #raw: Socket;
  #socket: Socket | TLSSocket;
  readonly closed: Promise<void>;
  over = false;
  #heard: () => void = () => {};
  #unread = false;

  constructor(raw: Socket) {
    this.#raw = raw;
    this.#socket = raw;
    this.closed = new Promise((resolve) => {
      const end = (): void => {
        this.over = true;
        this.#hear();
        resolve();
      };
      raw.once('close', end);
      // A reset that fails is told as an error, and no close follows.
      raw.on('error', () => {
        if (raw.destroyed) end();
      });
    });
    this.#listen(raw);
  }

  #listen(socket: Socket): void {
    socket.on('data', () => this.#hear());
  }

  #hear(): void {
    this.#unread = true;
    this.#heard();
  }

  /** Something came since the last time it was asked for, the connection is over, or nothing comes. */
  async answer(patienceMs = PATIENCE_MS): Promise<void> {
    if (!this.#unread && !this.over) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
        timer = setTimeout(resolve, patienceMs);
      });
      clearTimeout(timer);
    }
    this.#unread = false;
  }

  async write(octets: string): Promise<void> {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    const written = new Promise<void>((resolve) => this.#socket.write(octets, 'latin1', () => resolve()));
    // A relay that waits for us to read its replies is not waited for.
    const later = new Promise<void>((resolve) => setTimeout(resolve, PATIENCE_MS).unref());
    await Promise.race([written, this.closed, later]);
  }

  async secure(): Promise<void> {
    this.#raw.removeAllListeners('data');
    const secure = connectTls({ socket: this.#raw, rejectUnauthorized: false });
    secure.on('error', () => this.#raw.destroy());
    this.#socket = secure;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, HANDSHAKE_MS);
    });
    const done = new Promise<void>((resolve) => secure.once('secureConnect', resolve));
    await Promise.race([done, this.closed, late]);
    clearTimeout(timer);
    this.#listen(secure);
  }

  async end(how: Dialog['ending']): Promise<void> {
    if (how === 'end') {
      this.#socket.end();
      await this.answer();
    } else if (how === 'stays') await this.answer();
    // Node cannot reset below TLS: a handle would stay that its end waits for, for ever.
    if (how === 'reset' && this.#socket === this.#raw && !this.#raw.destroyed) this.#raw.resetAndDestroy();
    this.#socket.destroy();
    this.#raw.destroy();
    await this.closed;
  }
}
