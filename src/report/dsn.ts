/**
 * Decides which delivery status notifications an attempt calls for, and makes messages of them (RFC 3461, 3464, 6522,
 * 6533). Promises to send none to the null reverse-path (I4) and none against NOTIFY, to bound their size whatever the
 * message and its recipients are, and to bound their number to a sender whom a client without relay rights named.
 */

import { domainOf } from '../base/domain.ts';
import { mostRecent } from '../base/most-recent.ts';
import type { Config } from '../config/schema.ts';
import { NOTIFY } from '../mail/envelope.ts';
import type { AttemptResult, Job, JobRecipient } from '../mail/job.ts';
import type { ContentHandle, Message } from '../mail/message.ts';
import type { Outcome } from '../mail/outcome.ts';
import { type QueueIds, shardOfQueueId } from '../mail/queue-id.ts';
import { HELD_BY_RULE } from '../mail/rule-hold.ts';
import { statusOf } from '../mail/status.ts';
import type { Arena } from '../native.ts';
import { oneSpelling } from '../protocol/address.ts';
import { attachmentsOf } from '../protocol/mime/attachments.ts';
import { type Report, reportAddress, writeReport } from './dsn-report.ts';
import type { DsnRecipient, Returned } from './report-input.ts';

/** Most recipients in one DSN; others are in further DSNs. */
const MAX_RECIPIENTS = 1000;
/** Most senders of strangers' mail whose reports are counted; beyond that the oldest are forgotten. */
const MAX_STRANGERS = 10_000;
const HOUR_MS = 3_600_000;
/** All senders of a domain together get this many times as many reports as one sender. */
const DOMAIN_SHARE = 25;
/** Header sections are returned up to this length. */
const MAX_HEADER_BYTES = 65_536;

const NO_DRAFTS: DsnDraft[] = [];

export interface DsnPorts {
  /** The config as of the last reload. */
  readonly config: Config;
  readonly arena: Arena;
  readonly ids: QueueIds;
}

export class DsnWriter {
  readonly #ports: DsnPorts;
  /** For each sender the failure reports for mail of strangers in this hour, and when the first was sent. */
  readonly #ofStrangers = mostRecent<{ sinceMs: number; count: number }>(MAX_STRANGERS);

  constructor(ports: DsnPorts) {
    this.#ports = ports;
  }

  /**
   * The DSNs that the outcomes call for, not yet written. `bytes` or `shorten` must be called on each while the job's
   * content is still held.
   */
  draft(job: Job, result: AttemptResult, nowMs: number): DsnDraft[] {
    if (job.reversePath === '') return NO_DRAFTS;
    const reported = this.#reported(job, result, nowMs);
    if (reported.length === 0) return NO_DRAFTS;
    if (isOfStranger(job) && !this.#mayTell(job.reversePath, nowMs)) {
      const { max_reports_per_stranger_per_h: most } = this.#ports.config.dsn;
      for (const { outcome } of result.groups)
        if (outcome.kind === 'bounced')
          outcome.detail += `; not reported: its sender, or its domain, was told of enough failures this hour (dsn.max_reports_per_stranger_per_h ${most})`;
      return NO_DRAFTS;
    }
    const drafts: DsnDraft[] = [];
    for (let from = 0; from < reported.length; from += MAX_RECIPIENTS)
      drafts.push(new DsnDraft(this.#ports, job, reported.slice(from, from + MAX_RECIPIENTS), nowMs));
    return drafts;
  }

  /**
   * Whether one more report may go to this sender of a stranger's mail. A stranger can name anybody, and make us send
   * there.
   */
  #mayTell(reversePath: string, nowMs: number): boolean {
    const { max_reports_per_stranger_per_h: most } = this.#ports.config.dsn;
    return (
      this.#counts(withoutDetail(oneSpelling(reversePath)), most, nowMs) &&
      this.#counts(`@${domainOf(reversePath)}`, most * DOMAIN_SHARE, nowMs)
    );
  }

  #counts(whom: string, most: number, nowMs: number): boolean {
    const told = this.#ofStrangers.get(whom);
    if (told !== undefined && Math.abs(nowMs - told.sinceMs) < HOUR_MS) return told.count++ < most;
    this.#ofStrangers.set(whom, { sinceMs: nowMs, count: 1 });
    return most > 0;
  }

