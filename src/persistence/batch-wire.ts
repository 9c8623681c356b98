/**
 * A group commit on its way to the persistence thread: one flat array of strings and numbers. Measured per message
 * (structured clone, both sides): 1.0 µs against 4.6 µs for the nested objects.
 */
import type {
  CommitBatch,
  CommitMessage,
  CommitResult,
  OutboxPlan,
  SettleGroup,
  Settlement,
} from '../database/database.ts';
import type { BodyType, Recipient, RecipientClass, ReturnType } from '../mail/envelope.ts';

export type BatchWire = (string | number | null)[];

/** Only what is not the rule: indexes of messages withdrawn and settlements rejected. */
export interface ResultWire {
  withdrawn: number[];
  rejected: number[];
}

export function encodeBatch(batch: CommitBatch): BatchWire {
  const { token, nowMs, leaseUntilMs, lane = 0, messages } = batch;
  const wire: BatchWire = [token, nowMs, leaseUntilMs, lane, messages.length];
  for (const entry of batch.messages) encodeMessage(wire, entry);
  wire.push(batch.settlements.length);
  for (const settlement of batch.settlements) encodeSettlement(wire, settlement);
  wire.push(batch.withdrawals.length);
  for (const queueId of batch.withdrawals) wire.push(queueId);
  return wire;
}

function encodeMessage(wire: BatchWire, { message, plan, settlement }: CommitMessage): void {
  const { envelope, client } = message;
  wire.push(
    message.queueId,
    message.trace,
    message.content,
    message.sizeBytes,
    message.receivedAtMs,
    client.address,
    client.helo,
    client.protocol,
    client.sessionId,
    envelope.reversePath,
    envelope.body,
    envelope.smtpUtf8 ? 1 : 0,
    envelope.ret ?? null,
    envelope.envid ?? null,
    settlement ?? -1,
    envelope.recipients.length,
  );
  for (const { address, domain, class: kind, notify, orcpt } of envelope.recipients)
    wire.push(address, domain, kind, notify, orcpt ?? null);
  wire.push(plan.length);
  for (const { destination, state, seqs } of plan) {
    wire.push(destination, state);
    encodeSeqs(wire, seqs);
  }
}

function encodeSettlement(wire: BatchWire, settlement: Settlement): void {
  wire.push(
    settlement.queueId,
    settlement.destination,
    settlement.fence,
    settlement.attempts,
    settlement.retryAtMs,
    settlement.delayNotified ? 1 : 0,
    settlement.groups.length,
  );
  for (const { seqs, kind, reason, detail } of settlement.groups) {
    wire.push(kind, reason, detail);
    encodeSeqs(wire, seqs);
  }
}

function encodeSeqs(wire: BatchWire, seqs: number[]): void {
  wire.push(seqs.length);
  for (const seq of seqs) wire.push(seq);
}

/** Reads a wire in order. The types are those encodeBatch wrote: both ends are this file. */
class Reader {
  readonly #wire: BatchWire;
  #at = 0;

  constructor(wire: BatchWire) {
    this.#wire = wire;
  }

  text(): string {
    return this.#wire[this.#at++] as string;
  }

  number(): number {
    return this.#wire[this.#at++] as number;
  }

  optional<T extends string | number>(): T | null {
    return this.#wire[this.#at++] as T | null;
  }

  seqs(): number[] {
    const count = this.number();
    const seqs = this.#wire.slice(this.#at, this.#at + count) as number[];
    this.#at += count;
    return seqs;
  }

  list<T>(read: (reader: Reader) => T): T[] {
    const count = this.number();
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(read(this));
    return items;
  }
}

export function decodeBatch(wire: BatchWire): CommitBatch {
  const reader = new Reader(wire);
  return {
    token: reader.text(),
    nowMs: reader.number(),
    leaseUntilMs: reader.number(),
    lane: reader.number(),
    messages: reader.list(decodeMessage),
    settlements: reader.list(decodeSettlement),
    withdrawals: reader.list((r) => r.text()),
  };
}

function decodeMessage(r: Reader): CommitMessage {
  const message: CommitMessage['message'] = {
    queueId: r.text(),
    trace: r.text(),
    content: r.number(),
    sizeBytes: r.number(),
    receivedAtMs: r.number(),
    client: { address: r.text(), helo: r.text(), protocol: r.text(), sessionId: r.text() },
    envelope: {
      reversePath: r.text(),
      body: r.text() as BodyType,
      smtpUtf8: r.number() === 1,
      recipients: [],
    },
  };
  const { envelope } = message;
  const ret = r.optional<ReturnType>();
  if (ret !== null) envelope.ret = ret;
  const envid = r.optional<string>();
  if (envid !== null) envelope.envid = envid;
  const settlement = r.number();
  envelope.recipients = r.list(decodeRecipient);
  const plan = r.list(decodePlan);
  return settlement < 0 ? { message, plan } : { message, plan, settlement };
}

function decodeRecipient(r: Reader): Recipient {
  const recipient: Recipient = {
    address: r.text(),
    domain: r.text(),
    class: r.text() as RecipientClass,
    notify: r.number(),
  };
  const orcpt = r.optional<string>();
  if (orcpt !== null) recipient.orcpt = orcpt;
  return recipient;
}

function decodePlan(r: Reader): OutboxPlan {
  return { destination: r.text(), state: r.text() as OutboxPlan['state'], seqs: r.seqs() };
}

function decodeSettlement(r: Reader): Settlement {
  return {
    queueId: r.text(),
    destination: r.text(),
    fence: r.number(),
    attempts: r.number(),
    retryAtMs: r.optional<number>(),
    delayNotified: r.number() === 1,
    groups: r.list(decodeGroup),
  };
}

function decodeGroup(r: Reader): SettleGroup {
  const kind = r.text() as SettleGroup['kind'];
  return { kind, reason: r.text(), detail: r.text(), seqs: r.seqs() };
}

export function encodeResult(result: CommitResult): ResultWire {
  const wire: ResultWire = { withdrawn: [], rejected: [] };
  for (let i = 0; i < result.messages.length; i++)
    if (result.messages[i] !== 'committed') wire.withdrawn.push(i);
  for (let i = 0; i < result.settlements.length; i++) if (!result.settlements[i]) wire.rejected.push(i);
  return wire;
}

export function decodeResult(wire: ResultWire, batch: CommitBatch): CommitResult {
  const messages: CommitResult['messages'] = new Array(batch.messages.length).fill('committed');
  const settlements: boolean[] = new Array(batch.settlements.length).fill(true);
  for (const i of wire.withdrawn) messages[i] = 'withdrawn';
  for (const i of wire.rejected) settlements[i] = false;
  return { messages, settlements };
}
