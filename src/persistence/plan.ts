/** Which outbox rows a message becomes, and the job a row becomes when it goes to delivery from memory. */
import { FIRST_FENCE, type OutboxPlan } from '../database/database.ts';
import { destinationOf, type RouteTable } from '../mail/destination.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Job, JobRecipient } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';

/** Fills the plan: one row for each destination, SENDING where the scheduler has a place for it. */
export function planMessage(
  entry: { message: Message; plan: OutboxPlan[] },
  routes: RouteTable,
  scheduler: Pick<Scheduler, 'reserve'>,
): void {
  entry.plan = rowsOf(entry.message.envelope.recipients, routes);
  for (const row of entry.plan)
    if (scheduler.reserve(row.destination, row.seqs.length)) row.state = 'SENDING';
}

function rowsOf(recipients: readonly Recipient[], routes: RouteTable): OutboxPlan[] {
  const [first] = recipients;
  // The usual message has one recipient, and needs no table of destinations.
  if (first !== undefined && recipients.length === 1)
    return [{ destination: destinationOf(first.domain, routes), seqs: [0], state: 'PENDING' }];
  const rows = new Map<string, OutboxPlan>();
  for (let seq = 0; seq < recipients.length; seq++) {
    const destination = destinationOf(recipients[seq]?.domain ?? '', routes);
    const row = rows.get(destination);
    if (row) row.seqs.push(seq);
    else rows.set(destination, { destination, seqs: [seq], state: 'PENDING' });
  }
  return [...rows.values()];
}

/** The plan of a message whose rows all wait until a node claims them. */
export function planWaiting(message: Message, routes: RouteTable): OutboxPlan[] {
  const entry: { message: Message; plan: OutboxPlan[] } = { message, plan: [] };
  planMessage(entry, routes, { reserve: () => false });
  return entry.plan;
}

/** The first attempt of a row just committed. The caller gives the job a reference on the content. */
export function jobOf(message: Message, row: OutboxPlan): Job {
  const { envelope } = message;
  const job: Job = {
    queueId: message.queueId,
    destination: row.destination,
    attempts: 0,
    fence: FIRST_FENCE,
    reversePath: envelope.reversePath,
    body: envelope.body,
    smtpUtf8: envelope.smtpUtf8,
    trace: message.trace,
    content: message.content,
    sizeBytes: message.sizeBytes,
    receivedAtMs: message.receivedAtMs,
    delayNotified: false,
    recipients: row.seqs.map((seq) => recipientOf(message, seq)),
  };
  if (envelope.ret !== undefined) job.ret = envelope.ret;
  if (envelope.envid !== undefined) job.envid = envelope.envid;
  if (envelope.submitter !== undefined) job.submitter = envelope.submitter;
  if (message.messageId !== undefined) job.messageId = message.messageId;
  if (message.attributes !== undefined) job.attributes = message.attributes;
  if (message.client.user !== undefined) job.user = message.client.user;
  return job;
}

function recipientOf(message: Message, seq: number): JobRecipient {
  const recipient = message.envelope.recipients[seq];
  if (!recipient) throw new Error(`message ${message.queueId} has no recipient ${seq}`);
  const { address, notify, orcpt } = recipient;
  return orcpt === undefined ? { seq, address, notify } : { seq, address, notify, orcpt };
}
