/**
 * Entry and composition root of a relay process under a supervisor: builds its relay from the first message, and does
 * what the supervisor says. Signals from the terminal are for the supervisor, which tells every process in its turn.
 */
import { closeSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { crashOnFaults } from '../base/crash.ts';
import { RelayError, startFault } from '../base/errors.ts';
import { EXIT, EXIT_OF_ERROR, type ExitCode } from '../base/exit-codes.ts';
import { makeFolder } from '../base/make-folder.ts';
import { PinoLog } from '../base/pino-log.ts';
import type { ControlTarget, RelayStatus } from '../control/target.ts';
import { LocalCounts, SharedCounts } from '../listener/connection-counts.ts';
import { mapSharedMemory } from '../native.ts';
import { openPolicyMemory, policySizes } from '../policy/host-memory.ts';
import { type Relay, startRelay } from '../relay/relay.ts';
import { version } from '../version.ts';
import type { FromProcess, ProcessStart, Question, Questions, ToProcess } from './messages.ts';
import { processConfig, queueFile } from './process-config.ts';

/** How often a process that only empties its queue looks whether that is empty. */
const EMPTY_CHECK_MS = 2000;

class RelayProcess {
  readonly #start: ProcessStart;
  readonly #log: PinoLog;
  #relay: Relay | null = null;
  #ending: Promise<void> | null = null;
  #drainWhenReady = false;
  #stopping = false;
  #removeQueue = false;

  constructor(start: ProcessStart) {
    this.#start = start;
    this.#log = new PinoLog({ ...start.config.log, process: start.process });
    crashOnFaults(this.#log);
  }

  async run(): Promise<void> {
    const { process: number, processes, accepts, eventsDir, sockets } = this.#start;
    const config = processConfig(this.#start.config, number, processes);
    // The descriptor stays open, because the threads map it as well.
    const policy = { fd: this.#start.memory, sizes: policySizes(config, processes), process: number };
    try {
      const file = queueFile(config);
      // The operator may have put the queue's file outside data_dir.
      if (number > 0 && file !== null) makeFolder(dirname(file), 0o700);
      this.#relay = await startRelay({
        config,
        configPath: this.#start.configPath,
        log: this.#log,
        version: version(),
        place: {
          process: number,
          processes,
          eventsDir,
          sockets,
          tlsSecret: this.#start.tlsSecret,
          counts: accepts
            ? new SharedCounts(openPolicyMemory(policy, mapSharedMemory).accounts)
            : new LocalCounts(),
          policy,
          accepts,
          ...(processes > 1 ? { others: { tell: (lines) => send({ type: 'learned', lines }) } } : {}),
        },
      });
    } catch (error) {
      await this.#failed(error);
      return;
    }
    this.#log.info('process.ready', { pid: process.pid });
    send({ type: 'ready', addresses: this.#relay.addresses });
    if (this.#drainWhenReady) this.drain();
    else if (!accepts) await this.#endWhenEmpty(this.#relay);
  }

  take(message: Exclude<ToProcess, { type: 'start' }>): void {
    switch (message.type) {
      case 'ask':
        void this.#answer(message.id, message);
        break;
      case 'ping':
        send({
          type: 'pong',
          connections: this.#relay?.connections ?? 0,
          rssBytes: process.memoryUsage.rss(),
        });
        break;
      case 'stand-in':
        this.#relay?.standInFor(message.processes);
        break;
      case 'reopen-log':
        this.#log.reopen();
        this.#relay?.reopenLog();
        break;
      case 'learned':
        this.#relay?.takeLearned(message.lines);
        break;
      case 'drain':
        this.drain();
        break;
      case 'stop':
        void this.#stop(EXIT.ok);
        break;
      default:
        message satisfies never;
    }
  }

  /** Takes no new mail, finishes what is open, and ends. */
  drain(): void {
    if (this.#relay === null) this.#drainWhenReady = true;
    else this.#ending ??= this.#drain(this.#relay);
  }

  async #drain(relay: Relay): Promise<void> {
    send({ type: 'draining' });
    const drained = relay.drain();
    // Close the sockets, so that nobody connects to one on which no process will ever accept again.
    for (const { fd } of this.#start.sockets) if (fd >= 0) closeSync(fd);
    await drained;
    await this.#stop(EXIT.ok);
  }

  async #stop(code: ExitCode): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#relay?.stop().catch((error: unknown) => this.#log.error('relay.stop_failed', { error }));
    const { config, process: number } = this.#start;
    if (this.#removeQueue) removeQueue(processConfig(config, number, 1));
    this.#log.close();
    process.exit(code);
  }

  async #failed(error: unknown): Promise<void> {
    const fault = startFault(error);
    this.#log.error('relay.start_failed', { error: fault ?? error });
    const code = fault?.code ?? 'internal';
    const message = fault?.message ?? String((error as Error)?.stack);
    await new Promise<void>((sent) => send({ type: 'failed', code, message }, sent));
    process.exit(fault === null ? EXIT.software : EXIT_OF_ERROR[fault.code]);
  }

  /** Nobody brings mail to this process any more: ends it once no mail waits. */
  async #endWhenEmpty(relay: Relay): Promise<void> {
    let remains = await relay.remains();
    while (remains === 'waiting') {
      await new Promise((resolve) => setTimeout(resolve, EMPTY_CHECK_MS));
      if (this.#ending !== null) return;
      remains = await relay.remains();
    }
    this.#removeQueue = remains === 'nothing';
    this.drain();
  }

  async #answer(id: number, question: Question): Promise<void> {
    try {
      send({ type: 'answer', id, value: await this.#ask(question) });
    } catch (error) {
      const code = error instanceof RelayError ? error.code : 'internal';
      send({ type: 'refusal', id, code, message: (error as Error).message });
    }
  }

  #ask(message: Question): Promise<Questions[Question['question']]['answer']> {
    const relay = this.#relay;
    if (relay === null) throw new RelayError('control_failed', 'the relay process is not ready');
    const { control } = relay;
    switch (message.question) {
      case 'list':
        return control.lines(message.ask);
      case 'count':
        return control.count(message.ask.selection, message.ask.by);
      case 'show':
        return control.show(message.ask);
      case 'content':
        return control.content(message.ask.queueId, message.ask.offset, message.ask.maxBytes);
      case 'stats':
        return control.stats();
      case 'shards':
        return Promise.resolve(control.shards?.() ?? []);
      case 'scheduler':
        return Promise.resolve(control.schedulerStats(null));
      case 'sites':
        return Promise.resolve(control.sites?.() ?? []);
      case 'sources':
        return Promise.resolve(control.sources?.() ?? []);
      case 'journal':
        return Promise.resolve(control.journal?.() ?? null);
      case 'status':
        return relayStatusOf(control, message.ask);
      case 'missing':
        return Promise.resolve(control.missing?.() ?? []);
      case 'operate':
        return control.operate(message.ask.action, message.ask.selection, message.ask.after);
      case 'standing':
        return Promise.resolve(control.standing?.(message.ask) ?? { holds: [], rules: [], destinations: [] });
      case 'explain':
        return Promise.resolve(control.explain?.(message.ask) ?? []);
      case 'unknownReplies':
        return control.unknownReplies?.() ?? Promise.resolve([]);
      case 'suspensions':
        return relay.takeSuspensions(message.ask);
      case 'reload':
        return Promise.resolve(this.#reload(relay, message.ask));
    }
  }

  #reload(relay: Relay, config: ProcessStart['config']): Questions['reload']['answer'] {
    this.#log.setLevel(config.log.level);
    const { process: number, processes } = this.#start;
    return relay.reload(processConfig(config, number, processes));
  }
}

function relayStatusOf({ status }: ControlTarget, counts: boolean): Promise<RelayStatus> {
  if (status === undefined) throw new RelayError('control_failed', 'this process has no status');
  return status(counts);
}

/** Removes an empty queue that nobody will fill again. If anything else is in its folder, it is not ours, and stays. */
function removeQueue(config: ProcessStart['config']): void {
  const file = queueFile(config);
  if (file === null) {
    removeFolder(config);
    return;
  }
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
  rmSync(config.data_dir, { recursive: true, force: true });
}

/** Removes the folder of a process whose queue is on servers: its journal is gone, unless damage is kept there. */
function removeFolder({ data_dir, journal }: ProcessStart['config']): void {
  for (const name of ['spill', 'queue.lock', 'queue.pid'])
    rmSync(join(data_dir, name), { recursive: true, force: true });
  for (const folder of [journal.path, data_dir]) {
    try {
      rmdirSync(folder);
    } catch {
      // Something else lies in the folder, or it was never made.
    }
  }
}

function send(message: FromProcess, sent: () => void = () => {}): void {
  // If the supervisor is gone, this process ends as well (node:cluster), and the message does not matter.
  process.send?.(message, undefined, undefined, () => sent());
}

let relayProcess: RelayProcess | null = null;
process.on('message', (message: ToProcess) => {
  if (message.type !== 'start') {
    if (relayProcess === null && message.type === 'stop') process.exit(EXIT.ok);
    relayProcess?.take(message);
  } else {
    relayProcess = new RelayProcess(message.start);
    void relayProcess.run();
  }
});
for (const signal of ['SIGINT', 'SIGHUP', 'SIGUSR1'] as const) process.on(signal, () => {});
process.on('SIGTERM', () => relayProcess?.drain());
send({ type: 'booted' });
