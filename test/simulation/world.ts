/**
 * A world with a seed: virtual time, a disk that fails, peers that accept, defer and refuse, and power cuts. What
 * relay.ts wires (group commit, scheduler, database client, settlement) runs in it for real, over a real database
 * file; threads, sockets and clocks are ours. A failure is repeated by its seed.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../src/config/schema.ts';
import type { ClaimResult, OutboxPlan } from '../../src/database/database.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import type { Message } from '../../src/mail/message.ts';
import type { Outcome, OutcomeGroup, PeerReply } from '../../src/mail/outcome.ts';
import { QueueIds } from '../../src/mail/queue-id.ts';
import { CONTENT_STATE } from '../../src/native.ts';
import { DatabaseClient, type TaskPool } from '../../src/persistence/database-client.ts';
import type { Entry, SettleItem } from '../../src/persistence/entry.ts';
import { type EntryOutcome, GroupCommit } from '../../src/persistence/group-commit.ts';
import { jobOf, planMessage } from '../../src/persistence/plan.ts';
import { QueueThread, routeTable } from '../../src/persistence/queue-thread.ts';
import type { Answer, Task } from '../../src/persistence/tasks.ts';
import { toSettlement } from '../../src/persistence/to-settlement.ts';
import { EmbeddedScheduler } from '../../src/scheduler/embedded.ts';
import { FakeArena } from '../persistence/fake-arena.ts';
import { makeConfig } from '../persistence/fixture.ts';
import { random } from '../support/dice.ts';

export interface Troubles {
  /** Share of database tasks that meet a fault. */
  diskFaults: number;
  /** Mean virtual milliseconds between power cuts; 0: none. */
  crashEveryMs: number;
  /** Share of attempts that are deferred, and bounced. */
  deferred: number;
  bounced: number;
}

export const HEALED: Troubles = { diskFaults: 0, crashEveryMs: 0, deferred: 0, bounced: 0 };

const SENDER = 'sender@back.test';
/** A session waits so long for its verdict, then answers 451. */
const WAIT_MS = 150;

interface Happening {
  atMs: number;
  order: number;
  run: () => void;
}

export class World {
  nowMs = 1_800_000_000_000;
  troubles: Troubles;
  readonly next: () => number;
  readonly dir: string;
  /** Answered 250, with the number of recipients; DSNs of ours once durable. */
  readonly acknowledged = new Map<string, number>();
  /** Answered 451, and in which life. */
  readonly refused = new Map<string, Life>();
  /** 'queue id seq' → times a peer took it over, refused it for good, and times we logged its final fate. */
  readonly taken = new Map<string, number>();
  readonly bounces = new Map<string, number>();
  readonly fates = new Map<string, number>();
  readonly damaged: string[] = [];
  crashes = 0;
  faults = 0;
  life: Life;
  #happenings: Happening[] = [];
  #order = 0;

  constructor(seed: number, dir: string, troubles: Troubles) {
    this.next = random(seed);
    this.dir = dir;
    this.troubles = troubles;
    this.life = new Life(this);
  }

