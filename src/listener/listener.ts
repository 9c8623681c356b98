/**
 * Where connections come in, on the main thread: an acceptor for each configured listener; limits on connections (how many
 * altogether, how many from one address, none while draining or overloaded); and the hand-off of each socket to the
 * session thread with the fewest. It reads no SMTP, and writes none but the reply that refuses a connection.
 */
import { getSystemErrorMap } from 'node:util';
import { GAUGE, type Gauges } from '../admission/gauges.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { Acceptor, ListenOptions } from '../native.ts';
import type { ConnectionGate } from '../policy/gate.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { type ConnectionCounts, LocalCounts } from './connection-counts.ts';
import { type GivenSocket, type ListeningAddress, listenError, removeFile, whereTo } from './sockets.ts';

/** Most sockets accepted in one call. */
const ACCEPT_BATCH = 64;
/** The same where several processes accept on one socket, so that one leaves some to the others. */
const SHARED_ACCEPT_BATCH = 4;
/** A failing accept is logged once in this time. */
const ERROR_LOG_INTERVAL_MS = 10_000;

/** Calls of the addon that the listener needs; passed in so that tests can play the kernel. */
export interface ListenerPorts {
  listen(options: ListenOptions): Acceptor;
  reactorConnections(reactorId: number): number;
  /** Time as the policy's memory has it (policyMs). */
  now(): number;
}

/** What the connection policy decides at accept. */
export type Gate = Pick<ConnectionGate, 'accept' | 'leave' | 'reconfigure'>;

export type { ListeningAddress };

export class Listener {
  readonly #ports: ListenerPorts;
  readonly #gauges: Gauges;
  readonly #reactorIds: readonly number[];
  readonly #log: Log;
  readonly #acceptors: Acceptor[] = [];
  readonly #unixPaths: string[] = [];
  /** Acceptors on sockets of other relay processes that do not accept now, by descriptor. */
  readonly #standIns = new Map<number, Acceptor>();
  readonly #counts: ConnectionCounts;
  readonly #gate: Gate | null;
  #config: Config;
  #closed = false;
  #lastErrorMs = Number.NEGATIVE_INFINITY;

  constructor(
    config: Config,
    reactorIds: readonly number[],
    gauges: Gauges,
    log: Log,
    ports: ListenerPorts,
    counts: ConnectionCounts = new LocalCounts(),
    gate: Gate | null = null,
  ) {
    this.#gate = gate;
    this.#counts = counts;
    this.#config = config;
    this.#reactorIds = reactorIds;
    this.#gauges = gauges;
    this.#log = log;
    this.#ports = ports;
  }

  /** Connections handed to session threads and not yet reported closed. */
  get open(): number {
    return this.#counts.open;
  }

  /**
   * Listens on everything configured, or on nothing.
   * @param given sockets that listen already: a listener that has any uses them instead of opening one.
   * @throws RelayError listen_failed naming the address and what to do.
   */
  async start(given: readonly GivenSocket[] = []): Promise<ListeningAddress[]> {
    const addresses: ListeningAddress[] = [];
    try {
      for (const number of this.#config.listeners.keys()) {
        const sockets = given.filter(({ listener }) => listener === number);
        for (const socket of sockets)
          this.#acceptors.push(
            this.#acceptOn(socket, socket.process === null ? SHARED_ACCEPT_BATCH : ACCEPT_BATCH),
          );
        if (sockets.length > 0) addresses.push(...sockets.map(({ address }) => address));
        else addresses.push(await this.#listen(number));
      }
    } catch (error) {
      this.close();
      throw error;
    }
    return addresses;
  }

  /** Takes the limits of a reloaded configuration; listeners themselves need a restart. */
  reconfigure(config: Config): void {
    this.#config = config;
    this.#gate?.reconfigure(config);
  }

