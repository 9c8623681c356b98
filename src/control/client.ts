/** The command line's end of the control socket: asks a running relay. */
import { createConnection, type Socket } from 'node:net';
import { type ErrorCode, RelayError } from '../base/errors.ts';
import { EXIT_OF_ERROR } from '../base/exit-codes.ts';
import type { MailDetail, Missing, OperateAction, QueueFilter, Selection } from '../database/database.ts';
import type { ShardReport } from '../database/shard-setup.ts';
import type { SourceReport } from '../egress/source-report.ts';
import { type AskedEntry, type Explained, MAX_ASKED } from '../mail/blocker.ts';
import type { Counted, CountKey } from '../mail/queue-counts.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import type { SiteReport } from '../mail/site-report.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import type { UnknownReply } from '../mail/unknown-reply.ts';
import type { Ban } from '../policy/ban-table.ts';
import type { Ordered } from '../suspensions/order-book.ts';
import { union } from './missing.ts';
import type { ControlRequest, ControlResponse, ReloadAnswer, RunningStats } from './protocol.ts';
import type { HostStatus } from './status.ts';
import type { BanBook, Operated, QueueReader, Standing, SuspensionBook } from './target.ts';

/** A relay that answers nobody for so long is taken for stopped or stuck. */
const PATIENCE_MS = 5000;

/** Orders, which a relay that did not answer carries out all the same should it go on, and what shows whether it did. */
const SHOWN_BY: Readonly<Partial<Record<ControlRequest['method'], string>>> = {
  suspend: 'suspensions',
  resume: 'suspensions',
  ban: 'ban list',
  unban: 'ban list',
  operate: 'queue list',
  reload: 'status',
};

interface Waiting {
  method: ControlRequest['method'];
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class ControlClient implements QueueReader {
  readonly #socket: Socket;
  readonly #watch: NodeJS.Timeout;
  #heard = false;
  #text: string[] = [];
  #nextId = 1;
  #missing: Missing[] = [];
  readonly #pending = new Map<number, Waiting>();

  private constructor(socket: Socket, path: string, patienceMs: number) {
    this.#socket = socket;
    this.#watch = setInterval(() => void this.#look(path, patienceMs), patienceMs).unref();
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      this.#heard = true;
      this.#take(chunk);
    });
    socket.on('error', () => {});
    socket.on('close', () => this.#end(ended()));
  }

  /** false: the relay ended the connection, as it does with one that is idle. */
  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  #end(error: RelayError): void {
    clearInterval(this.#watch);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#socket.destroy();
  }

