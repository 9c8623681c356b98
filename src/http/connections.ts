/**
 * Who is connected. No client keeps others out: beyond the limit, the one with the most connections gives one up; what a client
 * asks without reading answers is bounded, in number and in time.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { clientNetwork, formatNetwork, parseIp } from '../base/ip.ts';

/** Requests that a connection may send ahead of their answers: node:http makes them all at once, some KiB each. */
const MAX_AHEAD = 16;

interface Connection {
  socket: Socket;
  underWay: number;
}

export class Connections {
  readonly #max: number;
  readonly #unreadMs: number;
  /** By client, and there by peer, the oldest first. With TLS the socket of a request is another object than that of its connection. */
  readonly #clients = new Map<string, Map<string, Connection>>();
  #count = 0;

  /** @param unreadMs time for a client to take an answer. */
  constructor(max: number, unreadMs: number) {
    this.#max = max;
    this.#unreadMs = unreadMs;
  }

  /** Takes a new connection; where there are too many, another one ends, or it itself. */
  add(socket: Socket): void {
    const client = clientOf(socket);
    const peer = peerOf(socket);
    const connections = this.#clients.get(client) ?? new Map<string, Connection>();
    this.#clients.set(client, connections.set(peer, { socket, underWay: 0 }));
    this.#count++;
    socket.once('close', () => {
      if (connections.get(peer)?.socket === socket) this.#forget(client, peer);
    });
    if (this.#count > this.#max) this.#makeRoom();
  }

  /** @returns false: the client asks too much ahead, and its connection has ended. */
  begin({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const connection = this.#clients.get(clientOf(socket))?.get(peerOf(socket));
    if (connection === undefined || connection.underWay >= MAX_AHEAD) {
      socket.destroy();
      return false;
    }
    connection.underWay++;
    let unread: NodeJS.Timeout | undefined;
    response.once('prefinish', () => {
      unread = setTimeout(() => socket.destroy(), this.#unreadMs);
    });
    response.once('close', () => {
      clearTimeout(unread);
      connection.underWay--;
    });
    return true;
  }

  #makeRoom(): void {
    let client = '';
    let most = new Map<string, Connection>();
    for (const [name, connections] of this.#clients)
      if (connections.size > most.size) [client, most] = [name, connections];
    const peers = [...most];
    const leaves = peers.find(([, { underWay }]) => underWay === 0) ?? peers[0];
    if (leaves === undefined) return;
    const [peer, { socket }] = leaves;
    this.#forget(client, peer);
    socket.destroy();
  }

  #forget(client: string, peer: string): void {
    const connections = this.#clients.get(client);
    if (connections?.delete(peer) !== true) return;
    this.#count--;
    if (connections.size === 0) this.#clients.delete(client);
  }
}

function clientOf({ remoteAddress = '' }: Socket): string {
  const ip = parseIp(remoteAddress);
  return ip === null ? remoteAddress : formatNetwork(clientNetwork(ip));
}

const peerOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