  #reported(job: Job, result: AttemptResult, nowMs: number): DsnRecipient[] {
    const reported: DsnRecipient[] = [];
    let bySeq: Map<number, JobRecipient> | null = null;
    for (const { seqs, outcome } of result.groups) {
      const action = this.#actionFor(job, outcome, nowMs);
      if (action === null) continue;
      bySeq ??= new Map(job.recipients.map((recipient) => [recipient.seq, recipient]));
      for (const seq of seqs) {
        const recipient = bySeq.get(seq) as JobRecipient;
        if (isWanted(recipient.notify, action) && isTold(recipient.notify, outcome))
          reported.push(this.#line(job, recipient, action, outcome, nowMs));
      }
    }
    return reported;
  }

  #actionFor(job: Job, outcome: Outcome, nowMs: number): DsnRecipient['action'] | null {
    switch (outcome.kind) {
      case 'bounced':
        return outcome.reason === 'discarded' ? null : 'failed';
      case 'delivered':
        // The next hop took over the duty to report, or nobody asked for a report.
        if (outcome.dsnPassedOn) return null;
        return job.recipients.some(({ notify }) => (notify & NOTIFY.success) !== 0) ? 'relayed' : null;
      case 'deferred': {
        const { delay_after_ms } = this.#ports.config.dsn;
        if (delay_after_ms === 0 || job.delayNotified || outcome.reason === 'shutdown') return null;
        if (outcome.reason === HELD_BY_RULE) return null;
        if (isOfStranger(job)) return null;
        return nowMs - job.receivedAtMs >= delay_after_ms ? 'delayed' : null;
      }
      default:
        return outcome satisfies never;
    }
  }

  #line(
    job: Job,
    recipient: JobRecipient,
    action: DsnRecipient['action'],
    outcome: Outcome,
    nowMs: number,
  ): DsnRecipient {
    const { address, orcpt } = recipient;
    const { reply } = outcome;
    const line: DsnRecipient = { address, action, status: statusOf(outcome), lastAttemptMs: nowMs };
    if (orcpt !== undefined) line.orcpt = orcpt;
    if (reply !== undefined) line.reply = reply;
    if (outcome.kind !== 'delivered') line.detail = outcome.detail;
    if (outcome.kind === 'deferred')
      line.willRetryUntilMs = job.receivedAtMs + this.#ports.config.retry.max_age_ms;
    return line;
  }
}

/** Without what many hosts take for a detail of a mailbox (`user+detail@`): all of it comes to one person. */
function withoutDetail(mailbox: string): string {
  const plus = mailbox.indexOf('+', 1);
  const at = mailbox.lastIndexOf('@');
  return plus < 0 || plus > at ? mailbox : mailbox.slice(0, plus) + mailbox.slice(at);
}

/** Whether the mail is from a client without relay rights; then all its recipients say so. */
function isOfStranger({ recipients }: Job): boolean {
  return ((recipients[0]?.notify ?? 0) & NOTIFY.stranger) !== 0;
}

/** Whether a report is wanted. Without NOTIFY failures are reported, and delays if we choose to (RFC 3461 §4.1). */
function isWanted(given: number, action: DsnRecipient['action']): boolean {
  const notify = given & ~NOTIFY.stranger;
  if ((notify & NOTIFY.never) !== 0) return false;
  switch (action) {
    case 'failed':
      return notify === 0 || (notify & NOTIFY.failure) !== 0;
    case 'delayed':
      return notify === 0 || (notify & NOTIFY.delay) !== 0;
    case 'relayed':
      return (notify & NOTIFY.success) !== 0;
  }
}

/**
 * Who is on the suppression list is no news to its sender: there is a report only where the message asks for one, so that a
 * list with a hundred thousand such addresses does not bring as many reports.
 */
function isTold(notify: number, outcome: Outcome): boolean {
  if (outcome.kind !== 'bounced' || outcome.reason !== 'suppressed') return true;
  return (notify & NOTIFY.failure) !== 0 && (notify & NOTIFY.stranger) === 0;
}