  /** An answer may take long; that the relay answers nobody at all may not. */
  async #look(path: string, patienceMs: number): Promise<void> {
    const waits = this.#pending.size > 0 && !this.#heard;
    this.#heard = false;
    if (!waits || (await answersAtAll(path, patienceMs)) || this.#heard) return;
    const shownBy = [...this.#pending.values()].flatMap(({ method }) => SHOWN_BY[method] ?? [])[0];
    const later =
      shownBy === undefined ? '' : `; should it go on, it does what it was told: see protorelay ${shownBy}`;
    const text = `the relay does not answer (${path}): it is stopped or stuck${later}`;
    this.#end(new RelayError('control_silent', text));
  }

  /** Connects; null when no relay listens there. Throws RelayError 'control_failed' when one does and may not be asked. */
  static connect(path: string, patienceMs = PATIENCE_MS): Promise<ControlClient | null> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path);
      socket.once('connect', () => resolve(new ControlClient(socket, path, patienceMs)));
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED' || error.code === 'ENOTDIR')
          resolve(null);
        else
          reject(
            new RelayError(
              'control_failed',
              `the control socket ${path} cannot be opened: ${error.message}`,
              error,
            ),
          );
      });
    });
  }

  lines(filter: QueueFilter): Promise<string[]> {
    return this.#call('list', filter) as Promise<string[]>;
  }

  count(selection: Selection, by: CountKey | null): Promise<Counted> {
    return this.#call('count', { selection, by }) as Promise<Counted>;
  }

  show(queueId: string): Promise<MailDetail | null> {
    return this.#call('show', { queueId }) as Promise<MailDetail | null>;
  }

  async content(queueId: string, offset: number, maxBytes: number): Promise<Uint8Array | null> {
    const text = (await this.#call('content', { queueId, offset, maxBytes })) as string | null;
    return text === null ? null : Buffer.from(text, 'base64');
  }

  async stats(): Promise<QueueStats> {
    return (await this.runningStats()).queue;
  }

  runningStats(): Promise<RunningStats> {
    return this.#call('stats', {}) as Promise<RunningStats>;
  }

  status(): Promise<HostStatus> {
    return this.#call('status', {}) as Promise<HostStatus>;
  }

  shards(): Promise<ShardReport[]> {
    return this.#call('shards', {}) as Promise<ShardReport[]>;
  }

  sites(): Promise<SiteReport[]> {
    return this.#call('sites', {}) as Promise<SiteReport[]>;
  }

  sources(): Promise<SourceReport[]> {
    return this.#call('sources', {}) as Promise<SourceReport[]>;
  }

  operate(action: OperateAction, selection: Selection, after = ''): Promise<Operated> {
    return this.#call('operate', { action, selection, after }) as Promise<Operated>;
  }

  /** Reloads the config, certificates included. */
  reload(): Promise<ReloadAnswer> {
    return this.#call('reload', {}) as Promise<ReloadAnswer>;
  }

  get bans(): BanBook {
    return {
      list: () => this.#call('bans', {}) as Promise<Ban[]>,
      add: (network, durationMs) => this.#call('ban', { network, durationMs }) as Promise<Ban>,
      delete: (network) => this.#call('unban', { network }) as Promise<boolean>,
    };
  }

  standing(destinations: string[]): Promise<Standing> {
    return this.#call('standing', { destinations }) as Promise<Standing>;
  }

  /** What limits these entries, and keeps them. */
  async explain(entries: readonly AskedEntry[]): Promise<Explained[]> {
    const all: Explained[] = [];
    for (let i = 0; i < entries.length; i += MAX_ASKED) {
      const asked = { entries: entries.slice(i, i + MAX_ASKED) };
      all.push(...((await this.#call('explain', asked)) as Explained[]));
    }
    return all;
  }

  unknownReplies(): Promise<UnknownReply[]> {
    return this.#call('unknown_replies', {}) as Promise<UnknownReply[]>;
  }

  get suspensions(): SuspensionBook {
    return {
      list: () => this.#call('suspensions', {}) as Promise<SuspensionRule[]>,
      suspend: (order) => this.#call('suspend', order) as Promise<Ordered>,
      resume: (order) => this.#call('resume', { order }) as Promise<Ordered>,
    };
  }

  /** Parts of the queue that the answers so far left out. */
  async missing(): Promise<Missing[]> {
    return this.#missing;
  }

  close(): void {
    clearInterval(this.#watch);
    this.#socket.destroy();
  }

  #call(method: ControlRequest['method'], params: object): Promise<unknown> {
    // The connection may also have ended between two questions.
    if (this.#socket.destroyed) return Promise.reject(ended());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { method, resolve, reject });
      this.#socket.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  #take(chunk: string): void {
    let rest = chunk;
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
      const line = this.#text.join('') + rest.slice(0, end);
      this.#text = [];
      rest = rest.slice(end + 1);
      this.#settle(JSON.parse(line) as ControlResponse);
    }
    if (rest !== '') this.#text.push(rest);
  }

  #settle(response: ControlResponse): void {
    // An answer without an id (to a request that could not be read) answers all that wait: the connection is lost.
    const ids = response.id === null ? [...this.#pending.keys()] : [response.id];
    for (const id of ids) {
      const waiting = this.#pending.get(id);
      this.#pending.delete(id);
      if ('result' in response) {
        if (response.missing !== undefined) this.#missing = union([this.#missing, response.missing]);
        waiting?.resolve(response.result);
      } else {
        waiting?.reject(new RelayError(codeOf(response.error.code), response.error.message));
      }
    }
  }
}

/** Whether a relay that listens there answers anything in time: what is no request is answered at once. */
function answersAtAll(path: string, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path, () => socket.write('\n'));
    const end = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(withinMs, () => end(false));
    socket.once('data', () => end(true));
    // One that is gone ends our connection too. Of one that is stuck the queue of connections is full.
    socket.once('close', () => end(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => end(code !== 'EAGAIN'));
  });
}

const ended = (): RelayError => new RelayError('control_failed', 'the relay ended the connection');

/** The error's code as the relay had it, so that a full disk, say, has the same exit code here. */
function codeOf(code: string): ErrorCode {
  // While a part of the queue is away, the same command may succeed later.
  if (code === 'database_unavailable') return 'database_busy';
  return Object.hasOwn(EXIT_OF_ERROR, code) ? (code as ErrorCode) : 'control_failed';
}
