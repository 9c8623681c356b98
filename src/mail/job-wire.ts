/** Jobs and their results on their way between threads: as flat arrays, for the reason given in message-wire.ts. */
import { takeAttributes, writeAttributes } from './attributes.ts';
import type { BodyType, ReturnType } from './envelope.ts';
import type { AttemptResult, Job, JobRecipient } from './job.ts';
import { readMessage, writeMessage } from './message-wire.ts';
import type { BounceReason, DeferralReason, Outcome, OutcomeGroup, PeerReply } from './outcome.ts';
import type { Peer } from './peer.ts';
import type { ReplyClass, ReplyMove, ReplyScope, Verdict } from './verdict.ts';
import { type Wire, WireReader } from './wire.ts';

/** Appends the job; `readJobs` takes it off again. */
export function writeJob(wire: Wire, job: Job): void {
  wire.push(
    job.queueId,
    job.destination,
    job.attempts,
    job.fence,
    job.reversePath,
    job.body,
    job.smtpUtf8 ? 1 : 0,
    job.trace,
    job.content,
    job.sizeBytes,
    job.receivedAtMs,
    job.delayNotified ? 1 : 0,
  );
  writeRecipients(wire, job.recipients);
  const { ret, envid, submitter, user, suspicion, operatorText, attributes, suppressed } = job;
  const rare = ret ?? envid ?? submitter ?? user ?? suspicion ?? operatorText ?? attributes ?? suppressed;
  const isPlain = rare === undefined;
  wire.push(job.messageId ?? null, job.leaseEpoch ?? null, isPlain ? 0 : 1);
  if (!isPlain) writeRare(wire, job);
}

function readJob(r: WireReader): Job {
  const job: Job = {
    queueId: r.text(),
    destination: r.text(),
    attempts: r.number(),
    fence: r.number(),
    reversePath: r.text(),
    body: r.text() as BodyType,
    smtpUtf8: r.number() === 1,
    trace: r.text(),
    content: r.number(),
    sizeBytes: r.number(),
    receivedAtMs: r.number(),
    delayNotified: r.number() === 1,
    recipients: r.list(readRecipient),
  };
  const messageId = r.optional<string>();
  if (messageId !== null) job.messageId = messageId;
  const leaseEpoch = r.optional<number>();
  if (leaseEpoch !== null) job.leaseEpoch = leaseEpoch;
  if (r.number() === 1) readRare(r, job);
  return job;
}

/** What few jobs have. */
function writeRare(wire: Wire, job: Job): void {
  wire.push(
    job.ret ?? null,
    job.envid ?? null,
    job.submitter ?? null,
    job.user ?? null,
    job.suspicion ?? null,
    job.operatorText ?? null,
    job.suppressed?.length ?? null,
  );
  for (const { seq, detail } of job.suppressed ?? []) wire.push(seq, detail);
  writeAttributes(wire, job.attributes);
}

function readRare(r: WireReader, job: Job): void {
  const ret = r.optional<ReturnType>();
  if (ret !== null) job.ret = ret;
  const envid = r.optional<string>();
  if (envid !== null) job.envid = envid;
  const submitter = r.optional<string>();
  if (submitter !== null) job.submitter = submitter;
  const user = r.optional<string>();
  if (user !== null) job.user = user;
  const suspicion = r.optional<number>();
  if (suspicion !== null) job.suspicion = suspicion;
  const operatorText = r.optional<string>();
  if (operatorText !== null) job.operatorText = operatorText;
  const suppressed = r.optional<number>();
  if (suppressed !== null)
    job.suppressed = Array.from({ length: suppressed }, () => ({ seq: r.number(), detail: r.text() }));
  const attributes = takeAttributes(r);
  if (attributes !== undefined) job.attributes = attributes;
}

/** Reads the `count` jobs of a wire. */
export function readJobs(wire: Wire, count: number): Job[] {
  const reader = new WireReader(wire);
  return Array.from({ length: count }, () => readJob(reader));
}

/** Appends the result of a job; `readResults` takes it off again. */
function writeResult(wire: Wire, result: AttemptResult): void {
  const { times, tls, user, envid, attributes, source, dkimDomains } = result;
  wire.push(
    result.queueId,
    result.destination,
    result.fence,
    result.attempts,
    result.reversePath,
    result.receivedAtMs,
    result.sizeBytes,
    times.queueMs,
    times.connectMs,
    times.transferMs,
    result.delayNotified ? 1 : 0,
  );
  writeRecipients(wire, result.recipients);
  wire.push(result.groups.length);
  for (const group of result.groups) writeGroup(wire, group);
  wire.push(result.dsns.length);
  for (const dsn of result.dsns) writeMessage(wire, dsn);
  const isPlain = tls === undefined && (user ?? envid ?? attributes ?? source ?? dkimDomains) === undefined;
  wire.push(result.messageId ?? null, result.site ?? null, isPlain ? 0 : 1);
  if (isPlain) return;
  writeAttributes(wire, attributes);
  wire.push(source ?? null, user ?? null, envid ?? null, tls?.version ?? null);
  if (tls !== undefined) wire.push(tls.cipher, tls.verified ? 1 : 0);
  wire.push(dkimDomains?.length ?? 0);
  for (const domain of dkimDomains ?? []) wire.push(domain);
}