/** One DSN before it has its content in the arena. */
export class DsnDraft {
  /** Whether it reports a delay. */
  readonly delayed: boolean;
  readonly #ports: DsnPorts;
  readonly #job: Job;
  readonly #queueId: string;
  readonly #recipients: DsnRecipient[];
  readonly #nowMs: number;
  #report: Report | null = null;

  constructor(ports: DsnPorts, job: Job, recipients: DsnRecipient[], nowMs: number) {
    this.#ports = ports;
    this.#job = job;
    this.#recipients = recipients;
    this.#nowMs = nowMs;
    this.#queueId = ports.ids.next(shardOfQueueId(job.queueId));
    this.delayed = recipients.some(({ action }) => action === 'delayed');
  }

  /** The whole report; made once, then kept. */
  bytes(): Buffer {
    if (this.#report !== null) return this.#report.bytes;
    let report = this.#write(this.#mayReturnAll() ? this.#all() : this.#headers());
    // An encoded header section may be three times as long.
    if (report.returnedBytes > Math.max(this.#ports.config.dsn.max_returned_bytes, 3 * MAX_HEADER_BYTES))
      report = this.#write(this.#headers());
    this.#report = report;
    return report.bytes;
  }

  /** Makes the report anew with only the header section of the message; afterwards its content is not needed. */
  shorten(): void {
    this.#report = this.#write(this.#headers());
  }

  /** The report as a message, when its bytes are stored as content. */
  message(content: ContentHandle, sizeBytes: number): Message {
    const { reversePath } = this.#job;
    const report = this.#report as Report;
    const domain = domainOf(reversePath);
    const attachments = this.#ports.config.index_attachments ? attachmentsOf(report.bytes) : [];
    return {
      queueId: this.#queueId,
      envelope: {
        reversePath: '',
        body: report.body,
        smtpUtf8: report.smtpUtf8,
        recipients: [
          { address: reportAddress(reversePath), domain, class: 'external', notify: NOTIFY.never },
        ],
      },
      trace: '',
      content,
      sizeBytes,
      receivedAtMs: this.#nowMs,
      client: { address: 'internal', helo: '', protocol: '', sessionId: '' },
      messageId: `${this.#queueId}@${this.#ports.config.hostname}`,
      originalQueueId: this.#job.queueId,
      ...(attachments.length > 0 ? { attachments } : {}),
    };
  }

  /**
   * Whether the whole message may be returned: RET=FULL is for failures only (RFC 3461 §4.3), and binary content
   * cannot be enclosed.
   */
  #mayReturnAll(): boolean {
    const { ret, sizeBytes, body } = this.#job;
    return (
      ret === 'FULL' &&
      body !== 'BINARYMIME' &&
      sizeBytes <= this.#ports.config.dsn.max_returned_bytes &&
      this.#recipients.some(({ action }) => action === 'failed')
    );
  }

  #write(returned: Returned | null): Report {
    const { config } = this.#ports;
    return writeReport({
      hostname: config.hostname,
      queueId: this.#queueId,
      nowMs: this.#nowMs,
      original: this.#job,
      recipients: this.#recipients,
      returned,
    });
  }

  #all(): Returned | null {
    const bytes = this.#read(this.#job.sizeBytes);
    if (bytes === null) return null;
    return { part: 'message', bytes: Buffer.concat([Buffer.from(this.#job.trace), bytes]) };
  }

  #headers(): Returned | null {
    const head = this.#read(MAX_HEADER_BYTES);
    if (head === null) return null;
    const end = head.indexOf('\r\n\r\n');
    const startsWithBody = head.length >= 2 && head[0] === 0x0d && head[1] === 0x0a;
    const lines = startsWithBody ? head.subarray(0, 0) : end === -1 ? head : head.subarray(0, end + 2);
    return { part: 'headers', bytes: Buffer.concat([Buffer.from(this.#job.trace), lines]) };
  }

  /** null when the content cannot be read any more: the report then goes without it. */
  #read(maxBytes: number): Buffer | null {
    try {
      return this.#ports.arena.head(this.#job.content, maxBytes);
    } catch {
      return null;
    }
  }
}
