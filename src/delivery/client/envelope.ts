/**
 * MAIL, RCPT and DATA: writes them in as few sends as the peer allows (RFC 2920) and counts the replies, which come
 * in the order of the commands. A recipient's fate is decided here when its own reply decides it.
 */

import { isAscii } from '../../base/ascii.ts';
import { NOTIFY } from '../../mail/envelope.ts';
import type { Job, JobRecipient } from '../../mail/job.ts';
import type { PeerReply } from '../../mail/outcome.ts';
import type { Attempt } from '../attempt.ts';
import { bounced, pastDeadline, replyLine, saysOutOfSequence } from '../outcome.ts';
import { sendBody, sendEmptyBody } from './content.ts';
import { addressFor, fitOf } from './fit.ts';
import { isForAnother, refuse, refuseMany } from './moves.ts';
import type { ClientSession } from './session.ts';
import { type ClientState, IDLE, type Transaction } from './state.ts';

/**
 * Most recipients offered ahead of their replies. Enough to hide a round trip; few enough that buffers on both sides
 * hold only some ten kilobytes.
 */
const WINDOW = 512;
const REFILL = WINDOW / 2;

/** Takes work for a free session and sends its envelope; without work the session becomes idle. */
export function begin(session: ClientSession): void {
  while (!session.full) {
    const attempt = session.owner.next(session);
    if (attempt === null) break;
    session.inHand = attempt;
    attempt.holder = session;
    const transaction = prepare(session, attempt, false);
    if (transaction !== null) {
      enter(session, transaction);
      sendEnvelope(session, transaction);
      return;
    }
    session.inHand = null;
    session.owner.finished(attempt, session);
  }
  session.idle();
}

/**
 * Makes the next transaction of an attempt; null when nothing of it can be sent to this peer: every recipient has its
 * outcome, or another host is to be asked.
 * @param ahead whether it is sent behind the content of another transaction.
 */
export function prepare(session: ClientSession, attempt: Attempt, ahead: boolean): Transaction | null {
  // It may have waited here for long: for a connection, or behind others. Of what was offered already the reply counts.
  const late = attempt.cursor === 0 ? pastDeadline(attempt.job, Date.now) : null;
  if (late !== null) {
    attempt.decideRest(late);
    return null;
  }
  const fit = fitOf(attempt, session.offered, session.owner.arena);
  if (fit.kind === 'misfit') {
    attempt.counted = true;
    // A message that does not fit this host may fit another.
    if (fit.outcome.kind === 'bounced') attempt.postponeRest(fit.outcome);
    else attempt.decideRest(fit.outcome);
    return null;
  }
  if (attempt.job.smtpUtf8 && !fit.utf8) dropUnwritable(attempt);
  if (!attempt.hasMore) return null;
  const from = attempt.cursor;
  // A reverse-path that names the recipient has one.
  const most = hasToken(session, attempt.job) ? 1 : session.owner.recipientLimit;
  const count = Math.min(most, attempt.todo.length - from);
  attempt.cursor += count;
  return {
    attempt,
    from,
    count,
    body: fit.body,
    utf8: fit.utf8,
    bdat: fit.bdat,
    ahead,
    awaits: session.needsReset ? 'rset' : 'mail',
    replies: 0,
    refused: false,
    rcptSent: 0,
    rcptReplied: 0,
    dataSent: false,
    accepted: [],
    mailRefusal: null,
    refusals: null,
    tooMany: null,
    tooManyReply: null,
  };
}

/** Takes out recipients whose address cannot be written for this peer: they are for another host, or bounce. */
function dropUnwritable(attempt: Attempt): void {
  const { job, todo } = attempt;
  const rest = todo.splice(attempt.cursor);
  const unwritable: number[] = [];
  for (const position of rest) {
    const { address } = job.recipients[position] as JobRecipient;
    (addressFor(address, false) === null ? unwritable : todo).push(position);
  }
  if (unwritable.length === 0) return;
  const detail = 'internationalized address; the next hop does not offer SMTPUTF8';
  attempt.postpone(unwritable, bounced('needs_smtputf8', '5.6.7', detail));
}

/** Makes this the transaction whose replies come next. */
export function enter(session: ClientSession, transaction: Transaction): void {
  const { attempt } = transaction;
  session.state = { phase: 'envelope', transaction };
  session.inHand = null;
  session.port.deadline(session.id, session.owner.rules.command_timeout_ms);
  if (attempt.startedAtMs !== 0) return;
  attempt.startedAtMs = session.owner.now();
  attempt.tls = session.tls;
  if (session.transactions <= 1) attempt.connectMs = session.connectMs;
}

