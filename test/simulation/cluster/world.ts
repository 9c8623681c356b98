/**
 * Several relay processes on several nodes, with the database servers they share, in one seeded world: what it does
 * to them, and what must hold all the while. A fault is written down with its time, because a recipient may be
 * delivered twice only when one explains it (I6).
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../../src/config/schema.ts';
import { configSchema } from '../../../src/config/schema.ts';
import type { Selection } from '../../../src/database/database.ts';
import type { AttemptResult, Job } from '../../../src/mail/job.ts';
import type { Move } from '../../../src/mail/operator-action.ts';
import { shardOfQueueId } from '../../../src/mail/queue-id.ts';
import { type Relay, startRelay } from '../../../src/relay/relay.ts';
import type { Scheduler } from '../../../src/scheduler/scheduler.ts';
import { Clock } from './clock.ts';
import { type LinkTroubles, Network } from './network.ts';
import { Process } from './process.ts';
import { Server } from './server.ts';

export interface Troubles extends LinkTroubles {
  /** Mean virtual milliseconds between faults of each kind; 0: none. */
  crashEveryMs: number;
  drainEveryMs: number;
  hangEveryMs: number;
  cutEveryMs: number;
  serverKillEveryMs: number;
  serverPauseEveryMs: number;
  threadDeathEveryMs: number;
  /** An operator ends or reroutes mail that waits. */
  operateEveryMs: number;
  /** Shares. */
  deadlocks: number;
  slowPeers: number;
  lostReplies: number;
  deferred: number;
  bounced: number;
  /** Of clients that wait no longer than a commit takes. */
  impatient: number;
  /** How often a node looks for what is due. */
  pollMs: number;
  /** With delivery, in each node. */
  places: number;
}

export const HEALED: Troubles = {
  crashEveryMs: 0,
  drainEveryMs: 0,
  hangEveryMs: 0,
  cutEveryMs: 0,
  serverKillEveryMs: 0,
  serverPauseEveryMs: 0,
  threadDeathEveryMs: 0,
  operateEveryMs: 0,
  losses: 0,
  deadlocks: 0,
  slowPeers: 0,
  lostReplies: 0,
  deferred: 0,
  bounced: 0,
  impatient: 0,
  slowShare: 0.15,
  slowMs: 12,
  pollMs: 250,
  places: 12,
};

interface Fault {
  kind: string;
  /** null: whoever it is. */
  process: Process | null;
  shard: number | null;
  fromMs: number;
  toMs: number;
}

interface Acceptance {
  process: Process;
  /** When its content began to go out, and when the peer took it. */
  startMs: number;
  atMs: number;
}

/**
 * Faults after which a process may send again what it sent itself: its peer broke off, it was cut short, or a shard
 * came back with the lease lapsed and the process claimed the row before its own result was written there.
 */
const FORGETS = new Set([
  'lost reply',
  'drain cut',
  'server killed',
  'server paused',
  'partition',
  'lost connection',
  'thread death',
  'hang',
  'held up',
]);
const VIA = 'via:other.test:25';
export const DESTINATIONS = ['a.test', 'b.test', 'c.test', 'd.test', 'back.test'];
const LEASE_MS = 2000;
/** Of clocks that differ; two may differ by twice as much. Within the margin that leases have (5 %). */
const SKEW_MS = 40;
/** After a fault ends it still shows for so long: shards are tried again after a pause, settlements too. */
const AFTERMATH_MS = LEASE_MS + 1500;

export class World {
  readonly seed: number;
  readonly clock: Clock;
  readonly network: Network;
  readonly servers: Server[];
  readonly nodes: Node[];
  readonly leaseMs = LEASE_MS;
  readonly dir: string;
  troubles: Troubles;
  /** Answered 250, with the number of recipients; DSNs of ours once durable. */
  readonly acknowledged = new Map<string, number>();
  /** Answered 451, and by whom. */
  readonly refused = new Map<string, Process>();
  /** 'queue id seq' → the times a peer took it, refused it, and its final fate was told. */
  readonly taken = new Map<string, Acceptance[]>();
  readonly bounces = new Map<string, number>();
  readonly fates = new Map<string, number>();
  readonly faults: Fault[] = [];
  readonly violations: string[] = [];
  readonly counts = {
    held: 0,
    crash: 0,
    drain: 0,
    hang: 0,
    cut: 0,
    serverKill: 0,
    serverPause: 0,
    threadDeath: 0,
    failed: 0,
    rerouted: 0,
    lost: 0,
    lapsed: 0,
    leasesLapsed: 0,
    rejected: 0,
    duplicates: 0,
    withdrawn: 0,
    notWithdrawn: 0,
    takenBack: 0,
  };
  readonly duplicatesBy = new Map<string, number>();
  healing = false;

