/**
 * Where connections come in, on the main thread: an acceptor for each configured listener, the connection policy (how
 * many at all, how many from one address, none while draining or overloaded), and the hand-off of each socket to the
 * session thread with the fewest. It reads and writes no SMTP but the 421 of a refusal.
 */
import { lookup } from 'node:dns/promises';
import { statSync, unlinkSync } from 'node:fs';
import { connect, isIP } from 'node:net';
import { getSystemErrorMap } from 'node:util';
import { GAUGE, type Gauges } from '../admission/gauges.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { Acceptor, ListenOptions } from '../native.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';

/** Most sockets accepted in one call. */
const BATCH = 64;
/** A failing accept is logged once in this time; accepting pauses between failures anyway. */
const ERROR_LOG_INTERVAL_MS = 10_000;
const UNIX = 'unix';

type ListenerConfig = Config['listeners'][number];

/** The calls of the addon the listener needs; passed in so that tests can play the kernel. */
export interface ListenerPorts {
  listen(options: ListenOptions): Acceptor;
  reactorConnections(reactorId: number): number;
  now(): number;
}

/** Where a listener listens in fact: port 0 has become a number. */
export interface ListeningAddress {
  host?: string;
  port?: number;
  path?: string;
}

export class Listener {
  readonly #ports: ListenerPorts;
  readonly #gauges: Gauges;
  readonly #reactorIds: readonly number[];
  readonly #log: Log;
  readonly #acceptors: Acceptor[] = [];
  readonly #unixPaths: string[] = [];
  /** Open connections by peer address; an address without any has no entry. */
  readonly #byAddress = new Map<string, number>();
  #config: Config;
  #open = 0;
  #lastErrorMs = Number.NEGATIVE_INFINITY;

  constructor(config: Config, reactorIds: readonly number[], gauges: Gauges, log: Log, ports: ListenerPorts) {
    this.#config = config;
    this.#reactorIds = reactorIds;
    this.#gauges = gauges;
    this.#log = log;
    this.#ports = ports;
  }

  /** Connections handed to session threads and not reported closed. */
  get open(): number {
    return this.#open;
  }

