/**
 * Rules of operators at work in one relay process: what they hold does not go to delivery, and what delivery has not
 * begun comes back. Recipients that a rule holds apart from others of their entry wait here until the attempt for those
 * others is over; then one settlement writes down both. Part of the composition root.
 */
import { dirname } from 'node:path';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import type { ShardedDatabase } from '../database/sharded-database.ts';
import type { AttemptResult, Job, JobRecipient } from '../mail/job.ts';
import type { OutcomeGroup } from '../mail/outcome.ts';
import { isWide, type SuspensionRule, suspendedBy, suspendedDetail } from '../mail/suspension.ts';
import type { DuePoll } from '../scheduler/due-poll.ts';
import { RuleFiles, suspensionsDir } from '../suspensions/rule-files.ts';
import type { RuleChange } from '../suspensions/rule-set.ts';
import { ShardRules } from '../suspensions/shard-rules.ts';
import { Suspensions } from '../suspensions/suspensions.ts';
import type { RelayDatabase } from './database.ts';
import type { ProcessPlace } from './place.ts';
import { giveBack, takeOut, type UndeliveredPorts } from './undelivered.ts';

/** An entry of which a rule holds some recipients waits for at most this long: then it is looked at again. */
const LONGEST_WAIT_MS = 3_600_000;
/** The least pause, where a rule is about to end. */
const LEAST_WAIT_MS = 1000;
/**
 * A message must be older than retry.max_age_ms by this to count as too old here: whoever ends it looks at the clock
 * again, and that may have been set back meanwhile.
 */
export const AGE_MARGIN_MS = 10_000;
/** So long after a rule's end its entries are made due once more: those whose deferral was being written then. */
const WAKE_AGAIN_MS = 3000;

export interface RelaySuspensionsSetup {
  place: ProcessPlace;
  queue: RelayDatabase;
  log: Log;
  settings(): Config;
  undelivered(): UndeliveredPorts;
  duePoll(): DuePoll;
  /** Hands jobs to delivery. */
  deliver(jobs: Job[]): void;
  settle(results: AttemptResult[]): void;
}

interface Withheld {
  rule: SuspensionRule;
  recipients: JobRecipient[];
}

export class RelaySuspensions {
  readonly rules: Suspensions;
  readonly #setup: RelaySuspensionsSetup;
  /** Recipients that rules hold while others of their entry are being sent, by keyOf. */
  readonly #withheld = new Map<string, Withheld[]>();

  constructor(setup: RelaySuspensionsSetup) {
    this.#setup = setup;
    this.rules = new Suspensions({
      files: new RuleFiles(suspensionsDir(dirname(setup.place.eventsDir))),
      shards: shardRules(setup.queue.shards, setup.log),
      clocks: { now: Date.now, steady: steadyMs },
      log: setup.log,
      changed: (change) => this.#changed(change),
    });
  }

  /** Whether a rule holds all mail for the destination. */
  holds(destination: string): boolean {
    const { matcher } = this.rules;
    return matcher.any && matcher.ofDestination(destination) !== null;
  }

  /** Jobs on their way to delivery: lets through what no rule holds. */
  deliver(jobs: Job[]): void {
    this.#setup.deliver(this.rules.matcher.any ? this.#unheld(jobs) : jobs);
  }

  #unheld(jobs: Job[]): Job[] {
    const back: Job[] = [];
    const results: AttemptResult[] = [];
    const nowMs = Date.now();
    const oldMs = this.#setup.settings().retry.max_age_ms + AGE_MARGIN_MS;
    const free = jobs.filter((job) => {
      // Delivery ends it without a connection.
      if (nowMs - job.receivedAtMs >= oldMs) return true;
      if (this.holds(job.destination)) {
        back.push(job);
        return false;
      }
      const held = this.rules.matcher.heldOf(job);
      if (held === null) return true;
      const withheld = [...held].map(([rule, recipients]) => ({ rule, recipients }));
      const isHeld = new Set(withheld.flatMap(({ recipients }) => recipients));
      if (isHeld.size < job.recipients.length) {
        job.recipients = job.recipients.filter((recipient) => !isHeld.has(recipient));
        this.#withheld.set(keyOf(job), withheld);
        return true;
      }
      results.push(this.#resultOf(job, withheld, nowMs));
      return false;
    });
    if (results.length > 0) this.#setup.settle(results);
    if (back.length > 0) void this.#giveBack(back);
    return free;
  }

