/**
 * The control socket of a running relay: `<data_dir>/control.sock`, for its owner only. Everything is bounded: there are
 * few connections, of which the one that is idle longest makes room for a new one; a request has a longest length and a
 * time limit; each connection has one request at a time; answers have a limited size.
 */

import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { ZodError } from 'zod';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Missing, Selection } from '../database/database.ts';
import { nameOf, type OperateAction } from '../mail/operator-action.ts';
import type { Ordered } from '../suspensions/order-book.ts';
import { concerning, union } from './missing.ts';
import {
  type ControlRequest,
  type ControlResponse,
  MAX_REQUEST_BYTES,
  type ReloadAnswer,
  requestSchema,
  withoutUndefined,
} from './protocol.ts';
import type { HostFacts, HostStatus } from './status.ts';
import type { BanBook, ControlTarget, SuspensionBook } from './target.ts';
import { mergeStandings } from './why.ts';
import { timeOf } from './words.ts';

const MAX_CONNECTIONS = 16;
/** So many faults of a request are named. */
const MAX_FAULTS = 3;
const IDLE_TIMEOUT_MS = 60_000;
/** Time for the rest of a request line once it has begun. */
const REQUEST_TIMEOUT_MS = 10_000;
/** sun_path has 108 bytes on Linux and 104 on macOS, a NUL included. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

export interface ControlServerOptions {
  path: string;
  target: ControlTarget;
  /** What `status` says of the host; absent: it is not asked. */
  facts?: () => HostFacts;
  /** Reloads as SIGHUP does. */
  reload?: () => Promise<ReloadAnswer>;
  log: Log;
  /** For tests. */
  idleMs?: number;
}

export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Sockets without a request in progress, the longest idle first. */
  readonly #idle = new Set<Socket>();

  private constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => void this.#serve(socket));
  }

  /** @throws RelayError 'control_failed' when the socket cannot be made. */
  static async start(options: ControlServerOptions): Promise<ControlServer> {
    const control = new ControlServer(options);
    await control.#listen();
    return control;
  }

  #listen(): Promise<void> {
    const { path } = this.#options;
    if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
      const text = `the control socket ${path} has a name longer than ${MAX_PATH_BYTES} bytes; choose a shorter data_dir`;
      return Promise.reject(new RelayError('control_failed', text));
    }
    // Only the holder of the data folder's lock gets here: a socket that lies there is a dead relay's.
    rmSync(path, { force: true });
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) => {
        reject(
          new RelayError(
            'control_failed',
            `the control socket ${path} cannot be made: ${error.message}`,
            error,
          ),
        );
      });
      // A connection that cannot be accepted is no reason to end: the next one may be.
      this.#server.on('error', (error) => this.#options.log.warn('control.accept_failed', { error }));
      // bind happens within listen(), so that with this umask nobody else can open the socket even for a moment.
      const umask = process.umask(0o177);
      this.#server.listen(path, resolve);
      process.umask(umask);
    });
  }

  async #serve(socket: Socket): Promise<void> {
    if (this.#sockets.size >= MAX_CONNECTIONS) this.#makeRoom();
    this.#sockets.add(socket);
    this.#idle.add(socket);
    let text = '';
    let late: NodeJS.Timeout | undefined;
    const { idleMs = IDLE_TIMEOUT_MS } = this.#options;
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#forget(socket);
      clearTimeout(late);
    });
    socket.setEncoding('utf8');
    try {
      for await (const chunk of socket) {
        // The line's end is looked for in the new part only: a request may come octet by octet.
        const from = text.length;
        text += String(chunk);
        for (let end = text.indexOf('\n', from); end !== -1; end = text.indexOf('\n')) {
          const line = text.slice(0, end);
          text = text.slice(end + 1);
          this.#idle.delete(socket);
          // Serving a request may take longer than a connection may be idle.
          socket.setTimeout(0);
          const answer = await this.#answer(line);
          // Idle again before the answer is sent: a client that does not read it is idle.
          if (this.#sockets.has(socket)) this.#idle.add(socket);
          socket.setTimeout(idleMs);
          await send(socket, answer);
        }
        if (text === '') {
          clearTimeout(late);
          late = undefined;
        } else late ??= setTimeout(() => socket.destroy(), REQUEST_TIMEOUT_MS);
        if (text.length <= MAX_REQUEST_BYTES) continue;
        await send(
          socket,
          failure(null, 'request_too_long', `a request is at most ${MAX_REQUEST_BYTES} bytes long`),
        );
        break;
      }
    } catch {
      // The client went away in the middle; nothing is left to say to it.
    }
    socket.destroy();
  }

  /** Drops the connection that is idle longest; when all are being served, the newest. */
  #makeRoom(): void {
    const [oldest] = this.#idle;
    const leaves = oldest ?? [...this.#sockets].at(-1);
    if (leaves === undefined) return;
    this.#forget(leaves);
    leaves.destroy();
    this.#options.log.warn('control.connection_dropped', {
      connections: MAX_CONNECTIONS,
      idle: oldest !== undefined,
    });
  }

  #forget(socket: Socket): void {
    this.#sockets.delete(socket);
    this.#idle.delete(socket);
  }

  async #answer(line: string): Promise<ControlResponse> {
    let request: ControlRequest;
    try {
      request = requestSchema.parse(JSON.parse(line));
    } catch (error) {
      return failure(null, 'bad_request', faultsOf(error));
    }
    try {
      // A part that comes back meanwhile, or goes, counts as missing too.
      const before = await this.#missing(request);
      const result = await this.#execute(request);
      const missing = union([before, await this.#missing(request)]);
      return { id: request.id, result, ...(missing.length === 0 ? {} : { missing }) };
    } catch (error) {
      const code = error instanceof RelayError ? error.code : 'internal';
      this.#options.log.warn('control.failed', { method: request.method, error });
      return failure(request.id, code, (error as Error).message);
    }
  }

  async #missing(request: ControlRequest): Promise<Missing[]> {
    const missing = (await this.#options.target.missing?.()) ?? [];
    const named = namedIn(request);
    return named === null ? missing : concerning(missing, named);
  }

  async #execute(request: ControlRequest): Promise<unknown> {
    const { target } = this.#options;
    switch (request.method) {
      case 'list':
        return target.lines(withoutUndefined(request.params));
      case 'count':
        return target.count(request.params.selection, request.params.by);
      case 'show':
        return target.show(request.params.queueId);
      case 'content': {
        const { queueId, offset, maxBytes } = request.params;
        const bytes = await target.content(queueId, offset, maxBytes);
        return bytes === null
          ? null
          : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
      }
      case 'stats':
        return statsOf(target);
      case 'status':
        return this.#status();
      case 'bans':
        return bansOf(target).list();
      case 'ban':
        return bansOf(target).add(request.params.network, request.params.durationMs);
      case 'unban':
        return bansOf(target).delete(request.params.network);
      case 'standing':
        return (await target.standing?.(request.params.destinations)) ?? mergeStandings([]);
      case 'explain':
        return (await target.explain?.(request.params.entries)) ?? [];
      case 'suspensions':
        return suspensionsOf(target).list();
      case 'suspend':
        return this.#ordered('suspend', await suspensionsOf(target).suspend(request.params));
      case 'resume':
        return this.#ordered('resume', await suspensionsOf(target).resume(request.params.order));
      case 'sites':
        return (await target.sites?.()) ?? [];
      case 'sources':
        return (await target.sources?.()) ?? [];
      case 'shards':
        return (await target.shards?.()) ?? [];
      case 'unknown_replies':
        return (await target.unknownReplies?.()) ?? [];
      case 'reload':
        if (this.#options.reload === undefined) throw new Error('this process cannot be reloaded by itself');
        return this.#options.reload();
      case 'operate': {
        const { action, selection, after } = request.params;
        const result = await target.operate(action, selection, after);
        this.#options.log.info('control.operated', {
          ...howOf(action),
          target: saidOf(selection),
          entries: result.rows,
        });
        return result;
      }
    }
  }

  async #status(): Promise<HostStatus> {
    const { target, facts } = this.#options;
    if (target.status === undefined || facts === undefined)
      throw new RelayError('control_failed', 'this relay has no status');
    return { ...(await target.status(true)), ...facts(), processes: target.processes?.() ?? [] };
  }

  #ordered(action: string, ordered: Ordered): Ordered {
    const { rules, unheard } = ordered;
    this.#options.log.info('suspensions.ordered', { action, rule_ids: rules.map(({ id }) => id), unheard });
    return ordered;
  }

  /** Stops listening, ends every connection and removes the socket. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.#options.path, { force: true });
  }
}

function bansOf({ bans }: ControlTarget): BanBook {
  if (bans !== undefined) return bans;
  throw new RelayError('control_failed', 'this relay keeps no bans');
}

/** An action as the log says it. */
function howOf(action: OperateAction): { action: string; detail?: string } {
  if (typeof action === 'string') return { action };
  return { action: nameOf(action), detail: 'fail' in action ? action.fail : (action.reroute ?? 'default') };
}