  later(delayMs: number, run: () => void): { cancel(): void } {
    const happening = { atMs: this.nowMs + Math.max(0, Math.round(delayMs)), order: this.#order++, run };
    this.#happenings.push(happening);
    return {
      cancel: () => {
        const at = this.#happenings.indexOf(happening);
        if (at >= 0) this.#happenings.splice(at, 1);
      },
    };
  }

  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** Lets virtual time pass until `done`, at most to `untilMs`. Returns whether it was done. */
  async run(untilMs: number, done: () => boolean = () => false): Promise<boolean> {
    // Promises of one instant settle before the next begins.
    const settle = () => new Promise((resolve) => setImmediate(resolve));
    await settle();
    while (!done()) {
      let first: Happening | undefined;
      for (const one of this.#happenings) {
        if (
          first === undefined ||
          one.atMs < first.atMs ||
          (one.atMs === first.atMs && one.order < first.order)
        )
          first = one;
      }
      if (first === undefined || first.atMs > untilMs) return false;
      this.#happenings.splice(this.#happenings.indexOf(first), 1);
      this.nowMs = Math.max(this.nowMs, first.atMs);
      first.run();
      await settle();
    }
    return true;
  }

  /** A power cut, and the next start. */
  async crash(): Promise<void> {
    this.crashes++;
    await this.life.cut();
    this.life = new Life(this);
    await this.life.start();
  }

  count(map: Map<string, number>, key: string): void {
    map.set(key, (map.get(key) ?? 0) + 1);
  }
}

/** One life of a relay, from start to power cut; wired as relay.ts wires it. */
export class Life {
  readonly arena = new FakeArena();
  alive = true;
  readonly database: DatabaseClient;
  readonly scheduler: EmbeddedScheduler;
  readonly commits: GroupCommit;
  readonly #world: World;
  readonly #thread: QueueThread;
  readonly #config: Config;
  #ids = new QueueIds(1, 0);
  #tasks: Promise<unknown> = Promise.resolve();

  constructor(world: World) {
    this.#world = world;
    this.#config = makeConfig(world.dir, { delivery: { max_handoff_messages: 20 } });
    const spillDir = join(world.dir, 'spill');
    mkdirSync(spillDir, { recursive: true });
    this.#thread = new QueueThread({ config: this.#config, arena: this.arena, spillDir });
    const pool: TaskPool = { run: (task) => this.#disk(task), destroy: async () => {} };
    const now = (): number => world.nowMs;
    this.database = new DatabaseClient(pool, { now });
    const routes = routeTable(this.#config);
    this.scheduler = new EmbeddedScheduler(
      {
        claim: (destination, limit) =>
          this.database.claim({
            destination,
            limit,
            maxRecipients: 1000,
            nowMs: world.nowMs,
            leaseUntilMs: world.nowMs + 60_000,
          }),
        deliver: (jobs) => {
          for (const job of jobs) this.#attempt(job);
        },
        contentBytes: this.arena.totalBytes,
        freeContentBytes: () => this.arena.freeBytes(),
        now,
        setTimer: (atMs, fire) => this.#later(atMs - world.nowMs, fire),
      },
      { maxInFlight: 20, enabled: true, isShared: false, onClaimError: () => {} },
    );
    const ports = {
      plan: (entry: Entry) => planMessage(entry, routes, this.scheduler),
      committed: (entries: Entry[], outcomes: EntryOutcome[]) => {
        for (let i = 0; i < entries.length; i++)
          this.#committed(entries[i] as Entry, outcomes[i] as EntryOutcome);
      },
      failed: (entries: Entry[]) => {
        for (const entry of entries) this.#failed(entry);
      },
      settled: (items: SettleItem[], accepted: boolean[]) => {
        for (let i = 0; i < items.length; i++) this.#settled(items[i] as SettleItem, accepted[i] === true);
      },
    };
    this.commits = new GroupCommit(this.database, ports, {
      arena: this.arena,
      leaseMs: 60_000,
      now,
      setTimer: (fire, delayMs) => void this.#later(delayMs, fire),
    });
  }

  async start(): Promise<void> {
    // The disk does not fail while a relay starts: then it would just not start.
    const { diskFaults } = this.#world.troubles;
    this.#world.troubles = { ...this.#world.troubles, diskFaults: 0 };
    const ready = (async () => {
      const { newestQueueId } = await this.database.recover(this.#world.nowMs);
      // Virtual time never goes back: ids stay unique if they begin after now.
      this.#ids = new QueueIds(
        1,
        newestQueueId === null ? 0 : this.#world.nowMs + 1,
        () => this.#world.nowMs,
      );
      this.scheduler.rebuild(await this.database.backlog());
    })();
    let started = false;
    void ready.then(() => {
      started = true;
    });
    await this.#world.run(this.#world.nowMs + 60_000, () => started);
    await ready;
    this.#world.troubles = { ...this.#world.troubles, diskFaults };
    this.scheduler.start();
  }

  async cut(): Promise<void> {
    this.alive = false;
    await this.#thread.close();
  }

  get idle(): boolean {
    const { queuedMessages, queuedSettlements, commitAgeMs } = this.commits.stats();
    const { inFlight, waitingRows } = this.scheduler.stats();
    return queuedMessages + queuedSettlements + commitAgeMs + inFlight + waitingRows === 0;
  }

  #later(delayMs: number, run: () => void): { cancel(): void } {
    return this.#world.later(delayMs, () => {
      if (this.alive) run();
    });
  }