  /**
   * Listens on everything configured, or on nothing.
   * @throws RelayError listen-failed naming the address and what to do.
   */
  async start(): Promise<ListeningAddress[]> {
    const addresses: ListeningAddress[] = [];
    try {
      for (const [number, listener] of this.#config.listeners.entries()) {
        addresses.push(await this.#listen(listener, number));
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
  }

  /** Accepts no more; connections wait in the kernel. */
  pause(): void {
    for (const acceptor of this.#acceptors) acceptor.pause();
  }

  resume(): void {
    for (const acceptor of this.#acceptors) acceptor.resume();
  }

  /** Closes the listening sockets; open connections go on. */
  close(): void {
    for (const acceptor of this.#acceptors.splice(0)) acceptor.close();
    for (const path of this.#unixPaths.splice(0)) removeFile(path);
  }

  /** Session threads report the addresses of connections that ended. */
  closedPeers(peers: readonly string[]): void {
    for (const address of peers) this.#forget(address);
  }

  async #listen(listener: ListenerConfig, number: number): Promise<ListeningAddress> {
    const base = {
      backlog: listener.backlog,
      listener: number,
      batch: BATCH,
      onAccept: (fds: Int32Array, addresses: string[]) => this.#accept(number, fds, addresses),
      onError: (errno: number) => this.#acceptFailed(errno),
    };
    const { path } = listener;
    if (path !== undefined) {
      await removeStaleSocket(path);
      this.#openAcceptor({ ...base, path }, path, number);
      this.#unixPaths.push(path);
      return { path };
    }
    const host = listener.host ?? '127.0.0.1';
    const place = `${host.includes(':') ? `[${host}]` : host}:${listener.port ?? 0}`;
    const address = isIP(host) !== 0 ? host : await resolve(host, place, number);
    const acceptor = this.#openAcceptor({ ...base, host: address, port: listener.port ?? 0 }, place, number);
    return { host: address, port: acceptor.port };
  }

  #openAcceptor(options: ListenOptions, place: string, number: number): Acceptor {
    try {
      const acceptor = this.#ports.listen(options);
      this.#acceptors.push(acceptor);
      return acceptor;
    } catch (error) {
      throw listenError(error, place, number);
    }
  }

  #accept(listener: number, fds: Int32Array, addresses: string[]): void {
    // A socket can be handed on only by the acceptor it came from; they stand in the order of the listeners.
    const acceptor = this.#acceptors[listener] as Acceptor;
    const loads = this.#reactorIds.map((id) => this.#ports.reactorConnections(id));
    for (let i = 0; i < fds.length; i++) {
      const fd = fds[i] as number;
      const address = addresses[i] as string;
      const peer = address.slice(0, address.indexOf(' '));
      const refusal = this.#refusal(peer) ?? this.#handOff(acceptor, fd, address, peer, loads);
      if (refusal !== null) this.#refuse(acceptor, fd, peer, refusal);
    }
  }

  /** null, or why a connection from this address is not taken now. */
  #refusal(peer: string): Reply | null {
    const { smtp, hostname } = this.#config;
    if (Atomics.load(this.#gauges, GAUGE.draining) !== 0) return REPLY.draining.with(hostname);
    if (Atomics.load(this.#gauges, GAUGE.overloaded) !== 0) return REPLY.overloaded.with(hostname);
    if (this.#open >= smtp.max_connections) return REPLY.tooManyConnections.with(hostname);
    // Programs of this machine share the one name of all Unix sockets; only the total limits them.
    if (peer !== UNIX && (this.#byAddress.get(peer) ?? 0) >= smtp.max_connections_per_ip)
      return REPLY.tooManyFromAddress.with(hostname);
    return null;
  }

  /** Gives the socket to the session thread with the fewest connections; a refusal when none takes it. */
  #handOff(acceptor: Acceptor, fd: number, address: string, peer: string, loads: number[]): Reply | null {
    for (let tries = 0; tries < loads.length; tries++) {
      const at = leastLoaded(loads);
      if (at < 0) break;
      if (acceptor.handOff(fd, this.#reactorIds[at] as number, address)) {
        loads[at] = (loads[at] as number) + 1;
        this.#open++;
        this.#byAddress.set(peer, (this.#byAddress.get(peer) ?? 0) + 1);
        return null;
      }
      loads[at] = -1;
    }
    return REPLY.tooManyConnections.with(this.#config.hostname);
  }

  #refuse(acceptor: Acceptor, fd: number, peer: string, reply: Reply): void {
    acceptor.refuse(fd, reply.line);
    this.#log.debug('listener.refused', { client: peer, reason: reply.reason });
  }

  #forget(peer: string): void {
    const count = this.#byAddress.get(peer);
    if (count === undefined) return;
    this.#open--;
    if (count > 1) this.#byAddress.set(peer, count - 1);
    else this.#byAddress.delete(peer);
  }

  #acceptFailed(errno: number): void {
    const nowMs = this.#ports.now();
    if (nowMs - this.#lastErrorMs < ERROR_LOG_INTERVAL_MS) return;
    this.#lastErrorMs = nowMs;
    const error = errorName(errno);
    const files = error === 'EMFILE' || error === 'ENFILE';
    this.#log.error('listener.accept-failed', {
      error,
      open: this.#open,
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

function listenError(error: unknown, place: string, number: number): RelayError {
  const { code = '', message = String(error) } = error as { code?: string; message?: string };
  const advice: Record<string, string> = {
    EADDRINUSE: 'another program listens there; stop it or choose another port',
    EACCES:
      'not allowed; a port below 1024 needs the capability CAP_NET_BIND_SERVICE, a path a writable folder',
    EADDRNOTAVAIL: 'no interface of this machine has that address',
    ENOENT: 'the folder of the path does not exist; make it',
    ENAMETOOLONG: 'the path is too long for a Unix socket (107 characters)',
    EAFNOSUPPORT: 'this machine has no such address family (is IPv6 off?)',
  };
  const what = advice[code] ?? message;
  return new RelayError('listen-failed', `cannot listen on ${place} (listeners[${number}]): ${what}`, error);
}

async function resolve(host: string, place: string, number: number): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (error) {
    const text = `cannot listen on ${place} (listeners[${number}]): the name ${host} has no address; write an address`;
    throw new RelayError('listen-failed', text, error);
  }
}

/** A socket file left by a relay that was killed would make listen fail; one that somebody answers on stays. */
function removeStaleSocket(path: string): Promise<void> {
  return new Promise((done) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      done();
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' && statSync(path).isSocket()) removeFile(path);
      done();
    });
  });
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