  #resultOf(job: Job, withheld: Withheld[], nowMs: number): AttemptResult {
    const { queueId, destination, fence, attempts, reversePath, receivedAtMs, sizeBytes, delayNotified } =
      job;
    this.#setup.undelivered().arena.release(job.content);
    return {
      queueId,
      destination,
      fence,
      attempts,
      reversePath,
      receivedAtMs,
      sizeBytes,
      groups: this.#groupsOf(withheld, nowMs),
      recipients: job.recipients,
      times: { queueMs: Math.max(0, nowMs - receivedAtMs), connectMs: 0, transferMs: 0 },
      dsns: [],
      delayNotified,
    };
  }

  #groupsOf(withheld: readonly Withheld[], nowMs: number): OutcomeGroup[] {
    return withheld.map(({ rule, recipients }) => {
      // A rule that was resumed meanwhile holds them no longer.
      const leftMs = Math.min(LONGEST_WAIT_MS, this.rules.leftMs(rule));
      const retryAtMs = nowMs + (leftMs === 0 ? 0 : Math.max(LEAST_WAIT_MS, leftMs));
      const outcome = {
        kind: 'deferred',
        reason: 'suspended',
        detail: suspendedDetail(rule),
        retryAtMs,
      } as const;
      return { seqs: recipients.map(({ seq }) => seq), outcome };
    });
  }

  /** Results of attempts, with the recipients that rules held meanwhile. */
  complete(results: AttemptResult[]): AttemptResult[] {
    if (this.#withheld.size === 0) return results;
    const nowMs = Date.now();
    return results.map((result) => {
      const withheld = this.#take(result);
      if (withheld.length === 0) return result;
      return {
        ...result,
        // They come first: what is said of the entry is that it is suspended.
        groups: [...this.#groupsOf(withheld, nowMs), ...result.groups],
        recipients: [...result.recipients, ...withheld.flatMap(({ recipients }) => recipients)],
      };
    });
  }

  /** The job is not being sent any more, and its whole entry waits. */
  forget(job: Job): void {
    if (this.#withheld.size > 0) this.#take(job);
  }

  #take(job: Pick<Job, 'queueId' | 'destination' | 'fence'>): Withheld[] {
    const key = keyOf(job);
    const withheld = this.#withheld.get(key) ?? [];
    this.#withheld.delete(key);
    return withheld;
  }

  async #changed({ begun, ended }: RuleChange): Promise<void> {
    const { log, queue } = this.#setup;
    if (begun.length > 0) {
      log.info('suspensions.begun', { rule_ids: idsOf(begun) });
      await this.#takeBack(begun);
    }
    if (ended.length === 0) return;
    const ids = idsOf(ended);
    log.info('suspensions.ended', { rule_ids: ids });
    this.#setup.undelivered().scheduler.rulesChanged();
    // What other nodes left at destinations that were held.
    if (queue.shards !== null) this.#setup.duePoll().askNow();
    const narrow = idsOf(ended.filter((rule) => !isWide(rule)));
    if (narrow.length === 0) return;
    void this.#wake(narrow);
    setTimeout(() => void this.#wake(narrow), WAKE_AGAIN_MS).unref();
  }

  /** What delivery has not begun is judged again by the new rules. */
  async #takeBack(rules: SuspensionRule[]): Promise<void> {
    const jobs = await takeOut(this.#setup.undelivered(), { rules });
    for (const job of jobs) job.recipients.push(...this.#take(job).flatMap(({ recipients }) => recipients));
    this.deliver(jobs);
  }

  async #giveBack(jobs: Job[]): Promise<void> {
    // Should this fail, the rows become due again when their leases end.
    await giveBack(this.#setup.undelivered(), jobs, 'suspended', Date.now()).catch(() => {});
  }

  /** Makes entries due that waited for these rules. */
  async #wake(ids: string[]): Promise<void> {
    const { queue, log } = this.#setup;
    try {
      const nowMs = Date.now();
      const { scheduler } = this.#setup.undelivered();
      const { rows } = await queue.database.operate('flush', suspendedBy(ids, nowMs), nowMs, ({ changes }) =>
        scheduler.changed(changes),
      );
      if (rows > 0) log.info('suspensions.woken', { rule_ids: ids, entries: rows });
    } catch (error) {
      // They are looked at again within LONGEST_WAIT_MS anyway.
      log.warn('suspensions.wake_failed', { rule_ids: ids, error });
    }
  }
}

/** How nodes tell each other; [] where the queue is a file. */
export const shardRules = (shards: ShardedDatabase | null, log: Log): ShardRules[] =>
  (shards?.names ?? []).map(
    ({ id, name }) =>
      new ShardRules({
        name: `shard ${name}`,
        exchange: (news, digest) =>
          (shards as ShardedDatabase).ask(id, (client) => client.exchangeRules(news, digest)),
        log,
      }),
  );

const idsOf = (rules: readonly SuspensionRule[]): string[] => rules.map(({ id }) => id);

const keyOf = ({ queueId, destination, fence }: Pick<Job, 'queueId' | 'destination' | 'fence'>): string =>
  `${queueId} ${fence} ${destination}`;