function readResult(r: WireReader): AttemptResult {
  const result: AttemptResult = {
    queueId: r.text(),
    destination: r.text(),
    fence: r.number(),
    attempts: r.number(),
    reversePath: r.text(),
    receivedAtMs: r.number(),
    sizeBytes: r.number(),
    times: { queueMs: r.number(), connectMs: r.number(), transferMs: r.number() },
    delayNotified: r.number() === 1,
    recipients: r.list(readRecipient),
    groups: r.list(readGroup),
    dsns: r.list(readMessage),
  };
  const messageId = r.optional<string>();
  if (messageId !== null) result.messageId = messageId;
  const site = r.optional<string>();
  if (site !== null) result.site = site;
  if (r.number() === 0) return result;
  const attributes = takeAttributes(r);
  if (attributes !== undefined) result.attributes = attributes;
  const source = r.optional<string>();
  if (source !== null) result.source = source;
  const user = r.optional<string>();
  if (user !== null) result.user = user;
  const envid = r.optional<string>();
  if (envid !== null) result.envid = envid;
  const version = r.optional<string>();
  if (version !== null) result.tls = { version, cipher: r.text(), verified: r.number() === 1 };
  const signers = r.list((of) => of.text());
  if (signers.length > 0) result.dkimDomains = signers;
  return result;
}

/** The results of one loop turn, which are sent as one message. */
export class ResultBatch {
  #wire: Wire = [];
  #count = 0;

  add(result: AttemptResult): void {
    writeResult(this.#wire, result);
    this.#count++;
  }

  /** Takes all results out; null when there are none. */
  take(): { wire: Wire; count: number } | null {
    if (this.#count === 0) return null;
    const batch = { wire: this.#wire, count: this.#count };
    this.#wire = [];
    this.#count = 0;
    return batch;
  }
}

/** Reads the `count` results of a wire. */
export function readResults(wire: Wire, count: number): AttemptResult[] {
  const reader = new WireReader(wire);
  return Array.from({ length: count }, () => readResult(reader));
}

function writeRecipients(wire: Wire, recipients: readonly JobRecipient[]): void {
  wire.push(recipients.length);
  for (const { seq, address, notify, orcpt } of recipients) wire.push(seq, address, notify, orcpt ?? null);
}

function readRecipient(r: WireReader): JobRecipient {
  const recipient: JobRecipient = { seq: r.number(), address: r.text(), notify: r.number() };
  const orcpt = r.optional<string>();
  if (orcpt !== null) recipient.orcpt = orcpt;
  return recipient;
}

/** Appends a group: kind, recipients and reply first; then what only some outcomes have. */
function writeGroup(wire: Wire, { seqs, outcome }: OutcomeGroup): void {
  wire.push(outcome.kind, seqs.length);
  for (const seq of seqs) wire.push(seq);
  const { reply } = outcome;
  if (reply === undefined) wire.push(null);
  else {
    wire.push(reply.code, reply.enhanced, reply.text);
    writePeer(wire, reply.peer);
  }
  switch (outcome.kind) {
    case 'delivered':
      wire.push(outcome.dsnPassedOn ? 1 : 0);
      break;
    case 'deferred':
      wire.push(outcome.reason, outcome.detail, outcome.retryAtMs);
      writePeer(wire, outcome.peer);
      writeVerdict(wire, outcome.verdict);
      break;
    case 'bounced':
      wire.push(outcome.reason, outcome.detail, outcome.status);
      writePeer(wire, outcome.peer);
      writeVerdict(wire, outcome.verdict);
      break;
    default:
      outcome satisfies never;
  }
}

/** `kind` is a literal again: what comes from another thread is a string of its own each time, and slow as a key. */
function readGroup(r: WireReader): OutcomeGroup {
  const kind = r.text() as Outcome['kind'];
  const seqs = r.numbers();
  const code = r.optional<number>();
  const reply = code === null ? null : readReply(r, code);
  if (kind === 'delivered')
    return { seqs, outcome: { kind: 'delivered', reply: reply as PeerReply, dsnPassedOn: r.number() === 1 } };
  const outcome: Outcome =
    kind === 'deferred'
      ? { kind: 'deferred', reason: r.text() as DeferralReason, detail: r.text(), retryAtMs: r.number() }
      : { kind: 'bounced', reason: r.text() as BounceReason, detail: r.text(), status: r.text() };
  const peer = readPeer(r);
  if (peer !== null) outcome.peer = peer;
  if (reply !== null) outcome.reply = reply;
  const verdict = readVerdict(r);
  if (verdict !== null) outcome.verdict = verdict;
  return { seqs, outcome };
}

const readReply = (r: WireReader, code: number): PeerReply => ({
  code,
  enhanced: r.text(),
  text: r.text(),
  peer: readPeer(r) as Peer,
});

function writePeer(wire: Wire, peer: Peer | undefined): void {
  if (peer === undefined) wire.push(null);
  else wire.push(peer.host, peer.address, peer.port, peer.source);
}

function readPeer(r: WireReader): Peer | null {
  const host = r.optional<string>();
  return host === null ? null : { host, address: r.text(), port: r.number(), source: r.text() };
}

function writeVerdict(wire: Wire, verdict: Verdict | undefined): void {
  if (verdict === undefined) wire.push(null);
  else wire.push(verdict.class, verdict.scope, verdict.move, verdict.rule);
}

function readVerdict(r: WireReader): Verdict | null {
  const replyClass = r.optional<ReplyClass>();
  if (replyClass === null) return null;
  return {
    class: replyClass,
    scope: r.text() as ReplyScope,
    move: r.text() as ReplyMove,
    rule: r.optional<string>(),
  };
}
