/** A group commit on its way to the persistence thread: one flat array of strings and numbers. */
import type {
  CommitBatch,
  CommitMessage,
  CommitResult,
  JournalTransfer,
  OutboxPlan,
  SettleGroup,
  Settlement,
} from '../database/database.ts';
import { readMessage, writeMessage } from '../mail/message-wire.ts';
import type { SuppressionOrder } from '../mail/suppression.ts';
import { type Wire, WireReader } from '../mail/wire.ts';

/** Names only the exceptions: indexes of messages withdrawn and settlements rejected. */
export interface ResultWire {
  withdrawn: number[];
  rejected: number[];
  locked: number[];
  withdrawLater: string[];
}

export function encodeBatch(batch: CommitBatch): Wire {
  const { token, nowMs, leaseUntilMs, lane = 0, messages } = batch;
  const wire: Wire = [token, nowMs, leaseUntilMs, lane, messages.length];
  for (const entry of messages) encodeEntry(wire, entry);
  wire.push(batch.settlements.length);
  for (const settlement of batch.settlements) encodeSettlement(wire, settlement);
  wire.push(batch.withdrawals.length);
  for (const queueId of batch.withdrawals) wire.push(queueId);
  encodeTransfer(wire, batch.journal);
  return wire;
}

function encodeTransfer(wire: Wire, transfer: JournalTransfer | undefined): void {
  wire.push(transfer?.journal ?? null);
  if (transfer === undefined) return;
  wire.push(transfer.mark.seq);
  encodeSeqs(wire, transfer.mark.pending);
  encodeSeqs(wire, transfer.seqs);
}

function encodeEntry(wire: Wire, { message, plan, settlement }: CommitMessage): void {
  writeMessage(wire, message);
  wire.push(settlement ?? -1, plan.length);
  for (const { destination, state, seqs } of plan) {
    wire.push(destination, state);
    encodeSeqs(wire, seqs);
  }
}

function encodeSettlement(wire: Wire, settlement: Settlement): void {
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
  encodeSuppressed(wire, settlement.suppressed);
}

function encodeSuppressed(wire: Wire, orders: readonly SuppressionOrder[] = []): void {
  wire.push(orders.length);
  for (const order of orders) {
    const { tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs } = order;
    wire.push(tenant, target, scope, reason, source, detail, createdAtMs, expiresAtMs);
    wire.push(order.after, order.withinMs, order.about);
  }
}

function encodeSeqs(wire: Wire, seqs: number[]): void {
  wire.push(seqs.length);
  for (const seq of seqs) wire.push(seq);
}

export function decodeBatch(wire: Wire): CommitBatch {
  const reader = new WireReader(wire);
  const batch: CommitBatch = {
    token: reader.text(),
    nowMs: reader.number(),
    leaseUntilMs: reader.number(),
    lane: reader.number(),
    messages: reader.list(decodeEntry),
    settlements: reader.list(decodeSettlement),
    withdrawals: reader.list((r) => r.text()),
  };
  const journal = reader.optional<string>();
  if (journal !== null)
    batch.journal = {
      journal,
      mark: { seq: reader.number(), pending: reader.numbers() },
      seqs: reader.numbers(),
    };
  return batch;
}

function decodeEntry(r: WireReader): CommitMessage {
  const message = readMessage(r);
  const settlement = r.number();
  const plan = r.list(decodePlan);
  return settlement < 0 ? { message, plan } : { message, plan, settlement };
}

function decodePlan(r: WireReader): OutboxPlan {
  return { destination: r.text(), state: r.text() as OutboxPlan['state'], seqs: r.numbers() };
}

function decodeSettlement(r: WireReader): Settlement {
  const settlement: Settlement = {
    queueId: r.text(),
    destination: r.text(),
    fence: r.number(),
    attempts: r.number(),
    retryAtMs: r.optional<number>(),
    delayNotified: r.number() === 1,
    groups: r.list(decodeGroup),
  };
  const suppressed = r.list(decodeSuppressed);
  if (suppressed.length > 0) settlement.suppressed = suppressed;
  return settlement;
}

const decodeSuppressed = (r: WireReader): SuppressionOrder => ({
  tenant: r.text(),
  target: r.text(),
  scope: r.text(),
  reason: r.text(),
  source: r.text() as SuppressionOrder['source'],
  detail: r.text(),
  createdAtMs: r.number(),
  expiresAtMs: r.optional<number>(),
  after: r.number(),
  withinMs: r.number(),
  about: r.text(),
});

function decodeGroup(r: WireReader): SettleGroup {
  const kind = r.text() as SettleGroup['kind'];
  return { kind, reason: r.text(), detail: r.text(), seqs: r.numbers() };
}

/** null: all was done, as nearly always. */
export function encodeResult(result: CommitResult): ResultWire | null {
  const wire: ResultWire = {
    withdrawn: [],
    rejected: [],
    locked: [],
    withdrawLater: result.withdrawLater ?? [],
  };
  for (let i = 0; i < result.messages.length; i++)
    if (result.messages[i] !== 'committed') wire.withdrawn.push(i);
  for (let i = 0; i < result.settlements.length; i++) {
    if (result.settlements[i] === false) wire.rejected.push(i);
    else if (result.settlements[i] === null) wire.locked.push(i);
  }
  const exceptions = wire.withdrawn.length + wire.rejected.length + wire.locked.length;
  return exceptions + wire.withdrawLater.length === 0 ? null : wire;
}

export function decodeResult(wire: ResultWire | null, batch: CommitBatch): CommitResult {
  const messages: CommitResult['messages'] = new Array(batch.messages.length).fill('committed');
  const settlements: (boolean | null)[] = new Array(batch.settlements.length).fill(true);
  if (wire === null) return { messages, settlements };
  for (const i of wire.withdrawn) messages[i] = 'withdrawn';
  for (const i of wire.rejected) settlements[i] = false;
  for (const i of wire.locked) settlements[i] = null;
  return wire.withdrawLater.length === 0
    ? { messages, settlements }
    : { messages, settlements, withdrawLater: wire.withdrawLater };
}
