/**
 * The content and its final reply. The next envelope may follow the content in the same send (RFC 2920 §3.1), so that a
 * busy connection needs one round trip per message.
 */
import type { PeerReply } from '../../mail/outcome.ts';
import type { Attempt } from '../attempt.ts';
import { delivered } from '../outcome.ts';
import { endTransaction, enter, prepare, sendEnvelope } from './envelope.ts';
import { refuse } from './moves.ts';
import type { ClientSession } from './session.ts';
import type { ClientState, Transaction } from './state.ts';

type ContentState = Extract<ClientState, { phase: 'content' }>;

/** Sends the attempt's fields, trace and content, as DATA with dots stuffed or as one BDAT chunk. */
export function sendBody(session: ClientSession, transaction: Transaction): void {
  const { job, fields } = transaction.attempt;
  if (!session.owner.leaseHolds(job)) {
    const detail = 'its lease ended before it was sent: another node may have it by now';
    session.fail({ reason: 'lease_lapsed', reply: null, detail });
    return;
  }
  const trace = Buffer.from(fields + job.trace, 'utf8');
  if (transaction.bdat) session.port.sendLatin1(session.id, `BDAT ${trace.length + job.sizeBytes} LAST\r\n`);
  session.port.sendContent(session.id, trace, job.content, !transaction.bdat);
  // Progress renews this deadline; `sent` sets the one for the final reply.
  session.port.deadline(session.id, session.owner.rules.data_timeout_ms);
  const state: ContentState = { phase: 'content', transaction, empty: false, sent: false, next: null };
  session.state = state;
  state.next = lookAhead(session, transaction);
  session.inHand = null;
  if (state.next !== null) sendEnvelope(session, state.next);
}

/** The peer accepted DATA although it accepted no recipient: sends an end of data without content (RFC 2920 §3.1). */
export function sendEmptyBody(session: ClientSession, transaction: Transaction): void {
  session.port.sendLatin1(session.id, '.\r\n');
  session.port.deadline(session.id, session.owner.rules.final_reply_timeout_ms);
  session.state = { phase: 'content', transaction, empty: true, sent: true, next: null };
}

/**
 * The transaction to send behind the content. There is none behind the first content of a connection: some peers write
 * extra lines before their final reply, which then could not be told from the replies behind it, and mail would be sent
 * twice. After the first final reply such a peer is known.
 */
function lookAhead(session: ClientSession, { attempt, bdat }: Transaction): Transaction | null {
  if (!session.offered.pipelining || bdat || session.full || !session.delivers || session.wordy) return null;
  const more: Attempt | null = attempt.hasMore ? attempt : session.owner.lookAhead();
  if (more === null) return null;
  if (more !== attempt) session.inHand = more;
  more.holder = session;
  const next = prepare(session, more, true);
  if (next === null && more !== attempt) {
    session.inHand = null;
    session.owner.finished(more, session);
  }
  return next;
}

export function contentReply(session: ClientSession, state: ContentState, reply: PeerReply): void {
  const { transaction, next } = state;
  const { attempt, accepted } = transaction;
  transaction.replies++;
  const positive = reply.code < 300;
  if (reply.code >= 300 && reply.code < 400) {
    session.outOfTurn(reply, 'to the end of data');
    return;
  }
  if (!state.sent && positive) {
    // The peer cannot have read what it says it took.
    session.outOfTurn(reply, 'before the end of data');
    return;
  }
  if (!state.empty) {
    if (positive) {
      attempt.decide(accepted, delivered(reply, session.offered.dsn));
      attempt.returns = 0;
      session.took();
    } else refuse(session, transaction, accepted, session.judge(reply, 'content'));
  }
  if (!state.sent) {
    // Refused half way: the peer would read the rest of the content as commands, so the connection cannot be used
    // further.
    const detail = 'refused before the end of data';
    session.fail({ reason: 'peer_4xx', reply, detail, ofConnection: true });
    return;
  }
  if (next === null) {
    endTransaction(session, transaction);
    return;
  }
  enter(session, next);
  if (attempt === next.attempt) return;
  if (attempt.over) session.owner.finished(attempt, session);
  else session.owner.returned(attempt);
}