/** Sends what may go without waiting for replies: everything when the peer pipelines, else the first command. */
export function sendEnvelope(session: ClientSession, transaction: Transaction): void {
  session.transactions++;
  transaction.attempt.offered = true;
  let text = session.needsReset ? 'RSET\r\n' : '';
  session.needsReset = false;
  if (session.offered.pipelining) {
    text += mailCommand(session, transaction);
    text += nextCommands(session, transaction);
  } else if (text === '') text = mailCommand(session, transaction);
  write(session, transaction, text);
}

function write(session: ClientSession, transaction: Transaction, text: string): void {
  // With PIPELINING, replies to earlier commands may come in the same turn.
  if (!session.offered.pipelining || transaction.rcptReplied === 0) session.wroteTurn = session.owner.turn;
  if (transaction.utf8) session.port.sendUtf8(session.id, text);
  else session.port.sendLatin1(session.id, text);
}

/**
 * Whether the reverse-path gets a token. Reports have none, by which nobody answers them; and whoever had no right to relay
 * is to have his bounces himself.
 */
const hasToken = ({ owner }: ClientSession, { reversePath, recipients }: Job): boolean =>
  owner.returnPaths !== null &&
  reversePath !== '' &&
  !recipients.some(({ notify }) => (notify & NOTIFY.stranger) !== 0);

function reversePathOf(session: ClientSession, { attempt, from }: Transaction): string {
  const { job, todo } = attempt;
  const { returnPaths } = session.owner;
  if (returnPaths === null || !hasToken(session, job)) return job.reversePath;
  const { seq, address } = job.recipients[todo[from] as number] as JobRecipient;
  return returnPaths.addressFor(job.queueId, seq, address, job.attributes?.tenant ?? '');
}

function mailCommand(session: ClientSession, transaction: Transaction): string {
  const { attempt, body, utf8 } = transaction;
  const { job, fields } = attempt;
  const { offered } = session;
  let text = `MAIL FROM:<${onTheWire(reversePathOf(session, transaction))}>`;
  if (offered.size) text += ` SIZE=${job.sizeBytes + job.trace.length + fields.length}`;
  text += body;
  // RFC 4954 §5: we tell a peer that we are authenticated with who submitted the message; <> when that is not known.
  if (session.authenticated) text += ` AUTH=${job.submitter ?? '<>'}`;
  if (utf8) text += ' SMTPUTF8';
  if (offered.dsn) {
    if (job.ret !== undefined) text += ` RET=${job.ret}`;
    if (job.envid !== undefined) text += ` ENVID=${job.envid}`;
  }
  return `${text}\r\n`;
}

/**
 * The address without a dot at the end of its domain: such a dot means nothing, RFC 5321 allows none there, and strict
 * hosts refuse the line.
 */
const onTheWire = (address: string): string => (address.endsWith('.') ? address.slice(0, -1) : address);

/** The next commands: as many RCPTs as the window allows (one without PIPELINING), and DATA behind the last. */
function nextCommands(session: ClientSession, transaction: Transaction): string {
  const { attempt, from, count } = transaction;
  const { pipelining, dsn } = session.offered;
  const until = Math.min(count, pipelining ? transaction.rcptReplied + WINDOW : transaction.rcptReplied + 1);
  let text = '';
  for (let i = transaction.rcptSent; i < until; i++) {
    const recipient = attempt.job.recipients[attempt.todo[from + i] as number] as JobRecipient;
    // Addresses that cannot be written were taken out before.
    const address = attempt.job.smtpUtf8
      ? addressFor(recipient.address, transaction.utf8)
      : recipient.address;
    text += `RCPT TO:<${onTheWire(address as string)}>`;
    if (dsn) text += dsnParameters(recipient, transaction.utf8);
    text += '\r\n';
  }
  transaction.rcptSent = Math.max(transaction.rcptSent, until);
  // BDAT is not sent ahead: its bytes would have to follow even if every recipient is refused.
  if (pipelining && transaction.rcptSent === count && !transaction.dataSent && !transaction.bdat) {
    transaction.dataSent = true;
    text += 'DATA\r\n';
  }
  return text;
}

/** The sixteen values of NOTIFY (RFC 3461 §4.1). */
const NOTIFY_TEXT: readonly string[] = Array.from({ length: 16 }, (_, bits) => {
  if (bits === 0) return '';
  if ((bits & NOTIFY.never) !== 0) return ' NOTIFY=NEVER';
  const names: string[] = [];
  if ((bits & NOTIFY.success) !== 0) names.push('SUCCESS');
  if ((bits & NOTIFY.failure) !== 0) names.push('FAILURE');
  if ((bits & NOTIFY.delay) !== 0) names.push('DELAY');
  return ` NOTIFY=${names.join(',')}`;
});

