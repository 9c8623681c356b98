/**
 * The door to the C++ addon: the rest of src imports it from here alone. Mechanism lies behind it (sockets, lines, dots,
 * bytes, memory); every decision about mail is made on this side.
 *
 * Shape of the exchange: the reactor calls `onTurn(count)` once per loop turn with `count` event records in
 * `events`; the turn answers by writing operations through the methods of `Reactor`, which only append to a ring.
 * The ring is executed when onTurn returns, or by `flush()` when operations were written outside a turn.
 */
import { getSystemErrorName } from 'node:util';
import { RelayError } from './base/errors.ts';
import { addon, type Native } from './native/addon.ts';
import type {
  Acceptor,
  Arena,
  ListenOptions,
  Reactor,
  ReactorOptions,
  SocketOptions,
} from './native/contract.ts';
import { RingReactor } from './native/ring-reactor.ts';
import { SharedArena } from './native/shared-arena.ts';

export * from './native/contract.ts';
export * from './native/signer.ts';

// ---------------------------------------------------------------------------------------------- implementation

/** Bounds of what a reactor takes; the schema of the configuration keeps within them. */
export const LIMITS = addon.limits;

/** The pure functions as C++ has them, for the test that runs them against src/protocol/scan.ts. */
export const { buildInfo, scanContent, stuffContent, scanLine, proxyExtent } = addon;

class NativeAcceptor implements Acceptor {
  readonly port: number;
  readonly #native: Native;

  constructor(native: Native) {
    this.#native = native;
    this.port = addon.acceptorPort(native);
  }

