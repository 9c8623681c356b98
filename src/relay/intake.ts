/**
 * New mail from its commit to its answer and its hand-off. Mail that was committed is acknowledged and goes to
 * delivery; mail that the database refused is refused to its client; mail that was acknowledged before its commit
 * (after_enqueue) is tried until it is durable. Part of the composition root.
 */
import { GAUGE, type Gauges } from '../admission/gauges.ts';
import type { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { OutboxPlan } from '../database/database.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { Message } from '../mail/message.ts';
import type { Arena } from '../native.ts';
import type { Entry } from '../persistence/entry.ts';
import type { EntryOutcome } from '../persistence/group-commit.ts';
import { jobOf, planMessage } from '../persistence/plan.ts';
import type { ContentAccount } from '../policy/content-account.ts';
import type { EventLog } from '../report/events.ts';
import type { Leases } from '../scheduler/leases.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import { VERDICT } from '../session/messages.ts';
import { verdictOf } from '../session/verdict-of.ts';

const COMMIT_RETRY_MS = 500;

export interface IntakeSetup {
  routes: RouteTable;
  scheduler: Scheduler;
  arena: Arena;
  gauges: Gauges;
  /** Charges contents to the accounts of their clients; null where no client can connect. */
  contentAccount: ContentAccount | null;
  leases: Leases;
  events: EventLog;
  log: Log;
  /** Tells a session what became of its message. */
  verdict(thread: number, ticket: number, verdict: number): void;
  /** Puts messages into the next commit once more. */
  resubmit(entries: Entry[]): void;
}

export class Intake {
  readonly #setup: IntakeSetup;
  /** Messages that were acknowledged before their commit, and that the database has refused so far. */
  readonly #retries: Entry[] = [];
  #retryTimer: NodeJS.Timeout | null = null;
  #ending = false;

  constructor(setup: IntakeSetup) {
    this.#setup = setup;
  }

  /** Number of messages that are tried again after a while. */
  get retrying(): number {
    return this.#retries.length;
  }

  /** Says which rows the message gets, and which of them go out from memory. */
  plan(entry: Pick<Entry, 'message' | 'plan'>): void {
    planMessage(entry, this.#setup.routes, this.#setup.scheduler);
  }

  committed(entries: Entry[], outcomes: EntryOutcome[], leaseUntilMs: number): void {
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as Entry;
      const isDurable = outcomes[i] === 'committed';
      if (isDurable) this.handOff(entry.message, entry.plan, leaseUntilMs);
      else this.cancel(entry.plan);
      this.answered(entry, isDurable);
    }
  }

  /** A message's commit is over: it is acknowledged if it is durable, else its session had given up before. */
  answered(entry: Entry, isDurable: boolean): void {
    this.#leave(entry);
    const { message, thread, ticket } = entry;
    if (isDurable) {
      this.#setup.verdict(thread, ticket, VERDICT.committed);
      this.#setup.events.accepted(message);
      entry.durable?.();
    }
    this.#setup.arena.release(message.content);
  }

  /** The message is in the queue: its rows that were planned as SENDING go to delivery from memory. */
  handOff(message: Message, plan: OutboxPlan[], leaseUntilMs: number): void {
    const { arena, leases, scheduler } = this.#setup;
    // One reference came with the message; every job has its own.
    for (const row of plan) {
      if (row.state === 'SENDING') {
        const job = jobOf(message, row);
        // The commit was in doubt for so long that a claim brought us the row before.
        if (!leases.hold(job, leaseUntilMs)) {
          scheduler.cancel(row.destination, row.seqs.length);
          continue;
        }
        arena.retain(message.content);
        scheduler.handOff(job);
      } else if (row.state === 'PENDING') scheduler.waiting(row.destination, 1, Date.now(), message.queueId);
    }
  }

  /** The database is about to be closed, and will break off commits that are under way. */
  end(): void {
    this.#ending = true;
  }

  failed(entries: Entry[], error: RelayError): void {
    // Clients only read 451 or 452; the log has the path and the reason. One line per commit, not one per message.
    const { code, message } = error;
    const fields = { messages: entries.length, code, error: message };
    // At the end of a relay this is no error: clients that have no answer yet will send their mail again.
    if (this.#ending && entries.every(({ ticket }) => ticket >= 0))
      this.#setup.log.info('commit.broken_off', fields);
    else this.#setup.log.error('commit.failed', fields);
    for (const entry of entries) this.#failed(entry, error);
  }

  #failed(entry: Entry, error: RelayError): void {
    this.cancel(entry.plan);
    if (entry.ticket < 0) {
      this.#commitLater(entry, error);
      return;
    }
    this.#leave(entry);
    this.#setup.verdict(entry.thread, entry.ticket, verdictOf(error));
    this.#setup.arena.release(entry.message.content);
  }

  /**
   * after_enqueue: the client has its 250, so the message is tried until it is durable. It keeps its share of
   * persist_max_inflight_mails meanwhile, which is what stops more from coming in.
   */
  #commitLater(entry: Entry, error: RelayError): void {
    this.#setup.log.warn('commit.retrying', { queue_id: entry.message.queueId, error: error.message });
    entry.plan = [];
    this.#retries.push(entry);
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null;
      this.#setup.resubmit(this.#retries.splice(0));
    }, COMMIT_RETRY_MS);
  }

  /** The message is no longer between end of data and commit. Our own DSNs (thread −1) were never counted in. */
  #leave(entry: Entry): void {
    if (entry.thread < 0) return;
    Atomics.sub(this.#setup.gauges, GAUGE.inflightMails, 1);
    this.#setup.contentAccount?.giveBack(entry.message.content);
  }

  /** Gives back the places that were reserved for rows, because they do not go out from memory after all. */
  cancel(plan: OutboxPlan[]): void {
    for (const row of plan)
      if (row.state === 'SENDING') this.#setup.scheduler.cancel(row.destination, row.seqs.length);
  }
}