function suspensionsOf({ suspensions }: ControlTarget): SuspensionBook {
  if (suspensions !== undefined) return suspensions;
  throw new RelayError('control_failed', 'this relay keeps no suspensions');
}

/** What is wrong with a request, on one line. */
function faultsOf(error: unknown): string {
  if (!(error instanceof ZodError)) return (error as Error).message;
  const said = error.issues
    .slice(0, MAX_FAULTS)
    .map(({ path, message }) => `${path.filter((step) => step !== 'params').join('.')}: ${message}`);
  const more = error.issues.length > MAX_FAULTS ? ', and more' : '';
  return `the relay does not take this: ${said.join('; ')}${more}`;
}

function failure(id: number | null, code: string, message: string): ControlResponse {
  return { id, error: { code, message } };
}

/** Waits until the kernel took the answer: a client that does not read holds one answer in memory, not many. */
function send(socket: Socket, response: ControlResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(`${JSON.stringify(response)}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

async function statsOf(target: ControlTarget): Promise<object> {
  const queue = await target.stats();
  const scheduler = await target.schedulerStats(queue);
  return { queue, scheduler, journal: await target.journal?.(), processes: target.processes?.() };
}

/** Ids of the messages that the request names; null: it is about all messages. */
function namedIn(request: ControlRequest): readonly string[] | null {
  if (request.method === 'show' || request.method === 'content') return [request.params.queueId];
  return 'selection' in request.params ? (request.params.selection?.ids ?? null) : null;
}

/** A selection as the log names it: of ids, how many. */
function saidOf(selection: Selection): object {
  const { ids, ...rest } = selection;
  const said = Object.entries({ ...rest, ...(ids === undefined ? {} : { messages: ids.length }) });
  if (said.length === 0) return { all: true };
  return Object.fromEntries(said.map(([key, value]) => saidOne(snakeCase(key), value)));
}

/** Times are said as everywhere: received_before_at. */
const saidOne = (key: string, value: unknown): [string, unknown] =>
  /^received_\w+_ms$/.test(key) ? [key.replace(/_ms$/, '_at'), timeOf(Number(value))] : [key, value];

const snakeCase = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
