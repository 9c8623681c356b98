/**
 * The relay processes of a host as one relay: starts them, passes on what signals and operators want, process by
 * process, and merges their answers. Holds the listening sockets, so that none is lost with a process: while one is
 * down, the others accept its connections. Knows nothing of mail.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { nextOf, PartCursor } from '../base/part-cursor.ts';
import { planReload } from '../config/reload.ts';
import type { Config } from '../config/schema.ts';
import type {
  ControlTarget,
  Operated,
  ProcessStatus,
  QueueReader,
  RelayStatus,
  SchedulerStats,
  Standing,
} from '../control/target.ts';
import type { Missing, OperateAction, QueueFilter, Selection } from '../database/database.ts';
import type { SourceReport } from '../egress/source-report.ts';
import type { JournalStats } from '../journal/journal.ts';
import type { GivenSocket, ListeningAddress } from '../listener/sockets.ts';
import { mergeExplained } from '../mail/blocker.ts';
import { nameOf } from '../mail/operator-action.ts';
import type { QueueStats } from '../mail/queue-stats.ts';
import { mergeSiteReports } from '../mail/site-report.ts';
import type { SuspensionRule } from '../mail/suspension.ts';
import { mergeUnknown } from '../mail/unknown-reply.ts';
import { Child, type ForkEvents, type Forked } from './child.ts';
import type { ProcessStart, Questions, ToProcess } from './messages.ts';

const PING_MS = 1000;
/** How long to wait for one process's answer to a reload before the next process is told. */
const RELOAD_MS = 10_000;
/** How long a process may take to take back mail that an operator suspends. */
const RULES_MS = 5000;
/** How long a process may take to stop before it gets SIGKILL; durable mail stays durable. */
const STOP_MS = 8000;

/** The queues of all processes as one; made by control/merged-queue.ts. */
export interface Rollup {
  queue(readers: () => readonly QueueReader[]): QueueReader;
  scheduler(parts: readonly SchedulerStats[], queue: QueueStats | null): SchedulerStats;
  journal(parts: readonly (JournalStats | null)[]): JournalStats | null;
  standing(parts: readonly Standing[]): Standing;
  sources(parts: readonly SourceReport[][]): SourceReport[];
  status(parts: readonly RelayStatus[]): RelayStatus;
}

export interface SupervisorOptions {
  config: Config;
  configPath: string;
  /** Number of processes that accept mail. */
  processes: number;
  /** Numbers of earlier processes whose queues are not empty yet. */
  leftovers: readonly number[];
  /** Sockets of all processes, by our descriptors. */
  sockets: readonly GivenSocket[];
  /** Descriptor of the memory that the connection policy of all processes shares. */
  memory: number;
  log: Log;
  rollup: Rollup;
  /** Starts a relay process; its descriptors from 4 on are `fds` in order. */
  fork(fds: readonly number[], events: ForkEvents): Forked;
  /** Closes the sockets for good. */
  closeSockets(): void;
  /** Gives back the connections of a process that ended. */
  clearCounts(process: number): void;
  /** Steady time. */
  now(): number;
  timeOfDay?(atMs: number): number;
  setTimer(ms: number, fire: () => void): { cancel(): void };
}

/** The first descriptor that we give a relay process: 0 to 2 are standard, 3 is the channel to us. */
const FIRST_FD = 4;

export class Supervisor {
  addresses: ListeningAddress[] = [];
  readonly control: ControlTarget;
  readonly #options: SupervisorOptions;
  readonly #tlsSecret = randomBytes(32);
  readonly #children: Child[];
  #config: Config;
  #pings: { cancel(): void } | null = null;
  #socketsOpen = true;
  #draining: Promise<void> | null = null;
  #reloading: Promise<unknown> = Promise.resolve();
  /** The config each process has. */
  readonly #given = new Map<number, Config>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#config = options.config;
    const numbers = Array.from({ length: options.processes }, (_, process) => process);
    this.#children = [
      ...numbers.map((process) => this.#child(process, true)),
      ...options.leftovers.map((process) => this.#child(process, false)),
    ];
    this.control = this.#createControl();
  }

