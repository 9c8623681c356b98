/**
 * Stand-ins for the parts of a relay process that are threads, sockets, files, or look at the machine: sessions that
 * take a message and wait for its verdict, the event log, and what has nothing to do in a simulation.
 */
import { GAUGE, type Gauges } from '../../../src/admission/gauges.ts';
import type { DataDirLock } from '../../../src/base/data-dir.ts';
import type { AttemptResult } from '../../../src/mail/job.ts';
import type { Message } from '../../../src/mail/message.ts';
import { QueueIds } from '../../../src/mail/queue-id.ts';
import { CONTENT_STATE } from '../../../src/native.ts';
import { type SessionThreadStart, VERDICT } from '../../../src/session/messages.ts';
import type { SessionThreadsPorts } from '../../../src/session/session-threads.ts';
import type { TlsSlots } from '../../../src/tls/tls-contexts.ts';
import { actor } from './clock.ts';
import { type Process, processOf } from './process.ts';

/** A session waits so long for its verdict, then answers 451; some no longer than a commit takes. */
const WAIT_MS = 1500;

interface Waiting {
  message: Message;
  answered: boolean;
}

export class SessionThreads {
  readonly reactorIds = [0];
  readonly #ports: SessionThreadsPorts;
  readonly #process: Process;
  readonly #waiting = new Map<number, Waiting>();
  #gauges: Gauges | null = null;
  #ids: QueueIds | null = null;
  #tickets = 0;
  #drained: (() => void) | null = null;
  #taking = false;

  constructor(ports: SessionThreadsPorts) {
    this.#ports = ports;
    this.#process = processOf(actor());
    this.#process.sessions = this;
  }

  async start([start]: SessionThreadStart[]): Promise<void> {
    const { gauges, origin, notBeforeMs } = start as SessionThreadStart;
    this.#gauges = new Int32Array(gauges);
    this.#ids = new QueueIds(origin, notBeforeMs);
    this.#taking = true;
  }

  /** A client has sent a message: false when it is told to come again later. */
  submit(addresses: string[]): boolean {
    const gauges = this.#gauges;
    if (!this.#taking || gauges === null || this.#ids === null || this.#drained !== null) return false;
    const { world, arena, clock } = this.#process;
    const usable = Atomics.load(gauges, GAUGE.usableShards);
    const shards = world.servers.map(({ id }) => id).filter((id) => (usable & (1 << id)) !== 0);
    if (shards.length === 0) return false;
    const queueId = this.#ids.next(clock.pick(shards));
    const message = makeMessage(this.#process, queueId, 'sender@back.test', addresses);
    arena.retain(message.content);
    const ticket = this.#tickets++;
    this.#waiting.set(ticket, { message, answered: false });
    Atomics.add(gauges, GAUGE.inflightMails, 1);
    this.#ports.messages(0, [message], [ticket]);
    const isShort = clock.chance(world.troubles.impatient);
    this.#process.later(isShort ? clock.between(1, 10 * world.troubles.slowMs) : WAIT_MS, () =>
      this.#giveUp(ticket),
    );
    return true;
  }

  #giveUp(ticket: number): void {
    const waiting = this.#waiting.get(ticket);
    if (waiting === undefined) return;
    const { waiting: fresh, withdrawn, committing, abandoned } = CONTENT_STATE;
    const { arena, world } = this.#process;
    const { content, queueId } = waiting.message;
    if (!arena.moveState(content, fresh, withdrawn) && !arena.moveState(content, committing, abandoned))
      return void this.#process.later(10, () => this.#giveUp(ticket));
    world.refused.set(queueId, this.#process);
    world.clock.note(`${this.#process.id} refuses ${queueId}`);
    this.#over(ticket, waiting);
  }

  #over(ticket: number, { message }: Waiting): void {
    this.#waiting.delete(ticket);
    this.#process.arena.release(message.content);
    if (this.#waiting.size === 0) this.#drained?.();
  }

  verdict(_thread: number, ticket: number, verdict: number): void {
    const waiting = this.#waiting.get(ticket);
    if (waiting === undefined) return;
    const { queueId, envelope } = waiting.message;
    if (verdict === VERDICT.committed)
      this.#process.world.acknowledged.set(queueId, envelope.recipients.length);
    else this.#process.world.refused.set(queueId, this.#process);
    this.#over(ticket, waiting);
  }

  postAll(): void {}

  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#drained = resolve;
      if (this.#waiting.size === 0) resolve();
    });
  }

  async stop(): Promise<void> {
    this.#taking = false;
    this.#drained ??= () => {};
  }
}

export function makeMessage(
  { arena }: Process,
  queueId: string,
  reversePath: string,
  addresses: string[],
): Message {
  const bytes = Buffer.from(`Subject: ${queueId}\r\n\r\ncontent of ${queueId}\r\n`);
  return {
    queueId,
    envelope: {
      reversePath,
      body: '7BIT',
      smtpUtf8: false,
      recipients: addresses.map((address) => ({
        address,
        domain: address.slice(address.indexOf('@') + 1),
        class: 'external',
        notify: 0,
      })),
    },
    trace: `Received: id ${queueId}\r\n`,
    content: arena.store(bytes),
    sizeBytes: bytes.length,
    receivedAtMs: Date.now(),
    client: {
      address: reversePath === '' ? 'internal' : '127.0.0.1',
      helo: 'sim',
      protocol: 'SMTP',
      sessionId: 's',
    },
  };
}

export class EventLog {
  readonly #process = processOf(actor());

  /** Of messages that came by a session the verdict tells; DSNs of our own are known by this. */
  accepted({ queueId, envelope }: Message): void {
    if (envelope.reversePath === '')
      this.#process.world.acknowledged.set(queueId, envelope.recipients.length);
  }

  attempt(result: AttemptResult): void {
    this.#process.world.told(result);
  }

  removed(): void {}

  reopen(): void {}

  async close(): Promise<void> {}
}

export const eventLogOptions = (): object => ({});

export class Listener {
  async start(): Promise<{ host: string; port: number }[]> {
    return [];
  }

  pause(): void {}

  resume(): void {}

  reconfigure(): void {}

  standIn(): void {}

  closedPeers(): void {}

  close(): void {}
}

export class PressureGauge {
  start(): void {}

  stop(): void {}

  reconfigure(): void {}
}

/** The machine's certificates took as long to load as all the rest of a world. */
export class TlsContexts {
  load(): TlsSlots {
    return { server: -1, client: -1 };
  }

  stop(): void {}
}

export const lockDataDir = (): DataDirLock => ({ usedBefore: false, release() {} });
