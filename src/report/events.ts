/**
 * Delivery events: what became of every message and recipient, one JSON line each (docs/events.md). Fates are logged
 * once, after they are durable (I2). Lines are put together by hand for speed: there is one per recipient, and the
 * text that the recipients of an attempt share is made once.
 */
import { printableJson } from '../base/printable.ts';
import type { Config } from '../config/schema.ts';
import { type Attributes, TEXT_ATTRIBUTES } from '../mail/attributes.ts';
import type { AttemptResult, EntryFacts } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import { shownDestination } from '../mail/operator-keys.ts';
import { isExpiry, type Outcome, type PeerReply } from '../mail/outcome.ts';
import type { Peer } from '../mail/peer.ts';
import { HELD_BY_RULE, rulesIn } from '../mail/rule-hold.ts';
import { statusOf } from '../mail/status.ts';
import type { TlsUse } from '../mail/tls-use.ts';
import type { Verdict } from '../mail/verdict.ts';
import { decodeXtext } from '../protocol/xtext.ts';
import { EventFile, type EventFileOptions } from './event-file.ts';
import type {
  AsyncBouncedEvent,
  ComplainedEvent,
  DeliveryEvent,
  LimitChangedEvent,
  SourceStateEvent,
} from './event-types.ts';
import { MailLines } from './mail-lines.ts';
import type { Counts } from './minute-rates.ts';

export type EventLogOptions = EventFileOptions & {
  enabled: boolean;
  /** Lines are copied to the log. */
  copied: boolean;
  /** Raised whether or not lines are written. */
  counts?: Counts;
};

type RemovedEntry = EntryFacts & { recipients: readonly string[] };

/** The name of a node, of the name that one of its processes has ('mx1/1'). */
const nodeOf = (name: string): string => name.replace(/\/\d+$/, '');

/** Options of the event log of a relay process as the config has them. */
export function eventLogOptions(config: Config, dir: string, process: number): Omit<EventLogOptions, 'log'> {
  const { enabled, max_file_mb, keep_days, max_total_mb, max_buffer_mb } = config.events;
  return {
    dir,
    process,
    node: nodeOf(config.node_id),
    enabled,
    copied: config.log.mail,
    maxFileBytes: max_file_mb * 1_048_576,
    keepDays: keep_days,
    maxTotalBytes: max_total_mb * 1_048_576,
    maxBufferBytes: max_buffer_mb * 1_048_576,
  };
}