function dsnParameters({ notify, orcpt }: JobRecipient, utf8: boolean): string {
  const text = NOTIFY_TEXT[notify & 15] as string;
  if (orcpt === undefined) return text;
  // RFC 6533 §3: without SMTPUTF8 characters above 127 are written \x{…}.
  const ascii = utf8 || isAscii(orcpt) ? orcpt : orcpt.replace(/[^\0-\x7f]/gu, escapeCharacter);
  return `${text} ORCPT=${ascii}`;
}

function escapeCharacter(character: string): string {
  return `\\x{${(character.codePointAt(0) as number).toString(16).toUpperCase()}}`;
}

/** Number of replies to come. */
export function repliesAwaited(session: ClientSession, state: ClientState): number {
  switch (state.phase) {
    case 'idle':
      return 0;
    case 'envelope':
      return repliesOf(session, state.transaction);
    case 'content':
      return state.next === null ? 1 : 1 + repliesOf(session, state.next);
    default:
      return 1;
  }
}

/** Number of replies that are still to come to commands of the transaction. */
function repliesOf({ offered }: ClientSession, transaction: Transaction): number {
  const { awaits, rcptSent, rcptReplied, dataSent } = transaction;
  if (!offered.pipelining || awaits === 'data') return 1;
  const before = awaits === 'rset' ? 2 : awaits === 'mail' ? 1 : 0;
  return before + rcptSent - rcptReplied + (dataSent ? 1 : 0);
}

/** Takes a reply to a command of the envelope. @param reply null for a 250 or 354 that is known by its digits alone. */
export function envelopeReply(
  session: ClientSession,
  transaction: Transaction,
  code: number,
  reply: PeerReply | null,
): void {
  renewDeadline(session);
  if (transaction.awaits === 'rset') {
    resetReply(session, transaction, code, reply);
    return;
  }
  transaction.replies++;
  transaction.attempt.counted = true;
  switch (transaction.awaits) {
    case 'mail':
      mailReply(session, transaction, code, reply);
      break;
    case 'rcpt':
      rcptReply(session, transaction, code, reply);
      break;
    case 'data':
      dataReply(session, transaction, code, reply);
      break;
  }
}

/** Whether the peer lost commands: then a new connection, where each command waits for its reply, may work. */
function lostTrack(session: ClientSession, reply: PeerReply, at: string): boolean {
  if (!saysOutOfSequence(reply) || (session.transactions === 1 && !session.offered.pipelining)) return false;
  const detail = `${session.peer} lost track at ${at}: ${replyLine(reply)}`;
  session.fail({ reason: 'connection_lost', reply, detail, confused: true });
  return true;
}

/** Ends the session when the code is one that only DATA may get. */
function strange(session: ClientSession, code: number, reply: PeerReply | null, at: string): boolean {
  if (code < 300 || code >= 400) return false;
  session.outOfTurn(reply ?? { code, enhanced: '', text: '', peer: session.hop }, at);
  return true;
}

function resetReply(
  session: ClientSession,
  transaction: Transaction,
  code: number,
  reply: PeerReply | null,
): void {
  if (code >= 300) {
    const text = reply === null ? `${code}` : replyLine(reply);
    const detail = `${session.peer} replied to RSET: ${text}`;
    session.fail({ reason: 'connection_lost', reply, detail, confused: true });
    return;
  }
  transaction.awaits = 'mail';
  if (!session.offered.pipelining) write(session, transaction, mailCommand(session, transaction));
}

function mailReply(
  session: ClientSession,
  transaction: Transaction,
  code: number,
  reply: PeerReply | null,
): void {
  if (strange(session, code, reply, 'to MAIL')) return;
  if (reply !== null && code >= 400) {
    if (session.transactions > 1 && lostTrack(session, reply, 'MAIL')) return;
    transaction.refused = true;
    if (transaction.rcptSent > 0) transaction.mailRefusal = reply;
    else refuseAll(session, transaction, reply);
    if (transaction.rcptSent === 0) {
      endTransaction(session, transaction);
      return;
    }
  } else session.proven = true;
  transaction.awaits = 'rcpt';
  if (!session.offered.pipelining) write(session, transaction, nextCommands(session, transaction));
}