  constructor(seed: number, dir: string, nodes: number, shards: number, troubles: Troubles) {
    this.seed = seed;
    this.dir = dir;
    this.clock = new Clock(seed);
    this.network = new Network(this.clock, HEALED);
    this.network.lost = (process, { id }) => {
      this.counts.lost++;
      this.fault('lost connection', process as Process, id, this.clock.nowMs, this.clock.nowMs);
    };
    this.troubles = troubles;
    this.servers = Array.from({ length: shards }, (_, id) => new Server(id, this.clock));
    for (const server of this.servers)
      server.wasHeld = (fromMs) => this.fault('held up', null, server.id, fromMs, this.clock.nowMs);
    this.nodes = Array.from({ length: nodes }, (_, i) => new Node(this, `node-${'abcd'[i]}`));
  }

  violation(text: string): void {
    if (this.violations.length < 10) this.violations.push(`${text} (at ${this.clock.elapsedMs} ms)`);
  }

  fault(kind: string, process: Process | null, shard: number | null, fromMs: number, toMs: number): Fault {
    const fault = { kind, process, shard, fromMs, toMs };
    this.faults.push(fault);
    this.clock.note(`${kind} ${process?.id ?? ''} ${shard ?? ''} for ${toMs - fromMs}`);
    return fault;
  }

  /** Content begins to go out: the row must be this process's. */
  sends(process: Process, { queueId, destination, fence }: Job): void {
    this.clock.note(`${process.id} sends ${queueId} ${destination} ${fence}`);
    const server = this.servers[shardOfQueueId(queueId)] as Server;
    const [row] = server.look<{ state: string; fence: number; owner: string | null; untilMs: number }>(
      `SELECT state, fence, lease_owner AS owner, due_at AS untilMs FROM mail_outbox
       WHERE mail_id = ? AND destination = ?`,
      queueId,
      destination,
    );
    const ours =
      row?.state === 'SENDING' && (row.fence === fence || row.owner?.startsWith(process.node) === true);
    if (!ours)
      this.violation(
        `${process.id} sends ${queueId} ${destination} with fence ${fence}, but the row is ${JSON.stringify(row)}`,
      );
    // Nobody has taken it over yet, but anybody may.
    else if (row.untilMs <= this.clock.nowMs)
      this.violation(
        `${process.id} sends ${queueId} ${destination} ${this.clock.nowMs - row.untilMs} ms after the end of its lease`,
      );
  }

  takes(key: string, process: Process, startMs: number): void {
    const before = this.taken.get(key) ?? [];
    const acceptance = { process, startMs, atMs: this.clock.nowMs };
    for (const other of before) {
      const [first, second] = other.startMs <= startMs ? [other, acceptance] : [acceptance, other];
      this.counts.duplicates++;
      const why = this.#explains(first, second, shardOfQueueId(key.split(' ')[0] as string));
      if (why === null)
        this.violation(
          `${key} is taken from ${first.process.id} and from ${second.process.id}, and no fault explains it`,
        );
      else this.duplicatesBy.set(why, (this.duplicatesBy.get(why) ?? 0) + 1);
    }
    this.taken.set(key, [...before, acceptance]);
    this.clock.note(`${key} taken from ${process.id}`);
  }

  refuses(key: string): void {
    this.bounces.set(key, (this.bounces.get(key) ?? 0) + 1);
  }