  handOff(fd: number, reactorId: number, address: string): boolean {
    return addon.acceptorHandOff(this.#native, fd, reactorId, address);
  }

  refuse(fd: number, reply: string): void {
    addon.acceptorRefuse(this.#native, fd, reply);
  }

  pause(): void {
    addon.acceptorPause(this.#native, true);
  }

  resume(): void {
    addon.acceptorPause(this.#native, false);
  }

  close(): void {
    addon.acceptorClose(this.#native);
  }
}

/** Zeroed memory that begins at a page (4,096 bytes), as O_DIRECT asks for. Throws when there is none. */
export function alignedBuffer(bytes: number): Buffer {
  return addon.alignedBuffer(bytes);
}

/** Lays out a content arena of `bytes`, once per process. `spillDir` must exist. @throws RelayError without the memory. */
export function createArena(bytes: number, spillDir: string): Arena {
  let buffer: SharedArrayBuffer;
  try {
    buffer = new SharedArrayBuffer(bytes);
  } catch (error) {
    const text = `content_memory_mb: this machine does not give ${Math.ceil(bytes / 1_048_576)} MiB of memory; set it lower`;
    throw new RelayError('memory_exhausted', text, error);
  }
  return new SharedArena(buffer, spillDir, true);
}

/** The arena that another thread of this process made. */
export function attachArena(buffer: SharedArrayBuffer, spillDir: string): Arena {
  return new SharedArena(buffer, spillDir, false);
}

export function createReactor(options: ReactorOptions): Reactor {
  return new RingReactor(options);
}

/** Connections of a reactor, of any thread, including those on their way to it; -1 when it is gone. */
export function reactorConnections(reactorId: number): number {
  return addon.reactorLoad(reactorId);
}

/**
 * Listens and accepts. The host is an address, or a name that is resolved once. Throws an Error with code
 * ('EADDRINUSE' …), errno and address.
 */
export function listen(options: ListenOptions): Acceptor {
  const native = addon.acceptorCreate({
    ...socketOptions(options),
    fd: options.fd ?? -1,
    listener: options.listener,
    batch: options.batch,
    onAccept: (fds: Int32Array, addresses: string[]) => options.onAccept(fds, addresses),
    onError: (errno: number) => options.onError(errno),
  });
  if (typeof native !== 'number') return new NativeAcceptor(native);
  throw listenFailed(native, options);
}

/** A listening socket on which nobody accepts yet; its descriptor is the caller's. Throws as `listen`. */
export function openSocket(options: SocketOptions): number {
  const fd = addon.listenOpen(socketOptions(options));
  if (fd >= 0) return fd;
  throw listenFailed(fd, options);
}

/** Where a listening socket that somebody else opened listens. */
export function socketPlace(fd: number): { host: string; port: number } | { path: string } {
  const [host = '', port] = addon.listenPlace(fd).split(' ');
  return port === undefined ? { path: host } : { host, port: Number(port) };
}

function socketOptions({ host, port, path, backlog, reusePort }: SocketOptions): object {
  return {
    host: host ?? '127.0.0.1',
    port: port ?? 0,
    path: path ?? '',
    backlog,
    reusePort: reusePort ?? false,
  };
}

function listenFailed(errno: number, { host, port, path }: SocketOptions): Error {
  const code = getSystemErrorName(errno);
  const address = path ?? `${host ?? '127.0.0.1'}:${port ?? 0}`;
  return Object.assign(new Error(`cannot listen on ${address}: ${code}`), { code, errno: -errno, address });
}

// --------------------------------------------------------------------------------------------------------- TLS

export interface TlsSetup {
  server: boolean;
  /** PEM: the certificate with its chain, and its key. */
  certificates: readonly { chain: string; key: string }[];
  /**
   * Server: certificates that serve together under these names, by index, one for each type of key. The first group also
   * serves clients that name another host, or none.
   */
  groups: readonly { certificates: readonly number[]; names: readonly string[] }[];
  minVersion: 'TLSv1.2' | 'TLSv1.3';
  /** For TLS 1.2 (ciphers) and TLS 1.3 (ciphersuites), in OpenSSL's notation; '' for its defaults. */
  ciphers: string;
  ciphersuites: string;
  /** PEM of trusted certificates and of revocation lists; '' for none. */
  ca: string;
  crl: string;
  /** Server: send the names of trusted authorities when asking for a client's certificate. */
  /** Client: `ca` is read when the first certificate is verified. What cannot be read is not trusted. */
  caLater: boolean;
  namesCa: boolean;
  /** Server: 32 bytes with which session tickets are encrypted. */
  ticketSecret: Uint8Array;
  /** How long sessions can be resumed; 0: never. */
  sessionSeconds: number;
  /** Key exchange when TLS 1.3 resumes a session; 'light' is for servers. */
  resumption: 'full' | 'light' | 'none';
}

/** A place for a TLS context, known by its number in every thread of the process; empty at first. */
export function tlsSlot(): number {
  return addon.tlsSlot();
}

/** Makes a context and puts it into the slot for connections that begin from now on. When it throws, the slot is unchanged. */
export function configureTls(slot: number, setup: TlsSetup): void {
  const ticketSecret = Buffer.from(setup.ticketSecret);
  const problem = addon.tlsConfigure(slot, { ...setup, ticketSecret });
  if (problem !== '') throw new Error(problem);
}

/** Empties the slot. */
export function clearTls(slot: number): void {
  addon.tlsClear(slot);
}

/** PEM of a certificate that signs itself, with its key. @param names host names and addresses. */
export function makeSelfSigned(
  names: readonly string[],
  days: number,
  keyType: 'ecdsa' | 'rsa',
): { certificate: string; key: string } {
  const made = addon.tlsSelfSigned(names, days, keyType === 'rsa');
  if (made === null) throw new Error('the certificate could not be made');
  return made;
}

// -------------------------------------------------------------------------------------------------------- host

/** Zeroed memory for the processes of this host, as a descriptor to pass on. @throws RelayError */
export function createSharedMemory(bytes: number): number {
  const fd = addon.sharedMemoryCreate(bytes);
  if (fd >= 0) return fd;
  throw noMemory(bytes, fd);
}

/** Maps the memory behind a descriptor, which may then be closed. Atomics on it work over all processes. @throws RelayError */
export function mapSharedMemory(fd: number, bytes: number): ArrayBuffer {
  const memory = addon.sharedMemoryMap(fd, bytes);
  if (typeof memory !== 'number') return memory;
  throw noMemory(bytes, memory);
}

/** Sends a datagram to a Unix socket ('@' begins an abstract name) without waiting. Throws an Error with code. */
export function sendDatagram(path: string, text: string): void {
  const error = addon.datagramSend(path, text);
  if (error < 0) throw systemError(`no datagram to ${path}`, error);
}

const NO_PAM = -1000;

/**
 * Whether PAM lets the user in, account rules included. Blocks as long as PAM does: only for threads that may.
 * @throws Error when PAM itself fails: no library, no such service, a module that cannot ask.
 */
export function pamAuthenticate(ask: {
  service: string;
  /** Folder of service files, instead of the system's. */
  configDir: string | undefined;
  username: string;
  password: string;
  client: string;
}): boolean {
  const { service, configDir = '', username, password, client } = ask;
  const code = addon.pamAuthenticate(service, configDir, username, password, client);
  if (code >= 0) return code === 0;
  throw new Error(code === NO_PAM ? 'there is no PAM library here' : `PAM failed with code ${-code}`);
}

function noMemory(bytes: number, errno: number): RelayError {
  const why = systemError('', errno).message.slice(2);
  const text = `this machine does not give ${Math.ceil(bytes / 1_048_576)} MiB of shared memory (${why}); what is remembered for clients takes it: lower max_counters, max_entries (policy) or max_quota_users (auth)`;
  return new RelayError('memory_exhausted', text);
}

function systemError(what: string, errno: number): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${what}: ${code}`), { code });
}
