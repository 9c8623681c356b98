/**
 * The suppression list at work in one relay process: recipients that are on it are marked before their job goes to delivery,
 * which ends them without a connection. What the filter does not know costs a look at memory; the rest is looked up in
 * the tables, and waits for that. Part of the composition root.
 */
import { RelayPolicy } from '../admission/relay-policy.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { steadyMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { SuppressionBook, type SuppressionPart } from '../feedback/suppression-book.ts';
import { SuppressionFilter } from '../feedback/suppression-filter.ts';
import { SuppressionKeeper } from '../feedback/suppression-keeper.ts';
import { suppressionOrders } from '../feedback/suppression-rules.ts';
import type { AttemptResult, Job, JobRecipient } from '../mail/job.ts';
import type { OutcomeGroup } from '../mail/outcome.ts';
import {
  domainOfTarget,
  type Suppression,
  type SuppressionOrder,
  suppressionDetail,
  suppressionHash,
  suppressionTarget,
} from '../mail/suppression.ts';
import { SCOPE_ALL, speaksOf } from '../mail/suppression-scope.ts';
import { type Arena, mapSharedMemory } from '../native.ts';
import type { SettleItem } from '../persistence/entry.ts';
import { listIdOfJob } from './job-list-id.ts';
import type { ProcessPlace } from './place.ts';
import { hostFilterPath } from './suppression-parts.ts';

/** A recipient of whom the tables cannot be asked waits for so long. */
const UNKNOWN_MS = 10_000;

export interface RelaySuppressionSetup {
  config: Config;
  place: ProcessPlace;
  arena: Pick<Arena, 'release' | 'head'>;
  parts: () => readonly SuppressionPart[];
  log: Log;
  /** Takes jobs on their way to delivery. */
  deliver(jobs: Job[]): void;
  settle(results: AttemptResult[]): void;
  /** The config as of now. */
  settings(): Config;
}

interface Doubtful {
  job: Job;
  /** Recipients that may be on the list, with their targets. */
  recipients: { recipient: JobRecipient; target: string }[];
}

export class RelaySuppression {
  readonly filter: SuppressionFilter;
  readonly book: SuppressionBook;
  readonly #keeper: SuppressionKeeper;
  readonly #setup: RelaySuppressionSetup;
  #ours: { domains: Config['relay_domains']; policy: RelayPolicy };