  /**
   * The fault between the first acceptance and the second send that kept the first from being recorded. One and the
   * same process knows what it sent, unless the peer broke off or it was cut short itself.
   */
  #explains(first: Acceptance, second: Acceptance, shard: number): string | null {
    for (const { kind, process, ...fault } of this.faults) {
      if (fault.fromMs > second.startMs || fault.toMs + AFTERMATH_MS < first.startMs) continue;
      if (process !== null && process !== first.process) continue;
      if (fault.shard !== null && fault.shard !== shard) continue;
      if (first.process === second.process && !FORGETS.has(kind)) continue;
      return kind;
    }
    return null;
  }

  /** A result is settled, and told to the operator. */
  told({ queueId, groups }: AttemptResult): void {
    for (const { seqs, outcome } of groups) {
      if (outcome.kind === 'deferred') continue;
      for (const seq of seqs) {
        const key = `${queueId} ${seq}`;
        const times = (this.fates.get(key) ?? 0) + 1;
        this.fates.set(key, times);
        if (times > 1) this.violation(`${key} has ${times} fates`);
      }
    }
  }

  begin(): void {
    for (const node of this.nodes) node.start();
    this.#watch();
  }

  /** Mail comes in for so long, troubles with it. */
  async live(busyMs: number, messages: number): Promise<void> {
    this.begin();
    await this.clock.run(this.clock.nowMs + 500);
    const { clock } = this;
    const untilMs = clock.nowMs + busyMs;
    this.network.troubles = this.troubles;
    for (const server of this.servers) server.deadlocks = this.troubles.deadlocks;
    for (let i = 0; i < messages; i++) clock.later(clock.next() * busyMs, () => this.submit());
    const { troubles } = this;
    this.#trouble(troubles.crashEveryMs, untilMs, () => clock.pick(this.nodes).crash());
    this.#trouble(troubles.drainEveryMs, untilMs, () => clock.pick(this.nodes).restart());
    this.#trouble(troubles.hangEveryMs, untilMs, () => this.#hang());
    this.#trouble(troubles.cutEveryMs, untilMs, () => this.#cut());
    this.#trouble(troubles.serverKillEveryMs, untilMs, () => this.#killServer());
    this.#trouble(troubles.serverPauseEveryMs, untilMs, () => this.#pauseServer());
    this.#trouble(troubles.threadDeathEveryMs, untilMs, () => clock.pick(this.nodes).threadDies());
    this.#trouble(troubles.operateEveryMs, untilMs, () => this.#operate());
    await clock.run(untilMs);
    this.#heal();
  }

  /** From now on, every so often. */
  #watch(): void {
    this.clock.later(150, () => {
      for (const node of this.nodes) node.check();
      for (const server of this.servers) this.counts.held += server.releaseHeld();
      if (this.counts.held > 0 && this.counts.crash === 0) this.violation('rows are held though nobody died');
      this.#watch();
    });
  }

  #trouble(everyMs: number, untilMs: number, strike: () => void): void {
    if (everyMs === 0) return;
    const { clock } = this;
    const next = (): void => {
      clock.later(clock.between(1, everyMs * 2), () => {
        if (this.healing || clock.nowMs >= untilMs) return;
        strike();
        next();
      });
    };
    next();
  }

  /** A client sends a message to a few recipients. */
  submit(): void {
    const { clock } = this;
    const domains = DESTINATIONS.slice(0, 4).filter(() => clock.chance(0.35));
    if (domains.length === 0) domains.push('a.test');
    while (clock.chance(0.4)) domains.push(clock.pick(domains));
    const addresses = domains.map((domain, seq) => `r${seq}@${domain}`);
    const first = clock.between(0, this.nodes.length - 1);
    // A client goes on to the next node when one does not answer.
    for (let i = 0; i < this.nodes.length; i++) {
      const { process } = this.nodes[(first + i) % this.nodes.length] as Node;
      if (process === null || !process.alive || process.stopped) continue;
      if (process.enter(() => process.sessions?.submit(addresses) ?? false)) return;
    }
  }

  /** One node stands still, or the machine they all run on; often for about as long as leases last. */
  #hang(): void {
    const { clock } = this;
    const forMs = clock.chance(0.5)
      ? clock.between(LEASE_MS / 2, LEASE_MS * 1.5)
      : clock.between(50, LEASE_MS * 3);
    if (clock.chance(0.75)) clock.pick(this.nodes).hang(forMs);
    else for (const node of this.nodes) node.hang(forMs);
  }

  #operate(): void {
    const { clock } = this;
    const action = clock.pick<Move>([
      { fail: 'said' },
      { reroute: VIA },
      { reroute: VIA },
      { reroute: null },
    ]);
    const ids = [...this.acknowledged.keys()];
    const selection = clock.pick<Selection>([
      {},
      { destinations: [clock.pick(DESTINATIONS)] },
      { recipients: ['r1@a.test', 'r0@b.test'] },
      { ids: ids.slice(-10) },
    ]);
    clock.pick(this.nodes).operate(action, selection);
  }

  #cut(): void {
    const { clock } = this;
    const node = clock.pick(this.nodes);
    const server = clock.pick(this.servers);
    const forMs = clock.between(50, LEASE_MS * 2);
    this.counts.cut++;
    // Whatever lives its node has meanwhile.
    const fault = this.fault('partition', null, server.id, clock.nowMs, clock.nowMs + forMs);
    this.network.cut(node.name, server.id);
    clock.later(forMs, () => {
      fault.toMs = clock.nowMs;
      this.network.heal(node.name, server.id);
    });
  }

  #killServer(): void {
    const { clock } = this;
    const server = clock.pick(this.servers);
    if (!server.up) return;
    const forMs = clock.between(50, LEASE_MS * 2);
    this.counts.serverKill++;
    this.fault('server killed', null, server.id, clock.nowMs, clock.nowMs + forMs);
    server.kill();
    clock.later(forMs, () => server.start());
  }

  #pauseServer(): void {
    const { clock } = this;
    const server = clock.pick(this.servers);
    if (!server.up || server.paused) return;
    const forMs = clock.between(50, LEASE_MS * 1.5);
    this.counts.serverPause++;
    this.fault('server paused', null, server.id, clock.nowMs, clock.nowMs + forMs);
    server.pause();
    clock.later(forMs, () => server.resume());
  }

  #heal(): void {
    const { clock } = this;
    this.healing = true;
    // Now and then a node never comes back: the others have to do its work.
    const mayLose = this.troubles.crashEveryMs > 0 && this.nodes.length > 1;
    const lost = mayLose && clock.chance(0.5) ? clock.pick(this.nodes) : null;
    lost?.leave();
    this.troubles = HEALED;
    this.network.troubles = HEALED;
    this.network.healAll();
    for (const server of this.servers) {
      server.deadlocks = 0;
      server.start();
      server.resume();
    }
    for (const node of this.nodes) node.heal();
  }

  /** @returns the virtual milliseconds until everything is at rest; null when that takes longer than `withinMs`. */
  async rest(withinMs: number): Promise<number | null> {
    const fromMs = this.clock.nowMs;
    while (this.clock.nowMs < fromMs + withinMs) {
      await this.clock.run(this.clock.nowMs + 100);
      if (this.#atRest()) return this.clock.nowMs - fromMs;
    }
    return null;
  }

  #atRest(): boolean {
    for (const server of this.servers) {
      const [{ open } = { open: 0 }] = server.look<{ open: number }>(
        "SELECT count(*) AS open FROM mail_outbox WHERE state NOT IN ('SENT', 'DEAD')",
      );
      if (open > 0) return false;
    }
    return this.nodes.every((node) => node.idle);
  }

  /** At rest: what became of everybody. */
  judge(): void {
    const status = new Map<string, string>();
    /** 'queue id seq' → how many DSNs tell of it. */
    const reported = new Map<string, number>();
    for (const server of this.servers) {
      for (const row of server.look<{ id: string; seq: number; status: string }>(
        'SELECT mail_id AS id, seq, status FROM mail_recipients',
      ))
        status.set(`${row.id} ${row.seq}`, row.status);
      for (const { about } of server.look<{ about: string }>(
        "SELECT client_helo AS about FROM mails WHERE reverse_path = ''",
      ))
        for (const key of about.split(',')) reported.set(key, (reported.get(key) ?? 0) + 1);
    }
    for (const [queueId, recipients] of this.acknowledged)
      for (let seq = 0; seq < recipients; seq++) {
        const key = `${queueId} ${seq}`;
        if (!status.has(key)) this.violation(`${key} was acknowledged and is lost`);
      }
    for (const [key, fate] of status) {
      if (fate === 'removed' && !this.refused.has(key.split(' ')[0] as string))
        this.violation(`${key} is removed, and its client was not refused`);
      if (fate === 'waiting') this.violation(`${key} waits in a row that is settled`);
      if (fate === 'delivered' && !this.taken.has(key))
        this.violation(`${key} counts as delivered, nobody took it`);
      if (fate === 'bounced' && !this.bounces.has(key))
        this.violation(`${key} counts as bounced, nobody refused it`);
    }
    for (const [key, times] of reported) {
      // A bounce that was written down before its message was withdrawn, after a 451, and went with its last row.
      if (!status.has(key) && this.refused.has(key.split(' ')[0] as string) && this.bounces.has(key))
        continue;
      if (times !== 1 || status.get(key) !== 'bounced')
        this.violation(`${times} DSNs say that ${key} bounced; it is ${status.get(key)}`);
    }
    for (const [key, fate] of status)
      if (fate === 'bounced' && this.#hasSender(key) && !reported.has(key))
        this.violation(`${key} bounced, and no DSN says so`);
  }

  #hasSender(key: string): boolean {
    const queueId = key.split(' ')[0] as string;
    const server = this.servers[shardOfQueueId(queueId)] as Server;
    return server.look('SELECT 1 FROM mails WHERE id = ? AND reverse_path <> ?', queueId, '').length > 0;
  }

  /** What stands in the way of rest, for people. */
  describe(): string {
    const rows = this.servers.flatMap((server) =>
      server.look(
        "SELECT mail_id, destination, state, due_at, fence, lease_owner, reason FROM mail_outbox WHERE state NOT IN ('SENT', 'DEAD')",
      ),
    );
    return JSON.stringify({
      nowMs: this.clock.nowMs,
      rows: rows.slice(0, 5),
      nodes: this.nodes.map((n) => n.describe()),
    });
  }
}

