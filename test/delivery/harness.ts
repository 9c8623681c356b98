/**
 * A Sender on the real reactor in this thread, with jobs made by hand.
 *
 *   const harness = await startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
 *   const result = await harness.attempt({ recipients: ['a@x.test'] });
 *   await harness.stop();
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { Attempt } from '../../src/delivery/attempt.ts';
import type { FromDelivery } from '../../src/delivery/messages.ts';
import { Dns } from '../../src/delivery/names/dns.ts';
import { ownAddresses } from '../../src/delivery/names/own-addresses.ts';
import { ValidatedDns } from '../../src/delivery/names/validated-dns.ts';
import { byFirstDigit } from '../../src/delivery/outcome.ts';
import { Router } from '../../src/delivery/route.ts';
import { validates } from '../../src/delivery/security/dane.ts';
import type { MtaSts } from '../../src/delivery/security/mta-sts.ts';
import { Sender } from '../../src/delivery/sender.ts';
import { Egress } from '../../src/egress/egress.ts';
import type { BodyType } from '../../src/mail/envelope.ts';
import type { AttemptResult, Job } from '../../src/mail/job.ts';
import { readResults } from '../../src/mail/job-wire.ts';
import type { Outcome } from '../../src/mail/outcome.ts';
import { QueueIds } from '../../src/mail/queue-id.ts';
import type { TlsSession } from '../../src/mail/tls-session.ts';
import {
  type Arena,
  configureTls,
  createArena,
  createReactor,
  NO_CONTENT,
  type TlsSetup,
  tlsSlot,
} from '../../src/native.ts';
import { DsnWriter } from '../../src/report/dsn.ts';
import { isTooOld, nextAttempt } from '../../src/scheduler/retry.ts';
import type { LimitSign, SiteOf } from '../../src/shaping/limit-key.ts';
import { LimitKeys } from '../../src/shaping/limit-keys.ts';
import { createLimitTable } from '../../src/shaping/limit-table.ts';
import type { ShapingData } from '../../src/shaping/shaping-data.ts';
import { ALL } from '../../src/shaping/slot-limits.ts';
import { ThreadLimits } from '../../src/shaping/thread-limits.ts';
import { SigningDesk } from '../../src/signing/desk.ts';
import { ScriptedSink, type SinkOptions } from '../support/scripted-sink.ts';

type Input = {
  [Key in keyof Config]?: Config[Key] extends object ? Partial<Config[Key]> | Config[Key] : Config[Key];
};

export interface JobInput {
  recipients: (string | { address: string; notify?: number; orcpt?: string })[];
  content?: string | Buffer;
  /** Content in a file instead, as a spilled or stored message has it. */
  file?: { fd: number; offset: number; lengthBytes: number };
  from?: string;
  destination?: string;
  attempts?: number;
  body?: BodyType;
  smtpUtf8?: boolean;
  ret?: 'FULL' | 'HDRS';
  envid?: string;
  submitter?: string;
  trace?: string;
  receivedAtMs?: number;
  delayNotified?: boolean;
}

/** What a failed test leaves behind, so that the file ends all the same. */
const open = new Set<{ stop(): unknown }>();
after(async () => {
  for (const one of open) await one.stop();
});

export const CONTENT = 'Subject: test\r\n\r\nhello\r\n.dot\r\n';

export class Harness {
  readonly arena: Arena;
  readonly sender: Sender;
  /** Signs nothing until it is given keys. */
  readonly desk: SigningDesk<Attempt>;
  readonly posted: FromDelivery[] = [];
  readonly config: Config;
  /** Timers that wait; `fire` them by hand. */
  readonly timers: { ms: number; fire: () => void }[] = [];
  /** Added to the real clock. */
  clockOffsetMs = 0;
  leasesHold = true;
  /** What refusals mean. */
  classify = byFirstDigit;
  /** Else an error of ours in a dialog fails the test. */
  expectsFaults = false;
  readonly faults: { at: string; error: unknown }[] = [];
  #folder: string;
  #ids = new QueueIds(1, 0);
  #waiters: { done: () => boolean; resolve: () => void }[] = [];

