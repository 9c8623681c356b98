/**
 * Stands in for the delivery threads: attempts at simulated peers that take their time, defer, refuse, and break off
 * after they accepted. As in delivery/client/content.ts, content goes out only while the lease holds.
 */
import type { Gauges } from '../../../src/admission/gauges.ts';
import { configSchema } from '../../../src/config/schema.ts';
import type { DeliveryThreadsPorts } from '../../../src/delivery/delivery-threads.ts';
import type { DeliveryThreadStart } from '../../../src/delivery/messages.ts';
import { unbegun } from '../../../src/delivery/unbegun.ts';
import type { AttemptResult, Job } from '../../../src/mail/job.ts';
import type { DeferralReason, Outcome, OutcomeGroup, PeerReply } from '../../../src/mail/outcome.ts';
import { QueueIds, shardOfQueueId } from '../../../src/mail/queue-id.ts';
import { meantBy, type Selection } from '../../../src/mail/selection.ts';
import { leaseHolds } from '../../../src/scheduler/leases.ts';
import { isTooOld } from '../../../src/scheduler/retry.ts';
import { Actor, actor } from './clock.ts';
import { makeMessage } from './parts.ts';
import { type Process, processOf } from './process.ts';

interface Attempt {
  job: Job;
  begun: boolean;
  ended: boolean;
}

const RETRY = configSchema.parse({}).retry;
const REPLY: PeerReply = {
  code: 250,
  enhanced: '2.0.0',
  text: 'ok',
  peer: { host: 'peer.test', address: '192.0.2.1', port: 25, source: '' },
};

export class Deliveries {
  readonly #ports: DeliveryThreadsPorts;
  readonly #process: Process;
  readonly #thread: Actor;
  readonly #attempts = new Set<Attempt>();
  #gauges: Gauges | null = null;
  #ids: QueueIds | null = null;
  #unfinished: Job[] = [];
  #drained: ((unfinished: Job[]) => void) | null = null;

  constructor(ports: DeliveryThreadsPorts) {
    this.#ports = ports;
    this.#process = processOf(actor());
    this.#thread = new Actor(this.#process.clock, this.#process);
    this.#process.deliveries = this;
  }

  async start([start]: DeliveryThreadStart[]): Promise<void> {
    const { gauges, origin, notBeforeMs } = start as DeliveryThreadStart;
    this.#gauges = new Int32Array(gauges);
    this.#ids = new QueueIds(origin, notBeforeMs);
  }

  get size(): number {
    return this.#attempts.size;
  }

  deliver(jobs: Job[]): void {
    for (const job of jobs) {
      if (this.#drained !== null) {
        this.#unfinished.push(job);
        continue;
      }
      for (const { job: other } of this.#attempts)
        if (other.queueId === job.queueId && other.destination === job.destination)
          this.#process.world.violation(
            `${this.#process.id} sends ${job.queueId} ${job.destination} twice at a time`,
          );
      const attempt = { job, begun: false, ended: false };
      this.#attempts.add(attempt);
      const outcome = unbegun(job, RETRY, isTooOld, this.#process.now());
      if (outcome !== null) this.#fail(attempt, outcome);
      else this.#then(attempt, this.#connectMs(), () => this.#envelope(attempt));
    }
  }

  /** Without a peer. */
  #fail(attempt: Attempt, outcome: Outcome): void {
    const { queueId, recipients } = attempt.job;
    for (const { seq } of recipients) this.#process.world.refuses(`${queueId} ${seq}`);
    this.#then(attempt, 1, () => this.#end(attempt, [{ seqs: recipients.map(({ seq }) => seq), outcome }]));
  }

