/**
 * From the end of content to the message's verdict: what is in hand meanwhile, and who owns it. However the dialog ends,
 * the content's reference and the place in flight are given back, or belong to the message.
 */
import type { Attributes } from '../mail/attributes.ts';
import type { ContentHandle } from '../mail/message.ts';
import { CONTENT_STATE, NO_CONTENT } from '../native.ts';
import { REPLY, Reply } from '../protocol/reply.ts';
import { addTold, type Told } from '../protocol/xclient.ts';
import { takeAttributes } from './attributes.ts';
import { contentRefusal } from './content-refusal.ts';
import { messageOf } from './message-of.ts';
import { VERDICT } from './messages.ts';
import { admitMessage, giveQuotaBack } from './rights.ts';
import type { Session } from './session.ts';
import { READY, type SessionState, type Transaction } from './state.ts';

/** How soon to look again when a commit is done but its verdict still on the way. */
const VERDICT_IN_FLIGHT_MS = 50;

type Waiting = Extract<SessionState, { phase: 'waiting' }>;

export class Completion {
  readonly #session: Session;
  /** Content whose reference is ours: no message and no state owns it yet. */
  #inHand: ContentHandle = NO_CONTENT;
  /** Recipients of the message that is counted as in flight but not submitted yet; 0: there is none. */
  #counted = 0;
  #forwarded: Told | null = null;

  constructor(session: Session) {
    this.#session = session;
  }

  /** XFORWARD: whom the next message is from, for the records. */
  forward(told: Told): void {
    this.#forwarded = addTold(this.#forwarded, told);
  }

  /** The transaction is over: what XFORWARD said was for it alone. */
  forget(): void {
    this.#forwarded = null;
  }

  /** Content arrived, and with it one reference, unless it is NO_CONTENT. */
  take(content: ContentHandle): void {
    this.#inHand = content;
  }

  /** Releases what is in hand. */
  putDown(): void {
    const content = this.#inHand;
    this.#inHand = NO_CONTENT;
    if (content === NO_CONTENT) return;
    const { contentAccount, arena } = this.#session.context;
    contentAccount.giveBack(content);
    arena.release(content);
  }

  /** The content in hand is that of this transaction: it becomes a message, or is refused. */
  complete(transaction: Transaction, flags: number, detail: number): void {
    const session = this.#session;
    const { settings, port, submissions, arena, contentAccount } = session.context;
    const content = this.#inHand;
    const recipients = transaction.envelope.recipients.length;
    session.movedOn();
    const refusal =
      contentRefusal(settings, transaction.envelope.body, flags, detail) ??
      (content === NO_CONTENT ? REPLY.content_memory_full : null);
    if (refusal !== null) {
      this.#refuse(refusal);
      return;
    }
    if (transaction.report !== undefined) {
      session.context.reports.read(session, transaction.report, content);
      return;
    }
    const attributes = this.#attributes(transaction);
    if (attributes instanceof Reply) {
      this.#refuse(attributes);
      return;
    }
    const full = admitMessage(session, recipients);
    if (full !== null) {
      this.#refuse(full);
      return;
    }
    this.#counted = recipients;
    const message = messageOf(session, transaction, content, attributes, this.#forwarded);
    const { share } = session.policy;
    contentAccount.withEnvelope(content, share.account, share.passEnvelope());
    this.#forwarded = null;
    if (!settings.durableFirst) {
      submissions.add(message);
      this.#handOver();
      session.reply(REPLY.in_memory.with(message.queueId));
      session.proceed(READY);
      return;
    }
    const ticket = submissions.addAwaited(message, session);
    this.#handOver();
    // A second reference, our own: without it the handle could stand for another message by the time the wait runs
    // out, and the withdrawal would hit that one.
    arena.retain(content);
    session.state = { phase: 'waiting', ticket, queueId: message.queueId, content, recipients };
    port.deadline(session.connection, settings.persistWaitMs);
  }

  #refuse(reply: Reply): void {
    this.putDown();
    this.#session.reply(reply);
    this.#session.proceed(READY);
  }

  /** What the message in hand has of attributes, or why it is refused. */
  #attributes({ envelope }: Transaction): Attributes | undefined | Reply {
    const { context, client, user, listener } = this.#session;
    return takeAttributes(context.settings.attributes, context.arena, {
      content: this.#inHand,
      user: user?.name,
      address: client.address,
      listener: listener.name,
      reversePath: envelope.reversePath,
      nowMs: context.clock.nowMs,
    });
  }

  /** Content and place in flight now belong to the message, which goes to the main thread. */
  #handOver(): void {
    this.#inHand = NO_CONTENT;
    this.#counted = 0;
  }

  /** The main thread says what became of the message. */
  verdict({ content, queueId, recipients }: Waiting, verdict: number): void {
    const session = this.#session;
    session.state = READY;
    session.context.arena.release(content);
    if (verdict === VERDICT.committed) session.reply(REPLY.queued.with(queueId));
    else {
      giveQuotaBack(session, recipients);
      session.reply(verdict === VERDICT.full ? REPLY.queue_full : REPLY.persist_failed);
    }
    session.proceed(READY);
  }

  /**
   * The wait for the commit ran out. Either the message is withdrawn before the writer took it, or it is marked
   * abandoned so that the main thread withdraws its rows; when neither is possible the commit is done and its verdict on
   * the way, and saying 451 would be a lie.
   */
  withdraw({ ticket, content, recipients }: Waiting): void {
    const session = this.#session;
    const { arena, submissions, port } = session.context;
    const { waiting, withdrawn, committing, abandoned } = CONTENT_STATE;
    if (!arena.moveState(content, waiting, withdrawn) && !arena.moveState(content, committing, abandoned)) {
      port.deadline(session.connection, VERDICT_IN_FLIGHT_MS);
      return;
    }
    session.state = READY;
    submissions.forget(ticket);
    arena.release(content);
    giveQuotaBack(session, recipients);
    session.reply(REPLY.persist_timeout);
    session.proceed(READY);
  }

  /** The dialog ended in this state: gives back what is in hand. A message that awaits its verdict stays with the relay. */
  letGo(state: SessionState): void {
    const session = this.#session;
    const { submissions, arena, admission } = session.context;
    this.putDown();
    if (this.#counted > 0) {
      const recipients = this.#counted;
      this.#counted = 0;
      admission.withdraw();
      giveQuotaBack(session, recipients);
    }
    if (state.phase !== 'waiting') return;
    submissions.forget(state.ticket);
    arena.release(state.content);
  }
}