  /** Accepts no more; connections wait in the kernel. */
  pause(): void {
    for (const acceptor of this.#acceptors) acceptor.pause();
  }

  resume(): void {
    for (const acceptor of this.#acceptors) acceptor.resume();
  }

  /** From now on also accepts on exactly these sockets of other relay processes. */
  standIn(sockets: readonly GivenSocket[]): void {
    for (const [fd, acceptor] of this.#standIns) {
      if (sockets.some((socket) => socket.fd === fd)) continue;
      this.#standIns.delete(fd);
      acceptor.close();
    }
    if (this.#closed) return;
    for (const socket of sockets)
      if (!this.#standIns.has(socket.fd))
        this.#standIns.set(socket.fd, this.#acceptOn(socket, SHARED_ACCEPT_BATCH));
  }

  /** Stops accepting and closes the sockets opened here; open connections go on. */
  close(): void {
    this.#closed = true;
    this.standIn([]);
    for (const acceptor of this.#acceptors.splice(0)) acceptor.close();
    for (const path of this.#unixPaths.splice(0)) removeFile(path);
  }

  /** Session threads report the addresses of connections that ended. */
  closedPeers(peers: readonly string[]): void {
    for (const address of peers) this.#leave(address);
  }

  async #listen(number: number): Promise<ListeningAddress> {
    const listener = this.#config.listeners[number] as Config['listeners'][number];
    const { options, place } = await whereTo(listener, number);
    let acceptor: Acceptor;
    try {
      acceptor = this.#accepting({
        ...options,
        backlog: listener.backlog,
        listener: number,
        batch: ACCEPT_BATCH,
      });
    } catch (error) {
      throw listenError(error, place, number);
    }
    this.#acceptors.push(acceptor);
    const { host, path } = options;
    if (path === undefined) return { ...(host === undefined ? {} : { host }), port: acceptor.port };
    this.#unixPaths.push(path);
    return { path };
  }

  #acceptOn({ fd, listener, address }: GivenSocket, batch: number): Acceptor {
    try {
      return this.#accepting({ fd, backlog: 0, listener, batch });
    } catch (error) {
      throw listenError(error, address.path ?? `${address.host}:${address.port}`, listener);
    }
  }

  #accepting(options: Omit<ListenOptions, 'onAccept' | 'onError'>): Acceptor {
    // Only the acceptor that a socket came from can hand it on.
    const acceptor: Acceptor = this.#ports.listen({
      ...options,
      onAccept: (fds, addresses) => this.#accept(acceptor, options.listener, fds, addresses),
      onError: (errno) => this.#acceptFailed(errno),
    });
    return acceptor;
  }

  #accept(acceptor: Acceptor, listener: number, fds: Int32Array, addresses: string[]): void {
    // A client that speaks TLS from the first byte could not read a reply.
    const mute = this.#config.listeners[listener]?.tls === 'implicit';
    const loads = this.#reactorIds.map((id) => this.#ports.reactorConnections(id));
    for (let i = 0; i < fds.length; i++) {
      const fd = fds[i] as number;
      const address = addresses[i] as string;
      const peer = address.slice(0, address.indexOf(' '));
      const refusal = this.#refusal(peer) ?? this.#handOff(acceptor, fd, address, peer, loads);
      if (refusal !== null) this.#refuse(acceptor, fd, peer, refusal, mute);
    }
  }

  /** null, and the connection is counted; or why a connection from this address is not taken now. */
  #refusal(peer: string): Reply | null {
    const { smtp, hostname } = this.#config;
    if (Atomics.load(this.#gauges, GAUGE.draining) !== 0) return REPLY.draining.with(hostname);
    if (Atomics.load(this.#gauges, GAUGE.overloaded) !== 0) return REPLY.overloaded.with(hostname);
    const limits = { total: smtp.max_connections, perAddress: smtp.max_connections_per_ip };
    switch (this.#counts.enter(peer, limits)) {
      case 'total':
        return REPLY.too_many_connections.with(hostname);
      case 'address':
        return REPLY.too_many_from_address.with(hostname);
      case null: {
        const refusal = this.#gate?.accept(peer, this.#ports.now()) ?? null;
        if (refusal !== null) this.#counts.leave(peer);
        return refusal;
      }
    }
  }

  #leave(peer: string): void {
    this.#counts.leave(peer);
    this.#gate?.leave(peer);
  }

  /** Gives the socket to the session thread with the fewest connections; a refusal when none takes it. */
  #handOff(acceptor: Acceptor, fd: number, address: string, peer: string, loads: number[]): Reply | null {
    for (let tries = 0; tries < loads.length; tries++) {
      const at = leastLoaded(loads);
      if (at < 0) break;
      if (acceptor.handOff(fd, this.#reactorIds[at] as number, address)) {
        loads[at] = (loads[at] as number) + 1;
        return null;
      }
      loads[at] = -1;
    }
    this.#leave(peer);
    return REPLY.too_many_connections.with(this.#config.hostname);
  }

  #refuse(acceptor: Acceptor, fd: number, peer: string, reply: Reply, mute: boolean): void {
    acceptor.refuse(fd, mute ? '' : reply.line);
    this.#log.debug('listener.refused', { client_address: peer, reason: reply.reason });
  }

  #acceptFailed(errno: number): void {
    const nowMs = this.#ports.now();
    if (nowMs - this.#lastErrorMs < ERROR_LOG_INTERVAL_MS) return;
    this.#lastErrorMs = nowMs;
    const error = errorName(errno);
    const files = error === 'EMFILE' || error === 'ENFILE';
    this.#log.error('listener.accept_failed', {
      error,
      connections: this.#counts.open,
      advice: files
        ? 'no file descriptors left: raise the limit (ulimit -n, LimitNOFILE) or lower smtp.max_connections'
        : 'the kernel could not give a connection; accepting goes on in 100 ms',
    });
  }
}

function leastLoaded(loads: readonly number[]): number {
  let best = -1;
  for (let i = 0; i < loads.length; i++) {
    const load = loads[i] as number;
    if (load >= 0 && (best < 0 || load < (loads[best] as number))) best = i;
  }
  return best;
}

/** 'EMFILE' for 24 or -24. */
function errorName(errno: number): string {
  return getSystemErrorMap().get(-Math.abs(errno))?.[0] ?? `errno ${Math.abs(errno)}`;
}