  #then(attempt: Attempt, delayMs: number, next: () => void): void {
    this.#thread.later(delayMs, () => {
      if (!attempt.ended) next();
    });
  }

  /** How long until a connection is there for it. */
  #connectMs(): number {
    const { clock, world } = this.#process;
    return clock.chance(0.3) ? clock.between(0, world.leaseMs / 2) : clock.between(1, 15);
  }

  /** How long the peer takes for one reply. */
  #replyMs(): number {
    const { clock, world } = this.#process;
    return clock.chance(world.troubles.slowPeers)
      ? clock.between(0, world.leaseMs * 2.5)
      : clock.between(1, 20);
  }

  #envelope(attempt: Attempt): void {
    attempt.begun = true;
    const { queueId, destination } = attempt.job;
    if (this.#process.withdrawn.has(queueId))
      this.#process.world.violation(
        `${this.#process.id} begins with ${queueId} ${destination}, which it withdraws`,
      );
    this.#then(attempt, this.#replyMs(), () => this.#content(attempt));
  }

  #content(attempt: Attempt): void {
    const { job } = attempt;
    const { world } = this.#process;
    if (!leaseHolds(this.#gauges as Gauges, job, Date.now())) {
      world.counts.lapsed++;
      this.#defer(attempt, 'lease_lapsed');
      return;
    }
    world.sends(this.#process, job);
    const text = Buffer.concat(this.#process.arena.parts(job.content)).toString();
    if (!text.endsWith(`content of ${job.queueId}\r\n`))
      world.violation(`content of ${job.queueId} is damaged`);
    const startMs = world.clock.nowMs;
    // It is with the peer now, which goes on whatever becomes of us; we learn of it later, or never.
    world.clock.later(this.#replyMs(), () => {
      const groups = this.#decide(job, startMs);
      if (!world.clock.chance(world.troubles.lostReplies)) {
        this.#then(attempt, world.clock.between(0, 30), () => this.#end(attempt, groups));
        return;
      }
      world.fault('lost reply', this.#process, null, startMs, world.clock.nowMs + 1);
      this.#then(attempt, 1, () => this.#defer(attempt, 'connection_lost'));
    });
  }

  /** The peer reads the end of data. */
  #decide(job: Job, startMs: number): OutcomeGroup[] {
    const { world, clock } = this.#process;
    return job.recipients.map(({ seq }) => {
      const fate = clock.next();
      const { deferred, bounced } = world.troubles;
      let outcome: Outcome;
      if (fate < deferred)
        outcome = {
          kind: 'deferred',
          reason: 'peer_4xx',
          detail: '451 later',
          retryAtMs: this.#process.now() + clock.between(20, 2000),
        };
      else if (fate < deferred + bounced) {
        world.refuses(`${job.queueId} ${seq}`);
        outcome = { kind: 'bounced', reason: 'peer_5xx', status: '5.1.1', detail: '550 no' };
      } else {
        world.takes(`${job.queueId} ${seq}`, this.#process, startMs);
        outcome = { kind: 'delivered', reply: REPLY, dsnPassedOn: false };
      }
      return { seqs: [seq], outcome };
    });
  }

  #defer(attempt: Attempt, reason: DeferralReason): void {
    const outcome: Outcome = { kind: 'deferred', reason, detail: '', retryAtMs: Date.now() };
    this.#end(attempt, [{ seqs: attempt.job.recipients.map(({ seq }) => seq), outcome }]);
  }

  #end(attempt: Attempt, groups: OutcomeGroup[]): void {
    const { job } = attempt;
    attempt.ended = true;
    this.#attempts.delete(attempt);
    this.#process.arena.release(job.content);
    const bounced = groups.some(({ outcome }) => outcome.kind === 'bounced') && job.reversePath !== '';
    const ids = this.#ids as QueueIds;
    const dsns = bounced
      ? [makeMessage(this.#process, ids.next(shardOfQueueId(job.queueId)), '', [job.reversePath])]
      : [];
    const about = groups.flatMap(({ seqs, outcome }) =>
      outcome.kind === 'bounced' ? seqs.map((seq) => `${job.queueId} ${seq}`) : [],
    );
    for (const dsn of dsns) dsn.client.helo = about.join(',');
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
    this.#process.reach(() => this.#ports.results([result]));
    this.#finishDrain();
  }

  resume(): void {}

  /** Attempts that did not begin. */
  async takeBack(selection: Selection): Promise<Job[]> {
    const isMeant = meantBy(selection);
    const taken = [...this.#attempts].filter(({ begun, job }) => !begun && isMeant(job));
    this.#process.world.counts.takenBack += taken.length;
    for (const attempt of taken) {
      attempt.ended = true;
      this.#attempts.delete(attempt);
    }
    return taken.map(({ job }) => job);
  }

  postAll(): void {}

  drain(graceMs: number): Promise<Job[]> {
    return new Promise((resolve) => {
      this.#drained = resolve;
      for (const attempt of this.#attempts) {
        if (attempt.begun) continue;
        attempt.ended = true;
        this.#attempts.delete(attempt);
        this.#unfinished.push(attempt.job);
      }
      this.#thread.later(graceMs, () => this.#cut());
      this.#finishDrain();
    });
  }

  #cut(): void {
    const { world } = this.#process;
    if (this.#attempts.size > 0)
      world.fault(
        'drain cut',
        this.#process,
        null,
        world.clock.nowMs - 3 * world.leaseMs,
        world.clock.nowMs + 1,
      );
    for (const attempt of [...this.#attempts]) this.#defer(attempt, 'shutdown');
  }

  #finishDrain(): void {
    if (this.#drained !== null && this.#attempts.size === 0) this.#drained(this.#unfinished.splice(0));
  }

  async stop(): Promise<void> {
    this.#thread.kill();
    this.#drained?.([]);
  }
}

export { Deliveries as DeliveryThreads };