export class EventLog {
  readonly #file: EventFile;
  /** Whether lines are written to files, copied to the log, or either. */
  readonly #written: boolean;
  #copied: boolean;
  #told: boolean;
  readonly #mail: MailLines;
  readonly #counts: Counts | undefined;
  readonly #now: () => number;
  readonly #node: string;
  #timeMs = Number.NaN;
  #stamped = '';
  #second = Number.NaN;
  /** The text '2026-03-01T12:00:00.' of the present second, kept because toISOString is slow. */
  #toSecond = '';
  readonly #lasting = {
    sender: new LastQuoted(),
    address: new LastQuoted(),
    helo: new LastQuoted(),
    destination: new LastQuoted(),
    peer: new LastPeer(),
  };

  constructor(options: EventLogOptions) {
    this.#now = options.now ?? Date.now;
    this.#written = options.enabled;
    this.#copied = options.copied;
    this.#told = this.#written || this.#copied;
    this.#mail = new MailLines(options.log, this.#now);
    this.#counts = options.counts;
    this.#node = options.node;
    this.#file = new EventFile(options);
  }

  /** We took responsibility for the message: it is durable, or in memory with after_enqueue. */
  accepted(message: Message): void {
    if (this.#counts !== undefined) {
      this.#counts.acceptedMessages++;
      this.#counts.accepted += message.envelope.recipients.length;
    }
    if (!this.#told) return;
    const { queueId, envelope, client, sizeBytes, receivedAtMs, receptionMs, originalQueueId } = message;
    const nowMs = this.#now();
    const persistMs = Math.max(0, nowMs - receivedAtMs);
    const { sender, address, helo } = this.#lasting;
    this.#tell(
      `{"type":"accepted${this.#stamp(nowMs)}${queueId}","sender":${sender.of(envelope.reversePath)}` +
        `${said(message.messageId, client.user, envelope.envid)}${attributes(message.attributes)},"recipients":${envelope.recipients.length}` +
        `,"size_bytes":${sizeBytes},"client_address":${address.of(client.address)}` +
        (client.port ? `,"client_port":${client.port}` : '') +
        (client.helo === '' ? '' : `,"helo":${helo.of(client.helo)}`) +
        (client.sessionId === ''
          ? ''
          : `,"protocol":"${client.protocol}","session_id":"${client.sessionId}"`) +
        text('listener', client.listener) +
        `${text('original_queue_id', originalQueueId)}${tlsUse(client.tls)}` +
        `${receptionMs === undefined ? '' : `,"reception_ms":${receptionMs}`},"persist_ms":${persistMs}}\n`,
    );
  }

  /** An attempt whose settlement is durable: one line for every recipient of it. */
  attempt(result: AttemptResult): void {
    if (this.#counts !== undefined)
      for (const { seqs, outcome } of result.groups) this.#counts[outcome.kind] += seqs.length;
    if (!this.#told) return;
    const { queueMs, connectMs, transferMs } = result.times;
    const { sender, destination } = this.#lasting;
    const shared =
      `${this.#stamp()}${result.queueId}","sender":${sender.of(result.reversePath)}` +
      `${said(result.messageId, result.user, result.envid)}${attributes(result.attributes)}` +
      `,"destination":${destination.of(shownDestination(result.destination))},"attempt":${result.attempts},"size_bytes":${result.sizeBytes}` +
      `,"queue_ms":${ms(queueMs)},"connect_ms":${ms(connectMs)},"transfer_ms":${ms(transferMs)}${tlsUse(result.tls)}`;
    const addressOf = addresses(result.recipients);
    for (const { seqs, outcome } of result.groups) {
      if (outcome.kind === 'deferred' && outcome.reason === HELD_BY_RULE) {
        this.#heldByRule(result, seqs.length, outcome.detail);
        continue;
      }
      const head = `{"type":"${typeOf(outcome)}${shared}${describe(outcome, this.#lasting.peer)},"recipient":`;
      for (const seq of seqs) this.#tell(`${head}${quote(addressOf(seq))}}\n`);
    }
  }

  /** The relay itself set an entry aside. */
  held(entry: EntryFacts, reason = 'suspected_poison'): void {
    if (!this.#told) return;
    this.#tell(`{"type":"held${this.#stamp()}${about(entry)},"reason":${quote(reason)}}\n`);
  }

  /** A rule of `egress.routing` holds these recipients of an entry. */
  #heldByRule(result: AttemptResult, recipients: number, detail: string): void {
    const { queueId, reversePath, messageId = '', destination } = result;
    const entry = about({ queueId, reversePath, messageId, destination });
    this.#tell(
      `{"type":"held${this.#stamp()}${entry}${attributes(result.attributes)},"reason":"${HELD_BY_RULE}"` +
        `${text('rule', rulesIn(detail)[0])},"recipients":${recipients}}\n`,
    );
  }

  /** An operator removed these recipients of an entry. */
  removed(entry: RemovedEntry, by: string): void {
    if (!this.#told) return;
    const head = `{"type":"removed${this.#stamp()}${about(entry)},"by":${quote(by)},"recipient":`;
    for (const recipient of entry.recipients) this.#tell(`${head}${quote(recipient)}}\n`);
  }

  /** A report came to a return path. It is no fate of mail, so `log.mail` has no line of it. */
  reported(report: Omit<AsyncBouncedEvent, 'time' | 'node'> | Omit<ComplainedEvent, 'time' | 'node'>): void {
    if (!this.#written) return;
    const { type, ...rest } = report;
    const time = new Date(this.#now()).toISOString();
    this.#file.append(`${printableJson(JSON.stringify({ type, time, node: this.#node, ...rest }))}\n`);
  }

  /** Something about a source is otherwise now. It is no fate of mail, so `log.mail` has no line of it. */
  sourceState(change: Omit<SourceStateEvent, 'type' | 'time' | 'node'>): void {
    if (!this.#written) return;
    const time = new Date(this.#now()).toISOString();
    const event: SourceStateEvent = { type: 'source_state', time, node: this.#node, ...change };
    this.#file.append(`${printableJson(JSON.stringify(event))}\n`);
  }

  /** A limit is another one now. It is no fate of mail, so `log.mail` has no line of it. */
  limitChanged(change: Omit<LimitChangedEvent, 'type' | 'time' | 'node'>): void {
    if (!this.#written) return;
    const time = new Date(this.#now()).toISOString();
    const event: LimitChangedEvent = { type: 'limit_changed', time, node: this.#node, ...change };
    this.#file.append(`${printableJson(JSON.stringify(event))}\n`);
  }

  #tell(line: string): void {
    if (this.#written) this.#file.append(line);
    if (this.#copied) this.#mail.copy(line);
  }

  /** Takes what can change live: log.mail. */
  reconfigure({ log }: Config): void {
    this.#copied = log.mail;
    this.#told = this.#written || this.#copied;
  }

  /** Writes to newly opened files from now on (SIGUSR1). */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes the lines that wait, and closes; later events are lost. */
  close(): Promise<void> {
    this.#mail.end();
    return this.#file.close();
  }

  /** What every line about mail has between its type and the value of queue_id. */
  #stamp(now = this.#now()): string {
    if (now === this.#timeMs) return this.#stamped;
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#toSecond = new Date(second * 1000).toISOString().slice(0, -4);
    }
    this.#timeMs = now;
    const millisecond = String(Math.floor(now - second * 1000)).padStart(3, '0');
    this.#stamped = `","time":"${this.#toSecond}${millisecond}Z","node":"${this.#node}","queue_id":"`;
    return this.#stamped;
  }
}

/**
 * Matches nearly all texts, which need no escape: this test costs half of JSON.stringify and a search in its result.
 */
const PLAIN = /^[ !#-[\]-~]*$/;

const quote = (text: string): string =>
  PLAIN.test(text) ? `"${text}"` : printableJson(JSON.stringify(text));

/**
 * The text that was quoted last, kept because many messages one after another have the same: to compare two texts takes
 * less time than to look for characters that need an escape.
 */
class LastQuoted {
  #text = '';
  #quoted = '""';

  of(given: string): string {
    if (given !== this.#text) {
      this.#text = given;
      this.#quoted = quote(given);
    }
    return this.#quoted;
  }
}

/** The same for the fields of a peer. */
class LastPeer {
  #peer: Peer = { host: '', address: '', port: 0, source: '' };
  #fields = '';

  fields(peer: Peer): string {
    const { host, address, port, source } = this.#peer;
    const isSame = peer.port === port && peer.host === host && peer.address === address;
    if (!isSame || peer.source !== source) {
      this.#peer = peer;
      this.#fields =
        `,"peer_host":${quote(peer.host)},"peer_address":"${peer.address}","peer_port":${peer.port}` +
        text('source_address', peer.source);
    }
    return this.#fields;
  }
}

/** Nearly every attempt is for one recipient, and needs no table. */
function addresses(recipients: AttemptResult['recipients']): (seq: number) => string {
  const [only] = recipients;
  if (only !== undefined && recipients.length === 1) return (seq) => (seq === only.seq ? only.address : '');
  const table = new Map(recipients.map(({ seq, address }) => [seq, address]));
  return (seq) => table.get(seq) ?? '';
}

const ms = (value: number): number => Math.round(value * 10) / 10;

function typeOf(outcome: Outcome): DeliveryEvent['type'] {
  if (outcome.kind !== 'bounced') return outcome.kind;
  if (isExpiry(outcome.reason)) return 'expired';
  const { reason } = outcome;
  return reason === 'suppressed' || reason === 'discarded' ? reason : outcome.kind;
}

function describe(outcome: Outcome, peers: LastPeer): string {
  const status = `,"status":"${statusOf(outcome)}"`;
  switch (outcome.kind) {
    case 'delivered':
      return status + reply(outcome.reply, undefined, peers);
    case 'deferred':
      return (
        `${status},"reason":"${outcome.reason}","detail":${quote(outcome.detail)}` +
        `,"retry_at":"${new Date(outcome.retryAtMs).toISOString()}"${reply(outcome.reply, outcome.peer, peers)}` +
        meaning(outcome.verdict)
      );
    case 'bounced':
      return (
        `${status},"reason":"${outcome.reason}","detail":${quote(outcome.detail)}` +
        `${reply(outcome.reply, outcome.peer, peers)}${meaning(outcome.verdict)}` +
        (outcome.reason === 'discarded' ? text('rule', rulesIn(outcome.detail)[0]) : '')
      );
  }
}

/** A field that is left out where there is nothing to say. */
const text = (name: string, value: string | undefined): string => (value ? `,"${name}":${quote(value)}` : '');

/** @param envid as received (xtext). */
const said = (messageId: string | undefined, user: string | undefined, envid: string | undefined): string =>
  text('message_id', messageId) + text('user', user) + (envid ? text('envid', decodeXtext(envid)) : '');

/** Metadata is put in as the JSON it is. `class` is what a reply means. */
function attributes(given: Attributes | undefined): string {
  if (given === undefined) return '';
  const { metadata, deadlineMs, priorityHint } = given;
  return (
    TEXT_ATTRIBUTES.map((name) => text(name === 'class' ? 'mail_class' : name, given[name])).join('') +
    (metadata === undefined ? '' : `,"metadata":${printableJson(metadata)}`) +
    (deadlineMs === undefined ? '' : `,"deadline_at":"${new Date(deadlineMs).toISOString()}"`) +
    (priorityHint === undefined ? '' : `,"priority_hint":${priorityHint}`)
  );
}

/** From the value of queue_id on. */
const about = ({ queueId, reversePath, messageId, destination }: EntryFacts): string =>
  `${queueId}","sender":${quote(reversePath)}${text('message_id', messageId)}` +
  `,"destination":${quote(shownDestination(destination))}`;

function tlsUse(tls: TlsUse | undefined): string {
  if (tls === undefined) return '';
  return `,"tls_version":${quote(tls.version)},"tls_cipher":${quote(tls.cipher)},"tls_verified":${tls.verified}`;
}

function reply(given: PeerReply | undefined, asked: Peer | undefined, peers: LastPeer): string {
  if (given === undefined) return asked === undefined ? '' : peers.fields(asked);
  const enhanced = given.enhanced === '' ? '' : ` ${given.enhanced}`;
  return `,"reply":${quote(`${given.code}${enhanced} ${given.text}`)}${peers.fields(given.peer)}`;
}

function meaning(verdict: Verdict | undefined): string {
  if (verdict === undefined) return '';
  const { class: replyClass, scope, move, rule } = verdict;
  return `,"class":"${replyClass}","scope":"${scope}","move":"${move}"${text('rule', rule ?? '')}`;
}