/** Of a single process they are there at once. */
const statsOf = (relay: Relay): ReturnType<Scheduler['stats']> =>
  relay.control.schedulerStats(null) as ReturnType<Scheduler['stats']>;

/** A member of the cluster, over its lives. */
export class Node {
  readonly name: string;
  readonly #world: World;
  readonly #config: Config;
  readonly #skewMs: number;
  process: Process | null = null;
  #relay: Relay | null = null;
  #lives = 0;
  #gone = false;
  #hang: { fault: Fault } | null = null;

  constructor(world: World, name: string) {
    this.name = name;
    this.#world = world;
    this.#skewMs = world.clock.between(-SKEW_MS, SKEW_MS);
    const dataDir = join(world.dir, name);
    mkdirSync(dataDir, { recursive: true });
    this.#config = configSchema.parse({
      node_id: name,
      data_dir: dataDir,
      lease_ms: LEASE_MS,
      storage: { provider: 'local', local: { path: join(world.dir, 'mail') } },
      scheduler: { poll_interval_ms: world.troubles.pollMs },
      session_threads: 1,
      delivery_threads: 1,
      persist_threads: 1,
      dns: { cache_max_entries: 0 },
      shutdown_grace_ms: 2000,
      delivery: { max_handoff_messages: world.troubles.places },
      queue: { keep_delivered_ms: 86_400_000, purge_interval_ms: 1000 },
      database: {
        driver: 'mysql_distributed',
        retry_delay_ms: 100,
        max_retry_delay_ms: 400,
        shards: world.servers.map(({ id }) => ({
          name: `s${id}`,
          host: 's',
          port: 10_000 + id,
          initial_pool_size: 1,
          max_pool_size: 4,
          connection_timeout_ms: 400,
          query_timeout_ms: 800,
          idle_timeout_ms: 5000,
        })),
      },
    });
  }

  start(): void {
    const world = this.#world;
    if (this.#gone) return;
    const process = new Process(world, this.name, ++this.#lives, this.#skewMs);
    this.process = process;
    world.clock.note(`${process.id} starts`);
    process.enter(() => {
      const log = {
        debug: (event: string, fields?: Record<string, unknown>) => process.says(event, fields),
        info() {},
        warn: (event: string, fields?: Record<string, unknown>) => this.#logged(event, fields),
        error: (event: string, fields?: Record<string, unknown>) => this.#logged(event, fields),
      };
      startRelay({ config: this.#config, configPath: '', log, version: 'simulation' }).then(
        (relay) => {
          if (process.alive) this.#relay = relay;
        },
        () => {
          // As the supervisor would: again after a while.
          if (!process.alive) return;
          this.#end(process);
          world.clock.later(300, () => {
            if (this.process === null) this.start();
          });
        },
      );
    });
  }

  #logged(event: string, fields: Record<string, unknown> = {}): void {
    const { counts, clock } = this.#world;
    clock.note(`${this.name} ${event} ${fields.error ?? ''}`);
    if (event === 'leases.lapsed') counts.leasesLapsed++;
    if (event === 'settlement.rejected') counts.rejected++;
  }

  #end(process: Process): void {
    process.kill();
    this.#world.network.ended(process);
    if (this.process === process) this.process = null;
    this.#relay = null;
    this.#hang = null;
  }

  /** kill -9, and a start some time later. */
  crash(): void {
    const { process } = this;
    const world = this.#world;
    if (process === null) return;
    world.counts.crash++;
    world.fault('crash', process, null, world.clock.nowMs, world.clock.nowMs);
    this.#end(process);
    this.#startLater();
  }

  #startLater(): void {
    const { clock } = this.#world;
    clock.later(clock.between(10, LEASE_MS * 2), () => {
      if (this.process === null) this.start();
    });
  }

  /** SIGTERM: drained, stopped, started again. */
  restart(): void {
    const { process } = this;
    const relay = this.#relay;
    const world = this.#world;
    if (process === null || relay === null || process.stopped) return;
    world.counts.drain++;
    world.clock.note(`${process.id} drains`);
    process.enter(() => {
      const { now } = Date;
      void (async () => {
        const fromMs = now();
        await relay.drain();
        await relay.stop();
        if (!process.alive) return;
        // What could not be written down in the time it had is a duplicate later.
        world.fault('stop', process, null, world.clock.nowMs - (now() - fromMs), world.clock.nowMs);
        this.#end(process);
        this.#startLater();
      })();
    });
  }

  /** SIGSTOP. */
  hang(forMs: number): void {
    const { process } = this;
    const world = this.#world;
    if (process === null || process.stopped) return;
    world.counts.hang++;
    const fault = world.fault('hang', process, null, world.clock.nowMs, world.clock.nowMs + forMs);
    this.#hang = { fault };
    process.stop();
    world.clock.later(forMs, () => this.#goOn(process));
  }

  #goOn(process: Process): void {
    if (!process.stopped || !process.alive) return;
    if (this.#hang !== null) this.#hang.fault.toMs = this.#world.clock.nowMs;
    this.#hang = null;
    process.continue();
  }

  threadDies(): void {
    const { process } = this;
    const world = this.#world;
    if (process === null || process.threadDies === null || process.stopped) return;
    world.counts.threadDeath++;
    world.fault('thread death', process, null, world.clock.nowMs, world.clock.nowMs);
    process.threadDied = true;
    process.threadDies();
  }

  /** `protorelay queue fail`, `queue reroute`. */
  operate(action: Move, selection: Selection): void {
    const { process } = this;
    const relay = this.#relay;
    const { counts } = this.#world;
    if (process === null || relay === null || process.stopped) return;
    process.enter(() =>
      relay.control.operate(action, selection).then(
        ({ recipients }) => {
          counts['fail' in action ? 'failed' : 'rerouted'] += recipients;
        },
        // A shard is away: what was done there stays done.
        () => {},
      ),
    );
  }

  /** It dies and is not started again. */
  leave(): void {
    this.crash();
    this.#gone = true;
  }

  heal(): void {
    if (this.process === null) this.start();
    else this.#goOn(this.process);
  }

  /** Nothing is kept of what is over. */
  get idle(): boolean {
    const { process } = this;
    if (this.#gone) return true;
    if (process === null || this.#relay === null) return false;
    const { inFlight, waitingRows, destinations } = statsOf(this.#relay);
    return inFlight + waitingRows + destinations === 0 && (process.threadDied || process.arena.held === 0);
  }

  /** What must hold at any time: nothing grows beyond its limit. */
  check(): void {
    if (this.#relay === null || this.process === null) return;
    const { destinations, inFlight } = statsOf(this.#relay);
    // Those of a claim under way come on top of those of new mail, which has as many places.
    const { delivery } = this.#config;
    const most = 2 * delivery.max_handoff_messages;
    if (inFlight < 0 || inFlight > most)
      this.#world.violation(`${this.process.id} has ${inFlight} in flight`);
    if (destinations > 2 * (DESTINATIONS.length + 1))
      this.#world.violation(`${this.process.id} keeps ${destinations} destinations`);
    if ((this.process.deliveries?.size ?? 0) > most)
      this.#world.violation(`${this.process.id} delivers more than it may`);
  }

  describe(): object {
    return {
      process: this.process?.id,
      relay: this.#relay !== null,
      scheduler: this.#relay === null ? null : statsOf(this.#relay),
      held: this.process?.arena.held,
      deliveries: this.process?.deliveries?.size,
    };
  }
}
