/**
 * Return paths in one relay process: their keys for all threads, and what comes back to them. Reports are read one at a time on a
 * thread of their own, started by the first; a session that waits is answered once the entries of the suppression list are
 * durable and the events written. Nothing that comes this way is answered, relayed or kept. Part of the composition root.
 */
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { RelayPolicy } from '../admission/relay-policy.ts';
import { domainOf } from '../base/domain.ts';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { fatesOf } from '../feedback/report-fates.ts';
import type { ReadReport } from '../feedback/report-worker.ts';
import { readReturnPathKeys } from '../feedback/return-path-keys.ts';
import type { RulesText } from '../feedback/rules-text.ts';
import type { SuppressionBook } from '../feedback/suppression-book.ts';
import type { SuppressionFilter } from '../feedback/suppression-filter.ts';
import { type ReturnPathKeys, ReturnPaths } from '../mail/return-path.ts';
import { suppressionHash } from '../mail/suppression.ts';
import { SCOPE_ALL } from '../mail/suppression-scope.ts';
import type { EventLog } from '../report/events.ts';
import { VERDICT } from '../session/messages.ts';
import type { Complaint } from './complaints.ts';

/** Reports that wait for the thread; of more the clients are told to come again. */
const MAX_QUEUE = 64;
const THREAD_IDLE_MS = 60_000;

export interface RelayReportsSetup {
  log: Log;
  events: EventLog;
  suppression: { book: SuppressionBook; filter: SuppressionFilter };
  /** Rules for replies, as of the last reload. */
  texts(): readonly RulesText[];
  /** The config as of the last reload. */
  current(): Config;
  /** A complaint whose recipient is proven. */
  complained(complaint: Complaint): void;
  /** Tells session and delivery threads. */
  tell(keys: ReturnPathKeys | null): void;
  verdict(thread: number, ticket: number, verdict: number): void;
}

interface Came {
  ticket: number;
  local: string | null;
  head: Uint8Array;
}

export class RelayReports {
  readonly #setup: RelayReportsSetup;
  #paths: ReturnPaths | null = null;
  #pool: Piscina | null = null;

  constructor(setup: RelayReportsSetup) {
    this.#setup = setup;
  }

  /** The keys that threads start with; null: return paths are not in use. @throws RelayError config_invalid */
  load(): ReturnPathKeys | null {
    const keys = readReturnPathKeys(this.#setup.current());
    if (typeof keys === 'string') throw new RelayError('config_invalid', `return_path.secrets_file: ${keys}`);
    this.#paths = keys === null ? null : new ReturnPaths(keys);
    return keys;
  }

  /** After a reload. @returns what is wrong with the file: then the keys stay. */
  reconfigure(): string[] {
    const { current, log, tell } = this.#setup;
    const keys = readReturnPathKeys(current());
    if (typeof keys === 'string') {
      log.error('return_path.keys_unusable', { error: keys });
      return [`return_path.secrets_file: ${keys}`];
    }
    if (keys !== null || this.#paths !== null) tell(keys);
    this.#paths = keys === null ? null : new ReturnPaths(keys);
    // The thread has the rules of before.
    void this.close();
    return [];
  }

  /** What came to a return path. */
  take(thread: number, came: Came): void {
    void this.#read(came).then(
      () => this.#setup.verdict(thread, came.ticket, VERDICT.committed),
      (error: Error) => {
        this.#setup.log.warn('report.not_read', { error });
        this.#setup.verdict(thread, came.ticket, VERDICT.unavailable);
      },
    );
  }

  async #read({ head, local }: Came): Promise<void> {
    const { current, events, log, suppression } = this.#setup;
    const paths = this.#paths;
    if (paths === null) throw new Error('return paths are not in use any more');
    this.#pool ??= this.#start();
    const read = (await this.#pool.run(head)) as ReadReport;
    const config = current();
    const policy = new RelayPolicy([], config.relay_domains);
    const { rules } = config.suppression;
    const isOurs = (domain: string): boolean => policy.isRelayDomain(domain);
    const fates = fatesOf(read, local, { paths, rules, isOurs, nowMs: Date.now() });
    for (const order of fates.orders) {
      if (config.database.driver !== 'sqlite')
        suppression.filter.add(suppressionHash(order.tenant, order.target));
      await suppression.book.learn(order);
    }
    for (const pardon of fates.pardons) {
      const found = await suppression.book.find([pardon]);
      if (found.some(({ source, scope }) => source === 'complaint' && scope === SCOPE_ALL))
        await suppression.book.remove([{ ...pardon, scope: SCOPE_ALL }]);
    }
    for (const event of fates.events) {
      events.reported(event);
      if (event.type === 'complained' && event.proven)
        this.#setup.complained(complaintOf(event, read.report));
    }
    log.debug('report.read', { kind: read.report.kind });
  }

  #start(): Piscina {
    const pool = new Piscina({
      filename: fileURLToPath(new URL('../feedback/report-worker.ts', import.meta.url)),
      workerData: this.#setup.texts(),
      minThreads: 0,
      maxThreads: 1,
      maxQueue: MAX_QUEUE,
      idleTimeout: THREAD_IDLE_MS,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
      workerHistogram: false,
    });
    pool.on('error', () => {}); // the thread ended between tasks: the next task gets a new one, and says if that fails
    return pool;
  }

  /** Ends the thread; sessions whose reports it had are told to come again. */
  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = null;
    await pool?.destroy();
  }
}

function complaintOf(
  { queue_id, recipient = '' }: { queue_id: string; recipient?: string },
  report: ReadReport['report'],
): Complaint {
  const sourceAddress = report.kind === 'complaint' ? report.sourceAddress : '';
  return { queueId: queue_id, domain: domainOf(recipient), sourceAddress };
}
