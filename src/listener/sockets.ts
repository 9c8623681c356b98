/**
 * Listening sockets before anybody accepts on them: opened for all relay processes of a host at once, or taken from
 * systemd. Says in words what goes wrong.
 */
import { lookup } from 'node:dns/promises';
import { lstatSync, statSync, unlinkSync } from 'node:fs';
import { connect, isIP } from 'node:net';
import { RelayError } from '../base/errors.ts';
import type { Config } from '../config/schema.ts';
import type { SocketOptions } from '../native.ts';

export type ListenerConfig = Config['listeners'][number];

/** Where a listener actually listens: a configured port 0 has become a number. */
export interface ListeningAddress {
  host?: string;
  port?: number;
  path?: string;
}

/** A listening socket that somebody else opened. */
export interface GivenSocket {
  /** Index into config.listeners. */
  listener: number;
  fd: number;
  address: ListeningAddress;
  /** Number of the relay process it is for; null: every process accepts on it. */
  process: number | null;
}

export interface SocketPorts {
  openSocket(options: SocketOptions): number;
  socketPlace(fd: number): { host: string; port: number } | { path: string };
  close(fd: number): void;
}

/** Sockets that systemd passed, by name. */
export type NamedSockets = ReadonlyMap<string, readonly number[]>;

/**
 * Opens the sockets of every listener for `processes` relay processes. Where the kernel spreads connections (Linux,
 * SO_REUSEPORT) each process has a TCP socket of its own; elsewhere, and for Unix sockets, all share one.
 * @throws RelayError listen_failed naming the address and what to do; nothing stays open then.
 */
export async function openSockets(
  listeners: readonly ListenerConfig[],
  processes: number,
  named: NamedSockets,
  ports: SocketPorts,
): Promise<GivenSocket[]> {
  const sockets: GivenSocket[] = [];
  try {
    for (const [number, listener] of listeners.entries()) {
      if (listener.fd_name !== undefined)
        sockets.push(...takeNamed(listener.fd_name, number, processes, named, ports));
      else for await (const socket of open(listener, number, processes, ports)) sockets.push(socket);
    }
  } catch (error) {
    closeSockets(sockets, listeners, ports);
    throw error;
  }
  return sockets;
}

/** Closes them and removes the files of Unix sockets we opened. */
export function closeSockets(
  sockets: readonly GivenSocket[],
  listeners: readonly ListenerConfig[],
  ports: SocketPorts,
): void {
  for (const { fd, listener, address } of sockets) {
    ports.close(fd);
    const ours = listeners[listener]?.fd_name === undefined;
    if (ours && address.path !== undefined) removeFile(address.path);
  }
}

/** Sockets that systemd passed under this name, for a listener. @throws RelayError listen_failed when there are none. */
export function takeNamed(
  name: string,
  listener: number,
  processes: number,
  named: NamedSockets,
  { socketPlace }: Pick<SocketPorts, 'socketPlace'>,
): GivenSocket[] {
  const fds = named.get(name) ?? [];
  if (fds.length === 0) {
    const passed = named.size === 0 ? 'none at all' : `only ${[...named.keys()].join(', ')}`;
    throw new RelayError(
      'listen_failed',
      `listeners[${listener}] wants the sockets "${name}" from systemd, which passed ${passed}; start the socket unit with FileDescriptorName=${name}, or write host and port`,
    );
  }
  const process = processes === 1 ? 0 : null;
  return fds.map((fd) => ({ listener, fd, address: socketPlace(fd), process }));
}

async function* open(
  listener: ListenerConfig,
  number: number,
  processes: number,
  ports: SocketPorts,
): AsyncGenerator<GivenSocket> {
  const { backlog } = listener;
  const { options, place } = await whereTo(listener, number);
  const openOne = (reusePort: boolean): number => {
    try {
      return ports.openSocket({ ...options, backlog, reusePort });
    } catch (error) {
      throw listenError(error, place, number);
    }
  };
  const first = openOne(false);
  const address = options.path === undefined ? ports.socketPlace(first) : { path: options.path };
  if (options.path !== undefined || processes === 1 || process.platform !== 'linux') {
    yield { listener: number, fd: first, address, process: processes === 1 ? 0 : null };
    return;
  }
  // The first was opened without SO_REUSEPORT, which would share an address that somebody else listens on instead of
  // failing. Now it makes way for one socket per process.
  ports.close(first);
  if ('port' in address) options.port = address.port;
  for (let index = 0; index < processes; index++)
    yield { listener: number, fd: openOne(true), address, process: index };
}

/** What to open for a listener, and its name in messages. */
export async function whereTo(
  { host = '127.0.0.1', port = 0, path }: ListenerConfig,
  number: number,
): Promise<{ options: Pick<SocketOptions, 'host' | 'port' | 'path'>; place: string }> {
  if (path !== undefined) {
    await removeStaleSocket(path);
    return { options: { path }, place: path };
  }
  const place = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const address = isIP(host) !== 0 ? host : await resolve(host, place, number);
  return { options: { host: address, port }, place };
}

export function listenError(error: unknown, place: string, number: number): RelayError {
  const { code = '', message = String(error) } = error as { code?: string; message?: string };
  const advice: Record<string, string> = {
    EADDRINUSE: isOther(place)
      ? 'something else has that name; choose another path'
      : `another program listens there; stop it or choose another ${place.startsWith('/') ? 'path' : 'port'}`,
    EACCES:
      'not allowed; a port below 1024 needs the capability CAP_NET_BIND_SERVICE, a path a writable folder',
    EADDRNOTAVAIL: 'no interface of this machine has that address',
    ENOENT: 'the folder of the path does not exist; make it',
    ENAMETOOLONG: 'the path is too long for a Unix socket (107 characters)',
    EAFNOSUPPORT: 'this machine has no such address family (is IPv6 off?)',
  };
  const what = advice[code] ?? message;
  return new RelayError('listen_failed', `cannot listen on ${place} (listeners[${number}]): ${what}`, error);
}

/** Whether a file or folder has that path: it is not the socket of a relay that was killed. */
function isOther(place: string): boolean {
  try {
    return place.startsWith('/') && !lstatSync(place).isSocket();
  } catch {
    return false;
  }
}

async function resolve(host: string, place: string, number: number): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (error) {
    const text = `cannot listen on ${place} (listeners[${number}]): the name ${host} has no address; write an address`;
    throw new RelayError('listen_failed', text, error);
  }
}

/** Removes a socket file that a relay that was killed left, since listen would fail; one that somebody answers on stays. */
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

export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
