/**
 * Delivery events: what became of every message and recipient, one JSON line each (docs/events.md). Fates are logged
 * once, after they are durable (I2). Lines are put together by hand for speed: there is one per recipient, and the
 * text that the recipients of an attempt share is made once.
 */
import { printableJson } from '../base/printable.ts';
import type { Config } from '../config/schema.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import type { BounceReason, DeferralReason, Outcome, PeerReply } from '../mail/outcome.ts';
import type { TlsUse } from '../mail/tls-use.ts';
import { EventFile, type EventFileOptions } from './event-file.ts';
import type { Counts } from './minute-rates.ts';

interface Common {
  /** When the line was made, ISO 8601 in UTC. */
  time: string;
  queue_id: string;
}

/** We took responsibility for a message; one line per message. For our own DSNs the client is "internal". */
export interface AcceptedEvent extends Common {
  type: 'accepted';
  /** Reverse-path; '' for the null one. */
  sender: string;
  recipients: number;
  /** Bytes of content, our trace header excluded. */
  size: number;
  client: string;
  helo: string;
  protocol: string;
  session: string;
  /** With TLS only: version, cipher, and whether the client's certificate was verified. */
  tls_version?: string;
  tls_cipher?: string;
  tls_verified?: boolean;
  /** Who authenticated. */
  user?: string;
  /** From MAIL to the end of data. */
  reception_ms?: number;
  /** From the end of data until the message was durable and this line was made. */
  persist_ms: number;
}

interface RecipientEvent extends Common {
  recipient: string;
  sender: string;
  /** Scheduling key: a domain or 'smarthost'. */
  destination: string;
  /** Attempts made, this one included. */
  attempt: number;
  size: number;
  /** The peer's last reply, '250 2.0.0 queued', and who gave it, 'mx.example.net [192.0.2.1]'. */
  reply?: string;
  peer?: string;
  /** From acceptance to the start of this attempt. */
  queue_ms: number;
  /** Until the connection was ready; 0 when an open one was used. */
  connect_ms: number;
  /** From MAIL to the peer's final reply. */
  transfer_ms: number;
  /** With TLS only: version, cipher, and whether the peer's certificate was verified. */
  tls_version?: string;
  tls_cipher?: string;
  tls_verified?: boolean;
}

/** The next hop accepted the message. Final. */
export interface DeliveredEvent extends RecipientEvent {
  type: 'delivered';
}

/** The recipient stays in the queue. */
export interface DeferredEvent extends RecipientEvent {
  type: 'deferred';
  reason: DeferralReason;
  detail: string;
  retry_at: string;
}

/** The recipient failed for good; a DSN goes to the sender unless NOTIFY or a null reverse-path forbids it. Final. */
export interface BouncedEvent extends RecipientEvent {
  type: 'bounced' | 'expired';
  reason: BounceReason;
  /** Enhanced status code as in the DSN, '5.1.1'. */
  status: string;
  detail: string;
}

/** The row waits for an operator: "queue release" lets it go on. One line a row. */
export interface HeldEvent extends Common {
  type: 'held';
  destination: string;
  reason: string;
}

/** An operator took the recipient out of the queue. Final. */
export interface RemovedEvent extends Common {
  type: 'removed';
  recipient: string;
  by: string;
}

/** Lines that could not be written (disk full). */
export interface DroppedEvent {
  type: 'dropped';
  time: string;
  lines: number;
}

export type DeliveryEvent =
  | AcceptedEvent
  | DeliveredEvent
  | DeferredEvent
  | BouncedEvent
  | RemovedEvent
  | HeldEvent
  | DroppedEvent;

export type EventLogOptions = EventFileOptions & {
  enabled: boolean;
  /** Raised whether or not lines are written. */
  counts?: Counts;
};

/** Options of the event log of a relay process as the config has them. */
export function eventLogOptions(config: Config, dir: string, process: number): Omit<EventLogOptions, 'log'> {
  const { enabled, max_file_mb, keep_files, max_buffer_mb } = config.events;
  return {
    dir,
    process,
    enabled,
    maxFileBytes: max_file_mb * 1_048_576,
    keepFiles: keep_files,
    maxBufferBytes: max_buffer_mb * 1_048_576,
  };
}

export class EventLog {
  readonly #file: EventFile;
  readonly #enabled: boolean;
  readonly #counts: Counts | undefined;
  readonly #now: () => number;
  #timeMs = Number.NaN;
  #time = '';
  #second = Number.NaN;
  /** The text '2026-03-01T12:00:00.' of the present second, kept because toISOString is slow. */
  #toSecond = '';

  constructor(options: EventLogOptions) {
    this.#enabled = options.enabled;
    this.#counts = options.counts;
    this.#now = options.now ?? Date.now;
    this.#file = new EventFile(options);
  }