  /** One task after another, each with its time and sometimes a fault: before its work, or after it. */
  #disk(task: Task): Promise<Answer> {
    const done = this.#tasks.then(
      () =>
        new Promise<Answer>((resolve, reject) => {
          const world = this.#world;
          this.#later(world.between(1, 12), () => {
            const faulty = task.kind !== 'fate' && world.next() < world.troubles.diskFaults;
            const work = (): Promise<Answer> => this.#thread.run(structuredClone(task));
            if (!faulty) return void work().then(resolve, reject);
            world.faults++;
            const kind = world.next();
            const fault = {
              code: kind < 0.3 ? 'database_unavailable' : 'database_full',
              message: 'simulated',
            } as const;
            if (kind < 0.6) resolve({ value: null, fault, mails: 0, logBytes: 0, file: null });
            else if (kind < 0.8) reject(new Error('the thread died before its work'));
            else void work().then((answer) => reject(this.#died(task, answer)), reject);
          });
        }),
    );
    this.#tasks = done.catch(() => {});
    return done;
  }

  /** The thread dies between its work and its answer. Content it had loaded keeps its references in the arena. */
  #died(task: Task, answer: Answer): Error {
    if (task.kind === 'claim' && answer.fault === null) {
      for (const { content } of (answer.value as ClaimResult).jobs) this.arena.release(content);
    }
    return new Error('the thread died after its work');
  }

  /** What a session does with a complete message. */
  submit(domains: string[]): void {
    const queueId = this.#ids.next();
    const message = this.#message(
      queueId,
      SENDER,
      domains.map((domain, seq) => `r${seq}@${domain}`),
    );
    // The session's own reference, until its verdict.
    this.arena.retain(message.content);
    const state = { answered: false };
    this.commits.submit([{ message, plan: [], thread: 0, ticket: this.#tickets.push(state) - 1 }]);
    this.#later(WAIT_MS, () => this.#giveUp(message, state));
  }

  readonly #tickets: { answered: boolean }[] = [];

  #giveUp(message: Message, state: { answered: boolean }): void {
    if (state.answered) return;
    const { waiting, withdrawn, committing, abandoned } = CONTENT_STATE;
    const { content, queueId } = message;
    if (
      !this.arena.moveState(content, waiting, withdrawn) &&
      !this.arena.moveState(content, committing, abandoned)
    )
      return void this.#later(10, () => this.#giveUp(message, state));
    state.answered = true;
    this.arena.release(content);
    this.#world.refused.set(queueId, this);
  }

  /** Closes the session's wait; false when it had given up. */
  #answer(entry: Entry): boolean {
    const state = this.#tickets[entry.ticket];
    if (state === undefined || state.answered) return false;
    state.answered = true;
    this.arena.release(entry.message.content);
    return true;
  }

  #message(queueId: string, reversePath: string, addresses: string[]): Message {
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
      content: this.arena.store(bytes),
      sizeBytes: bytes.length,
      receivedAtMs: this.#world.nowMs,
      client: {
        address: reversePath === '' ? 'internal' : '127.0.0.1',
        helo: 'sim',
        protocol: 'SMTP',
        sessionId: 's',
      },
    };
  }

  #committed(entry: Entry, outcome: EntryOutcome): void {
    if (!this.alive) return;
    const { message, plan, thread } = entry;
    if (outcome !== 'committed') {
      this.#cancel(plan);
      this.arena.release(message.content);
      return;
    }
    if (thread < 0 || this.#answer(entry))
      this.#world.acknowledged.set(message.queueId, message.envelope.recipients.length);
    for (const row of plan) {
      if (row.state === 'SENDING') {
        this.arena.retain(message.content);
        this.scheduler.handOff(jobOf(message, row));
      } else if (row.state === 'PENDING') this.scheduler.waiting(row.destination, 1, this.#world.nowMs);
    }
    this.arena.release(message.content);
  }

  #failed(entry: Entry): void {
    if (!this.alive) return;
    this.#cancel(entry.plan);
    if (this.#answer(entry)) this.#world.refused.set(entry.message.queueId, this);
    this.arena.release(entry.message.content);
  }

  #cancel(plan: OutboxPlan[]): void {
    for (const row of plan)
      if (row.state === 'SENDING') this.scheduler.cancel(row.destination, row.seqs.length);
  }

  #settled({ settlement, result }: SettleItem, accepted: boolean): void {
    if (!this.alive) return;
    if (accepted) {
      for (const { seqs, outcome } of result.groups) {
        if (outcome.kind === 'deferred') continue;
        for (const seq of seqs) this.#world.count(this.#world.fates, `${result.queueId} ${seq}`);
      }
    }
    this.scheduler.settled(result, accepted ? settlement.retryAtMs : null);
  }

  /** A delivery thread and its peer: the peer decides at one moment, we learn of it at a later one. */
  #attempt(job: Job): void {
    const world = this.#world;
    this.#later(world.between(1, 40), () => {
      const groups = this.#decide(job);
      this.#later(world.between(1, 30), () => this.#report(job, groups));
    });
  }

  #decide(job: Job): OutcomeGroup[] {
    const world = this.#world;
    const content = Buffer.concat(this.arena.parts(job.content)).toString();
    if (!content.endsWith(`content of ${job.queueId}\r\n`)) world.damaged.push(job.queueId);
    const reply: PeerReply = {
      code: 250,
      enhanced: '2.0.0',
      text: 'ok',
      peer: { host: 'peer.test', address: '192.0.2.1', port: 25, source: '' },
    };
    return job.recipients.map(({ seq }) => {
      const fate = world.next();
      let outcome: Outcome;
      if (fate < world.troubles.deferred) {
        const retryAtMs = world.nowMs + world.between(20, 2000);
        outcome = { kind: 'deferred', reason: 'peer_4xx', detail: '451 later', retryAtMs };
      } else if (fate < world.troubles.deferred + world.troubles.bounced) {
        world.count(world.bounces, `${job.queueId} ${seq}`);
        outcome = { kind: 'bounced', reason: 'peer_5xx', status: '5.1.1', detail: '550 no' };
      } else {
        world.count(world.taken, `${job.queueId} ${seq}`);
        outcome = { kind: 'delivered', reply, dsnPassedOn: false };
      }
      return { seqs: [seq], outcome };
    });
  }

  #report(job: Job, groups: OutcomeGroup[]): void {
    this.arena.release(job.content);
    const bounced = groups.some(({ outcome }) => outcome.kind === 'bounced') && job.reversePath !== '';
    const dsns = bounced ? [this.#message(this.#ids.next(), '', [job.reversePath])] : [];
    const result: AttemptResult = {
      queueId: job.queueId,
      destination: job.destination,
      fence: job.fence,
      attempts: job.attempts + 1,
      reversePath: job.reversePath,
      receivedAtMs: job.receivedAtMs,
      sizeBytes: job.sizeBytes,
      groups,
      recipients: job.recipients,
      times: { queueMs: 0, connectMs: 0, transferMs: 0 },
      dsns,
      delayNotified: false,
    };
    this.commits.settle([
      {
        settlement: toSettlement(result),
        result,
        dsns: dsns.map((message) => ({ message, plan: [], thread: -1, ticket: -1 })),
      },
    ]);
  }
}