  constructor(setup: RelaySuppressionSetup) {
    this.#setup = setup;
    const { relay_domains } = setup.config;
    this.#ours = { domains: relay_domains, policy: new RelayPolicy([], relay_domains) };
    const { config, place, parts, log } = setup;
    this.filter = new SuppressionFilter(hostFilterPath(place), { map: mapSharedMemory });
    this.book = new SuppressionBook(parts, Date.now);
    this.#keeper = new SuppressionKeeper({
      parts,
      filter: this.filter,
      bitsPerEntry: config.suppression.filter_bits_per_entry,
      keeps: place.process === 0,
      now: Date.now,
      steady: steadyMs,
      log,
    });
  }

  start(): void {
    this.#keeper.start();
  }

  stop(): Promise<void> {
    return this.#keeper.stop();
  }

  /** Jobs on their way to delivery: marks the recipients that get no mail. */
  deliver(jobs: Job[]): void {
    if (this.filter.ready && this.filter.entries === 0) {
      this.#setup.deliver(jobs);
      return;
    }
    const doubtful: Doubtful[] = [];
    const free = jobs.filter((job) => {
      const recipients = this.#doubtsOf(job);
      if (recipients.length > 0) doubtful.push({ job, recipients });
      return recipients.length === 0;
    });
    if (free.length > 0) this.#setup.deliver(free);
    if (doubtful.length > 0) void this.#judge(doubtful);
  }

  /** Reports (with the null reverse-path) go to whom they concern, whatever list that is on. */
  #doubtsOf(job: Job): Doubtful['recipients'] {
    if (job.suppressed !== undefined) delete job.suppressed;
    if (job.reversePath === '') return [];
    const doubts: Doubtful['recipients'] = [];
    const lists = listsOf(job);
    for (const recipient of job.recipients) {
      const target = suppressionTarget(recipient.address);
      if (target === null) continue;
      const mayHold = (tenant: string): boolean =>
        this.filter.mayHold(suppressionHash(tenant, target)) ||
        this.filter.mayHold(suppressionHash(tenant, domainOfTarget(target)));
      if (lists.some(mayHold)) doubts.push({ recipient, target });
    }
    return doubts;
  }

  /** Whether all mail to a target, or its domain, is held back by the list for all tenants. @throws when the tables do not answer. */
  async isSuppressed(target: string): Promise<boolean> {
    const targets = [...new Set([target, domainOfTarget(target)])];
    const found = await this.book.find(targets.map((one) => ({ tenant: '', target: one })));
    return found.some(({ scope }) => scope === SCOPE_ALL);
  }

  /** Adds to an item of a commit the entries that its outcomes call for. */
  learn(item: SettleItem): SettleItem {
    if (!item.result.groups.some(isBounced)) return item;
    const { suppression, relay_domains } = this.#setup.settings();
    if (relay_domains !== this.#ours.domains)
      this.#ours = { domains: relay_domains, policy: new RelayPolicy([], relay_domains) };
    const { policy } = this.#ours;
    const isOurs = (domain: string): boolean => policy.isRelayDomain(domain);
    const orders = suppressionOrders(item.result, suppression.rules, isOurs, Date.now());
    if (orders.length > 0) item.settlement.suppressed = orders;
    return item;
  }

  /**
   * Gives items to their commits. Where there are several tables, that of the address keeps the count of its messages: it is told
   * first, and a message that is counted there already, since we were killed before the commit, counts once. When it does not
   * answer, the table of the message counts.
   */
  settle(items: SettleItem[], commit: (items: SettleItem[]) => void): void {
    const isCounted = ({ settlement }: SettleItem): boolean =>
      settlement.suppressed?.some(({ after }) => after > 1) ?? false;
    if (!items.some(isCounted) || this.book.parts.length === 1) {
      commit(items);
      return;
    }
    commit(items.filter((item) => !isCounted(item)));
    for (const item of items.filter(isCounted)) void this.#count(item).then(() => commit([item]));
  }

  async #count({ settlement }: SettleItem): Promise<void> {
    const left: SuppressionOrder[] = [];
    for (const order of settlement.suppressed ?? [])
      if (order.after <= 1 || !(await this.#isLearned(order))) left.push(order);
    settlement.suppressed = left;
  }

  async #isLearned(order: SuppressionOrder): Promise<boolean> {
    this.filter.add(suppressionHash(order.tenant, order.target));
    try {
      await this.book.learn(order);
      return true;
    } catch (error) {
      if (error instanceof RelayError) return false;
      throw error;
    }
  }

  async #judge(doubtful: Doubtful[]): Promise<void> {
    const pairs = new Map<string, { tenant: string; target: string }>();
    for (const { job, recipients } of doubtful)
      for (const tenant of listsOf(job))
        for (const { target } of recipients)
          for (const one of [target, domainOfTarget(target)])
            pairs.set(keyOf(tenant, one), { tenant, target: one });
    let found: Suppression[];
    try {
      found = await this.book.find([...pairs.values()]);
    } catch (error) {
      this.#putOff(doubtful, error as Error);
      return;
    }
    const entries = Map.groupBy(found, ({ tenant, target }) => keyOf(tenant, target));
    for (const { job, recipients } of doubtful) {
      let listId: string | null | undefined;
      const listIdOf = (): string | null => (listId ??= listIdOfJob(job, this.#setup.arena));
      const { attributes = {} } = job;
      const suppressed = recipients.flatMap(({ recipient, target }) => {
        const entry = listsOf(job)
          .flatMap((tenant) => [keyOf(tenant, target), keyOf(tenant, domainOfTarget(target))])
          .flatMap((key) => entries.get(key) ?? [])
          .find(({ scope }) => speaksOf(scope, attributes, listIdOf));
        return entry === undefined ? [] : [{ seq: recipient.seq, detail: suppressionDetail(entry) }];
      });
      if (suppressed.length > 0) job.suppressed = suppressed;
    }
    this.#setup.deliver(doubtful.map(({ job }) => job));
  }

  /** In doubt mail waits. */
  #putOff(doubtful: readonly Doubtful[], error: Error): void {
    const nowMs = Date.now();
    const outcome = {
      kind: 'deferred',
      reason: 'suppression_unknown',
      detail: `the suppression list does not answer: ${error.message}`,
      retryAtMs: nowMs + UNKNOWN_MS,
    } as const;
    const results = doubtful.map(({ job }): AttemptResult => {
      this.#setup.arena.release(job.content);
      const { queueId, destination, fence, attempts, reversePath, receivedAtMs, sizeBytes, delayNotified } =
        job;
      return {
        queueId,
        destination,
        fence,
        attempts,
        reversePath,
        receivedAtMs,
        sizeBytes,
        groups: [{ seqs: job.recipients.map(({ seq }) => seq), outcome: { ...outcome } }],
        recipients: job.recipients,
        times: { queueMs: Math.max(0, nowMs - receivedAtMs), connectMs: 0, transferMs: 0 },
        dsns: [],
        delayNotified,
      };
    });
    this.#setup.settle(results);
  }
}

const isBounced = ({ outcome }: OutcomeGroup): boolean => outcome.kind === 'bounced';

/** The lists that hold for a job: that of the relay, and that of its tenant. */
function listsOf({ attributes }: Job): string[] {
  const tenant = attributes?.tenant ?? '';
  return tenant === '' ? [''] : ['', tenant];
}

const keyOf = (tenant: string, target: string): string => JSON.stringify([tenant, target]);