  /** We took responsibility for the message: it is durable, or in memory with after_enqueue. */
  accepted(message: Message): void {
    if (this.#counts !== undefined) {
      this.#counts.acceptedMessages++;
      this.#counts.accepted += message.envelope.recipients.length;
    }
    if (!this.#enabled) return;
    const { queueId, envelope, client, sizeBytes, receivedAtMs, receptionMs } = message;
    const reception = receptionMs === undefined ? '' : `,"reception_ms":${receptionMs}`;
    const user = client.user === undefined ? '' : `,"user":${quote(client.user)}`;
    const persistMs = Math.max(0, this.#now() - receivedAtMs);
    this.#file.append(
      `{"type":"accepted","time":"${this.#isoTime()}","queue_id":"${queueId}","sender":${quote(envelope.reversePath)}` +
        `,"recipients":${envelope.recipients.length},"size":${sizeBytes},"client":${quote(client.address)}` +
        `,"helo":${quote(client.helo)},"protocol":"${client.protocol}","session":"${client.sessionId}"` +
        `${user}${tlsUse(client.tls)}${reception},"persist_ms":${persistMs}}\n`,
    );
  }

  /** An attempt whose settlement is durable: one line for every recipient of it. */
  attempt(result: AttemptResult): void {
    if (this.#counts !== undefined)
      for (const { seqs, outcome } of result.groups) this.#counts[outcome.kind] += seqs.length;
    if (!this.#enabled) return;
    const { queueMs, connectMs, transferMs } = result.times;
    const shared =
      `","time":"${this.#isoTime()}","queue_id":"${result.queueId}","sender":${quote(result.reversePath)}` +
      `,"destination":${quote(result.destination)},"attempt":${result.attempts},"size":${result.sizeBytes}` +
      `,"queue_ms":${ms(queueMs)},"connect_ms":${ms(connectMs)},"transfer_ms":${ms(transferMs)}${tlsUse(result.tls)}`;
    const addresses = new Map<number, string>();
    for (const { seq, address } of result.recipients) addresses.set(seq, address);
    for (const { seqs, outcome } of result.groups) {
      const head = `{"type":"${typeOf(outcome)}${shared}${describe(outcome)},"recipient":`;
      for (const seq of seqs) this.#file.append(`${head}${quote(addresses.get(seq) ?? '')}}\n`);
    }
  }

  /** The relay itself set a row aside. */
  held(
    { queueId, destination }: { queueId: string; destination: string },
    reason = 'suspected_poison',
  ): void {
    if (!this.#enabled) return;
    this.#file.append(
      `{"type":"held","time":"${this.#isoTime()}","queue_id":"${queueId}","destination":${quote(destination)},"reason":${quote(reason)}}\n`,
    );
  }

  /** An operator removed these recipients. */
  removed(queueId: string, recipients: readonly string[], by: string): void {
    if (!this.#enabled) return;
    const head = `{"type":"removed","time":"${this.#isoTime()}","queue_id":"${queueId}","by":${quote(by)},"recipient":`;
    for (const recipient of recipients) this.#file.append(`${head}${quote(recipient)}}\n`);
  }

  /** Writes to newly opened files from now on (SIGUSR1). */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes the lines that wait, and closes; later events are lost. */
  close(): Promise<void> {
    return this.#file.close();
  }

  #isoTime(): string {
    const now = this.#now();
    if (now === this.#timeMs) return this.#time;
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#toSecond = new Date(second * 1000).toISOString().slice(0, -4);
    }
    this.#timeMs = now;
    this.#time = `${this.#toSecond}${String(Math.floor(now - second * 1000)).padStart(3, '0')}Z`;
    return this.#time;
  }
}

/**
 * Matches nearly all texts, which need no escape: this test costs half of JSON.stringify and a search in its result.
 */
const PLAIN = /^[ !#-[\]-~]*$/;

const quote = (text: string): string =>
  PLAIN.test(text) ? `"${text}"` : printableJson(JSON.stringify(text));

const ms = (value: number): number => Math.round(value * 10) / 10;

function typeOf(outcome: Outcome): DeliveryEvent['type'] {
  return outcome.kind === 'bounced' && outcome.reason === 'expired' ? 'expired' : outcome.kind;
}

function describe(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'delivered':
      return reply(outcome.reply);
    case 'deferred':
      return (
        `,"reason":"${outcome.reason}","detail":${quote(outcome.detail)}` +
        `,"retry_at":"${new Date(outcome.retryAtMs).toISOString()}"${reply(outcome.reply)}`
      );
    case 'bounced':
      return `,"reason":"${outcome.reason}","status":"${outcome.status}","detail":${quote(outcome.detail)}${reply(outcome.reply)}`;
  }
}

function tlsUse(tls: TlsUse | undefined): string {
  if (tls === undefined) return '';
  return `,"tls_version":${quote(tls.version)},"tls_cipher":${quote(tls.cipher)},"tls_verified":${tls.verified}`;
}

function reply(peer: PeerReply | undefined): string {
  if (peer === undefined) return '';
  const enhanced = peer.enhanced === '' ? '' : ` ${peer.enhanced}`;
  return `,"reply":${quote(`${peer.code}${enhanced} ${peer.text}`)},"peer":${quote(peer.peer)}`;
}