function rcptReply(
  session: ClientSession,
  transaction: Transaction,
  code: number,
  reply: PeerReply | null,
): void {
  if (strange(session, code, reply, 'to RCPT')) return;
  if (transaction.refused && code < 300) {
    const detail = `${session.peer} refused MAIL and took RCPT`;
    session.fail({ reason: 'connection_lost', reply, detail, confused: true });
    return;
  }
  if (reply !== null && !transaction.refused && code >= 400 && lostTrack(session, reply, 'RCPT')) return;
  const position = transaction.attempt.todo[transaction.from + transaction.rcptReplied++] as number;
  if (!transaction.refused) {
    if (reply === null || code < 400) transaction.accepted.push(position);
    else if (isForAnother(session, reply)) {
      transaction.tooMany ??= [];
      transaction.tooMany.push(position);
      transaction.tooManyReply = reply;
    } else if (session.offered.pipelining) {
      transaction.refusals ??= [];
      transaction.refusals.push({ position, reply });
    } else refuseRecipient(session, transaction, position, reply);
  }
  if (transaction.rcptReplied === transaction.rcptSent && transaction.rcptSent < transaction.count) {
    if (transaction.refused) endTransaction(session, transaction);
    else write(session, transaction, nextCommands(session, transaction));
  } else if (transaction.rcptReplied === transaction.count) recipientsKnown(session, transaction);
  else if (transaction.rcptSent - transaction.rcptReplied === REFILL && !transaction.refused) {
    const text = nextCommands(session, transaction);
    if (text !== '') write(session, transaction, text);
  }
}

/** MAIL was refused. */
function refuseAll(session: ClientSession, transaction: Transaction, reply: PeerReply): void {
  const { attempt, from, count } = transaction;
  const outcome = session.judge(reply, 'MAIL');
  const move = outcome.kind === 'deferred' ? outcome.verdict?.move : undefined;
  if (move === 'reconnect_now' || move === 'split_now')
    refuse(session, transaction, attempt.todo.slice(from, from + count), outcome);
  else attempt.applyRest(outcome);
  // A host that takes nothing from us must not keep mail from hosts that do.
  if (outcome.kind === 'deferred' && !session.proven && session.owner.hasOthers(session))
    session.retiring = true;
}

function refuseRecipient(
  session: ClientSession,
  { attempt }: Transaction,
  position: number,
  reply: PeerReply,
): void {
  attempt.applyByReply(position, reply, (one) => session.judge(one, 'RCPT'));
}

/** The replies fit the commands: gives refused recipients their outcomes. */
export function applyRefusals(session: ClientSession, transaction: Transaction): void {
  const { refusals, mailRefusal } = transaction;
  if (mailRefusal !== null) {
    transaction.mailRefusal = null;
    refuseAll(session, transaction, mailRefusal);
  }
  if (refusals === null) return;
  transaction.refusals = null;
  for (const { position, reply } of refusals) refuseRecipient(session, transaction, position, reply);
}

/**
 * Renews the deadline after a reply: each command has its time, and only silence is a timeout. Replies of one turn
 * share a renewal.
 */
function renewDeadline(session: ClientSession): void {
  const { owner } = session;
  if (session.renewedTurn === owner.turn) return;
  session.renewedTurn = owner.turn;
  session.port.deadline(session.id, owner.rules.command_timeout_ms);
}

/** All RCPTs have their reply: goes on to the content, or ends the transaction without. */
function recipientsKnown(session: ClientSession, transaction: Transaction): void {
  const { accepted, tooMany, tooManyReply } = transaction;
  if (tooMany !== null && tooManyReply !== null) refuseMany(session, transaction, tooMany, tooManyReply);
  transaction.awaits = 'data';
  if (transaction.dataSent) return;
  if (accepted.length === 0) {
    if (!transaction.refused) session.leaveOpen();
    endTransaction(session, transaction);
  } else if (transaction.bdat) sendBody(session, transaction);
  else {
    transaction.dataSent = true;
    write(session, transaction, 'DATA\r\n');
  }
}

function dataReply(
  session: ClientSession,
  transaction: Transaction,
  code: number,
  reply: PeerReply | null,
): void {
  const { accepted } = transaction;
  if (code >= 300) applyRefusals(session, transaction);
  if (code >= 300 && code < 400) {
    if (accepted.length > 0) sendBody(session, transaction);
    else sendEmptyBody(session, transaction);
    return;
  }
  if (reply === null || code < 300) {
    session.outOfTurn(reply ?? { code, enhanced: '', text: '', peer: session.hop }, 'to DATA');
    return;
  }
  if (accepted.length > 0) {
    if (lostTrack(session, reply, 'DATA')) return;
    refuse(session, transaction, accepted, session.judge(reply, 'DATA'));
  }
  if (!transaction.refused) session.leaveOpen();
  endTransaction(session, transaction);
}

/** After the last reply of a transaction: goes on with the rest of the attempt, then with other work. */
export function endTransaction(session: ClientSession, transaction: Transaction): void {
  applyRefusals(session, transaction);
  const { attempt } = transaction;
  if (!attempt.over) {
    const next = session.full ? null : prepare(session, attempt, false);
    if (next !== null) {
      enter(session, next);
      sendEnvelope(session, next);
      return;
    }
  }
  // From here on the attempt belongs to somebody else.
  session.state = IDLE;
  if (attempt.over) session.owner.finished(attempt, session);
  else session.owner.returned(attempt);
  begin(session);
}