  /** Which site each destination was said to belong to. */
  readonly sites: SiteOf[] = [];
  /** What ends of connections said of the limits of peers. */
  readonly signs: LimitSign[] = [];
  /** What TLS sessions came to. */
  readonly tlsSessions: TlsSession[] = [];

  /** The main thread's side of the limits of sites; null without such limits. */
  readonly limitKeys: LimitKeys | null;

  constructor(input: Input, arenaBytes: number, tlsSlot: number, sts?: MtaSts, shaping?: ShapingData) {
    this.config = configSchema.parse({ hostname: 'relay.test', ...input });
    this.#folder = mkdtempSync(join(tmpdir(), 'delivery-'));
    this.arena = createArena(arenaBytes, this.#folder);
    const { arena } = this;
    const own = ownAddresses([{ address: '127.0.0.1', port: 2525 }]);
    const harness = this;
    this.desk = new SigningDesk({
      arena,
      now: () => Date.now() + this.clockOffsetMs,
      done: (signed) => this.sender.signed(signed),
    });
    const tlsSession = (session: TlsSession) => void this.tlsSessions.push(session);
    const { limits, keys } =
      shaping === undefined ? { limits: undefined, keys: null } : this.#limits(shaping);
    this.limitKeys = keys;
    this.sender = new Sender({
      config: this.config,
      arena,
      tlsSlot,
      createReactor: (onTurn, maxConnections) =>
        createReactor({
          arena,
          spillDir: this.#folder,
          spillThresholdBytes: 262_144,
          maxConnections,
          maxLineBytes: 4096,
          holdAfterVerbs: false,
          onTurn,
        }),
      createEgress: (config) => new Egress(config),
      createRouter: (config) =>
        new Router(config, {
          dns: new Dns(config.dns),
          own,
          random: Math.random,
          siteOf:
            limits &&
            ((domain, hosts) => {
              const site = limits.siteOf(domain, hosts);
              return { site, family: limits.dataOf(site).limits.ip_family ?? 'any' };
            }),
          sts,
          validated: validates(config) ? new ValidatedDns({ rules: config.dns }) : undefined,
          tlsSession,
        }),
      tlsSession,
      dsn: new DsnWriter({
        arena,
        ids: new QueueIds(2, 0),
        get config() {
          return harness.sender.config;
        },
      }),
      retry: { nextAttempt, isTooOld },
      signing: this.desk,
      post: (message) => this.#post(message),
      now: () => Date.now() + this.clockOffsetMs,
      leaseHolds: () => this.leasesHold,
      classify: (reply) => this.classify(reply),
      random: () => 0.5,
      ...(limits && { limits }),
      fault: ({ at, error }) => {
        if (!this.expectsFaults) throw error;
        this.faults.push({ at, error });
      },
      setTimer: (ms, fire) =>
        void (this.limitKeys === null ? this.timers.push({ ms, fire }) : setTimeout(fire, ms).unref()),
    });
  }

  /** Limits of sites, as a delivery thread and the main thread have them. */
  #limits(data: ShapingData): { limits: ThreadLimits; keys: LimitKeys } {
    const table = createLimitTable();
    const now = (): number => Date.now() + this.clockOffsetMs;
    const keys = new LimitKeys(data, { table, now, share: () => ALL, full: () => {} });
    const limits: ThreadLimits = new ThreadLimits(data, {
      table,
      post: (news) => {
        this.sites.push(...news.sites);
        this.signs.push(...news.signs);
        limits.slots(keys.take(0, news));
      },
      later: (work) => void setImmediate(work),
    });
    return { limits, keys };
  }