  /** Starts all processes. @throws RelayError when one of them cannot start; then all are ended. */
  async start(): Promise<void> {
    this.#pingLater();
    try {
      await Promise.all(this.#children.map((child) => child.start()));
    } catch (error) {
      await this.stop().catch(() => {}); // the error that matters is the one that kept us from starting
      throw error;
    }
    this.addresses = addressesOf(this.#options.sockets);
  }

  /** Whether some process serves, and every running one answers; for the service manager's watchdog. */
  healthy(): boolean {
    const states = this.#children.filter(({ accepts }) => accepts).map(({ state }) => state);
    return states.includes('ready') && !states.includes('silent');
  }

  drain(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  async #drain(): Promise<void> {
    this.#closeSockets();
    await endAll(this.#children.map((child) => child.end('drain')));
  }

  async stop(): Promise<void> {
    this.#closeSockets();
    const late = this.#options.setTimer(STOP_MS, () => {
      for (const child of this.#children) child.kill();
    });
    try {
      await endAll(this.#children.map((child) => child.end('stop')));
    } finally {
      late.cancel();
      this.#pings?.cancel();
    }
  }

  /** Reloads one process after the other; those that start meanwhile start with the new config. */
  reload(next: Config): Promise<Questions['reload']['answer']> {
    const result = this.#reloading.then(() => this.#reload(next));
    this.#reloading = result.catch(() => {});
    return result;
  }

  async #reload(next: Config): Promise<Questions['reload']['answer']> {
    const { config, applied, needsRestart } = planReload(this.#config, next);
    this.#config = config;
    const problems = new Set<string>();
    for (const child of this.#children)
      for (const problem of await this.#bringUpToDate(child)) problems.add(problem);
    return { applied, needsRestart, problems: [...problems] };
  }

  /** Gives a process the new config. One that is not ready gets it when it is, or starts with it anyway. */
  async #bringUpToDate(child: Child): Promise<string[]> {
    if (child.state !== 'ready' || this.#given.get(child.process) === this.#config) return [];
    this.#given.set(child.process, this.#config);
    try {
      const { problems } = await this.#bounded(child.ask('reload', this.#config), RELOAD_MS);
      return problems ?? [];
    } catch (error) {
      this.#options.log.warn('process.reload_late', { process: child.process, error });
      return [];
    }
  }

  reopenLog(): void {
    this.#tellAll({ type: 'reopen-log' });
  }

  #bounded<T>(promise: Promise<T>, ms: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.#options.setTimer(ms, () => reject(new Error(`no answer within ${ms} ms`)));
      promise.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  #child(process: number, accepts: boolean): Child {
    const { log, now, timeOfDay, setTimer, sockets, memory, fork, clearCounts } = this.#options;
    const inherited = accepts ? [memory, ...sockets.map(({ fd }) => fd)] : [];
    return new Child(process, accepts, {
      log,
      now,
      ...(timeOfDay === undefined ? {} : { timeOfDay }),
      setTimer,
      fork: (events) => fork(inherited, events),
      start: () => this.#start(process, accepts),
      timing: () => {
        const { restart_delay_ms, max_restart_delay_ms, hang_timeout_ms } = this.#config.supervisor;
        return {
          restartDelayMs: restart_delay_ms,
          maxRestartDelayMs: max_restart_delay_ms,
          hangTimeoutMs: hang_timeout_ms,
        };
      },
      changed: () => {
        this.#standIn();
        for (const child of this.#children) if (child.process === process) void this.#bringUpToDate(child);
      },
      learned: (lines) => {
        for (const child of this.#children)
          if (child.process !== process) child.send({ type: 'learned', lines });
      },
      ended: () => {
        if (accepts) clearCounts(process);
      },
    });
  }

  #start(process: number, accepts: boolean): ProcessStart {
    const { configPath, processes, sockets } = this.#options;
    this.#given.set(process, this.#config);
    return {
      config: this.#config,
      configPath,
      process,
      processes,
      accepts,
      eventsDir: join(this.#config.data_dir, 'events'),
      sockets: sockets.map((socket, i) => ({ ...socket, fd: accepts ? FIRST_FD + 1 + i : -1 })),
      memory: FIRST_FD,
      tlsSecret: this.#tlsSecret,
    };
  }

  /** Lets processes that are ready accept for those that are not. */
  #standIn(): void {
    const accepting = this.#children.filter(({ accepts }) => accepts);
    const absent = accepting.filter(({ state }) => state !== 'ready').map(({ process }) => process);
    for (const child of accepting)
      if (child.state === 'ready') child.send({ type: 'stand-in', processes: absent });
  }

  #pingLater(): void {
    this.#pings = this.#options.setTimer(PING_MS, () => {
      for (const child of this.#children) child.ping();
      this.#pingLater();
    });
  }

  #tellAll(message: ToProcess): void {
    for (const child of this.#children) child.send(message);
  }

  #closeSockets(): void {
    if (!this.#socketsOpen) return;
    this.#socketsOpen = false;
    this.#options.closeSockets();
  }

  /** The processes that have not ended for good: only these can be asked. */
  #living(): Child[] {
    return this.#children.filter(({ state }) => state !== 'ended');
  }

  #createControl(): ControlTarget {
    const { rollup } = this.#options;
    const queue = rollup.queue(() => this.#askable(this.#answering()).map(readerOf));
    return {
      lines: (filter) => queue.lines(filter),
      count: (selection, by) => queue.count(selection, by),
      show: (queueId) => queue.show(queueId),
      content: (queueId, offset, maxBytes) => queue.content(queueId, offset, maxBytes),
      // The counts are of processes that answer; `processes` says which do.
      stats: () => queue.stats(),
      schedulerStats: async (counted) => {
        const parts = await Promise.all(this.#answering().map((child) => child.ask('scheduler', null)));
        return rollup.scheduler(parts, counted);
      },
      shards: async () => (await this.#askable(this.#answering())[0]?.ask('shards', null)) ?? [],
      sites: async () =>
        mergeSiteReports(await Promise.all(this.#answering().map((child) => child.ask('sites', null)))),
      sources: async () =>
        rollup.sources(await Promise.all(this.#answering().map((child) => child.ask('sources', null)))),
      journal: async () =>
        rollup.journal(await Promise.all(this.#answering().map((child) => child.ask('journal', null)))),
      standing: async (destinations) =>
        rollup.standing(
          await Promise.all(this.#answering().map((child) => child.ask('standing', destinations))),
        ),
      explain: async (entries) =>
        mergeExplained(await Promise.all(this.#answering().map((child) => child.ask('explain', entries)))),
      unknownReplies: async () => {
        const parts = this.#answering().map((child) => child.ask('unknownReplies', null));
        return mergeUnknown(await Promise.all(parts), this.#config.replies.unknown_kept);
      },
      status: async () => {
        const counting = this.#askable(this.#answering());
        const parts = this.#answering().map((child) => child.ask('status', counting.includes(child)));
        return rollup.status(await Promise.all(parts));
      },
      missing: () => this.#missing(),
      operate: (action, selection, after = '') => this.#operate(action, selection, after),
      processes: (): ProcessStatus[] => this.#children.map((child) => child.status()),
    };
  }

  #answering(): Child[] {
    return this.#children.filter(({ state }) => state === 'ready' || state === 'draining');
  }

  /**
   * The processes that must be asked for the whole queue. On servers each one knows it all, so one is enough, best a
   * ready one.
   */
  #askable(children: Child[]): Child[] {
    if (this.#config.database.driver === 'sqlite') return children;
    const ready = children.find(({ state }) => state === 'ready') ?? children[0];
    return ready === undefined ? [] : [ready];
  }

  /** Does what can be done, and names processes that cannot be asked; the same command does the rest later. */
  async #operate(action: OperateAction, selection: Selection, after: string): Promise<Operated> {
    const children = this.#askable(this.#answering());
    const onServers = this.#config.database.driver !== 'sqlite';
    // On servers any process can go on with what another began.
    const from = new PartCursor(onServers ? '' : after);
    const placeOf = ({ process }: Child): string | null => (onServers ? after : from.of(process));
    const results = await Promise.allSettled(
      children.map(async (child): Promise<Operated & { process: number }> => {
        const place = placeOf(child);
        const done =
          place === null ? nothing() : await child.ask('operate', { action, selection, after: place });
        return { process: child.process, ...done };
      }),
    );
    const sum = nothing();
    const done = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    for (const { rows, recipients, sending, queueIds } of done) {
      sum.rows += rows;
      sum.recipients += recipients;
      sum.sending += sending;
      sum.queueIds.push(...queueIds);
    }
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      const { message } = failed.reason as Error;
      throw new RelayError(
        'control_failed',
        `${nameOf(action)}: ${sum.rows} entries changed, but ${message}`,
      );
    }
    sum.next = onServers ? (done[0]?.next ?? null) : nextOf(done.map(({ process, next }) => [process, next]));
    return sum;
  }

  /**
   * Tells every process of rules that operators began or ended. One that does not hear follows by itself: the rules are
   * in the host's files.
   * @returns who did not hear: processes, and shards of the queue.
   */
  async takeSuspensions(rules: SuspensionRule[]): Promise<string[]> {
    const living = this.#living();
    const answers = await Promise.allSettled(
      living.map((child) => this.#bounded(child.ask('suspensions', rules), RULES_MS)),
    );
    const unheard = answers.flatMap((answer, i) =>
      answer.status === 'fulfilled' ? answer.value : [`relay process ${living[i]?.process}`],
    );
    return [...new Set(unheard)];
  }

  /** The queues of processes that do not answer, and the parts that the others cannot see. */
  async #missing(): Promise<Missing[]> {
    const asked = this.#askable(this.#answering());
    const unseen = this.#config.database.driver === 'sqlite' || asked.length === 0;
    const silent = this.#living().filter((child) => !this.#answering().includes(child));
    const missing: Missing[] = unseen ? silent.map((child) => child.missing()) : [];
    for (const child of this.#answering())
      missing.push(...(await child.ask('missing', null).catch(() => [child.missing()])));
    return missing;
  }
}

const nothing = (): Operated => ({ rows: 0, recipients: 0, sending: 0, queueIds: [], next: null });

function readerOf(child: Child): QueueReader {
  return {
    lines: (filter: QueueFilter) => child.ask('list', filter),
    count: (selection, by) => child.ask('count', { selection, by }),
    show: (queueId) => child.ask('show', queueId),
    content: (queueId, offset, maxBytes) => child.ask('content', { queueId, offset, maxBytes }),
    stats: () => child.ask('stats', null),
  };
}

/** The address of each listener once, although the sockets of several processes listen on it. */
function addressesOf(sockets: readonly GivenSocket[]): ListeningAddress[] {
  const seen = new Set<string>();
  return sockets
    .map(({ listener, address }) => ({ key: JSON.stringify([listener, address]), address }))
    .filter(({ key }) => !seen.has(key) && seen.add(key))
    .map(({ address }) => address);
}

/** Waits until all have ended, then rejects with the first bad end. */
async function endAll(endings: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(endings);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