  #post(message: FromDelivery): void {
    // As a real port would: what is posted must survive structured cloning.
    this.posted.push(structuredClone(message));
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) {
      if (waiter.done()) waiter.resolve();
      else this.#waiters.push(waiter);
    }
  }

  until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ done, resolve }));
  }

  get results(): AttemptResult[] {
    return this.posted.flatMap((message) =>
      message.type === 'results' ? readResults(message.wire, message.count) : [],
    );
  }

  job(input: JobInput): Job {
    const bytes = Buffer.from(input.content ?? CONTENT);
    const { file } = input;
    const content =
      file === undefined
        ? this.arena.store(bytes)
        : this.arena.storeFile(file.fd, file.offset, file.lengthBytes);
    if (content === NO_CONTENT) throw new Error('the arena of the test is too small');
    const recipients = input.recipients.map((one, seq) => {
      const recipient = typeof one === 'string' ? { address: one } : one;
      return { notify: 0, ...recipient, seq };
    });
    return {
      queueId: this.#ids.next(),
      destination: input.destination ?? 'smarthost',
      attempts: input.attempts ?? 0,
      fence: 7,
      reversePath: input.from ?? 'sender@from.test',
      body: input.body ?? '7BIT',
      smtpUtf8: input.smtpUtf8 ?? false,
      ...(input.ret === undefined ? {} : { ret: input.ret }),
      ...(input.envid === undefined ? {} : { envid: input.envid }),
      ...(input.submitter === undefined ? {} : { submitter: input.submitter }),
      trace: input.trace ?? 'Received: from test\r\n',
      content,
      sizeBytes: file?.lengthBytes ?? bytes.length,
      receivedAtMs: input.receivedAtMs ?? Date.now() + this.clockOffsetMs,
      delayNotified: input.delayNotified ?? false,
      recipients,
    };
  }

  /** Attempts one job. */
  async attempt(input: JobInput): Promise<AttemptResult> {
    const [result] = await this.attemptAll([input]);
    return result as AttemptResult;
  }

  /** Attempts several; results in the order of the jobs. */
  async attemptAll(inputs: JobInput[]): Promise<AttemptResult[]> {
    const jobs = inputs.map((input) => this.job(input));
    this.sender.accept(jobs);
    const find = (job: Job) => this.results.find(({ queueId }) => queueId === job.queueId);
    let settled = 0;
    await this.until(() => {
      const { results } = this;
      if (results.length < jobs.length || results.length === settled) return false;
      settled = results.length;
      const ids = new Set(results.map(({ queueId }) => queueId));
      return jobs.every(({ queueId }) => ids.has(queueId));
    });
    return jobs.map((job) => find(job) as AttemptResult);
  }

  stop(): void {
    if (!open.delete(this)) return;
    this.desk.close();
    this.sender.destroy();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export function startSender(
  input: Input,
  arenaBytes = 64 * 1024 * 1024,
  tlsSlot = -1,
  sts?: MtaSts,
  shaping?: ShapingData,
): Harness {
  const harness = new Harness(input, arenaBytes, tlsSlot, sts, shaping);
  open.add(harness);
  return harness;
}

/** A client's TLS context that trusts these authorities. @returns its slot. */
export function clientTls(ca: string, over: Partial<TlsSetup> = {}): number {
  const slot = tlsSlot();
  configureTls(slot, {
    server: false,
    certificates: [],
    groups: [],
    minVersion: 'TLSv1.2',
    ciphers: '',
    ciphersuites: '',
    ca,
    crl: '',
    caLater: false,
    namesCa: false,
    ticketSecret: Buffer.alloc(0),
    sessionSeconds: 1,
    resumption: 'full',
    ...over,
  });
  return slot;
}

/** A sink that is stopped with the test file at the latest. */
export async function startSink(options: SinkOptions = {}): Promise<ScriptedSink> {
  const sink = await ScriptedSink.start(options);
  open.add(sink);
  return sink;
}

/** 'kind reason' of each recipient, by its place in the job. */
export function fates(result: AttemptResult): string[] {
  const fates: string[] = [];
  for (const { seqs, outcome } of result.groups)
    for (const seq of seqs) {
      if (fates[seq] !== undefined) throw new Error(`recipient ${seq} has two fates`);
      fates[seq] = outcome.kind === 'delivered' ? 'delivered' : `${outcome.kind} ${outcome.reason}`;
    }
  return fates;
}

export function outcomeOf(result: AttemptResult, seq = 0): Outcome {
  const group = result.groups.find(({ seqs }) => seqs.includes(seq));
  if (group === undefined) throw new Error(`recipient ${seq} has no outcome`);
  return group.outcome;
}
