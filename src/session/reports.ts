/**
 * Mail to the domain of return paths: taken from anybody whose recipient is a token of ours, or the address for complaints. It is
 * read elsewhere (relay/reports.ts) while the session waits, and its verdict is the reply: nothing of it is stored or relayed. A
 * transaction has one such recipient and no other.
 */
import type { ContentHandle } from '../mail/message.ts';
import { type ReturnPathKeys, ReturnPaths } from '../mail/return-path.ts';
import { type Path, unquotedLocal } from '../protocol/address.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import type { SessionContext } from './context.ts';
import { type FromSession, VERDICT } from './messages.ts';
import type { Session } from './session.ts';
import { READY, type ReportEnvelope } from './state.ts';
import type { SessionView } from './verb.ts';

/** Reports that are read at a time, for each session thread: each holds its first octets in memory. */
const MAX_READING = 32;
/** Of a report no more is read (feedback/report-parts.ts). */
const MAX_HEAD_BYTES = 262_144;

/** Whom a recipient is there, or why it is not; null: it is at another domain. */
export function reportTo(
  { context }: SessionView,
  { address, domain }: Path,
): (ReportEnvelope & { refusal?: Reply }) | null {
  const { paths } = context.reports;
  if (paths === null || domain !== paths.domain) return null;
  const local = unquotedLocal(address.slice(0, address.lastIndexOf('@')));
  if (paths.takesComplaints(local)) return { local: null };
  if (paths.read(local) !== null) return { local };
  return { local: null, refusal: REPLY.no_such_return_path };
}

/** Whether the transaction has another recipient than this report's. */
export const mixes = ({ state }: SessionView): boolean =>
  state.phase === 'envelope' && state.transaction.envelope.recipients.length > 0;

export const isReport = ({ state }: SessionView): boolean =>
  state.phase === 'envelope' && state.transaction.report !== undefined;

export class Reports {
  /** null: there is no such domain. */
  paths: ReturnPaths | null = null;
  readonly #post: (message: FromSession) => void;
  #reading = 0;

  constructor(post: (message: FromSession) => void, keys: ReturnPathKeys | null = null) {
    this.#post = post;
    this.use(keys);
  }

  use(keys: ReturnPathKeys | null): void {
    this.paths = keys === null ? null : new ReturnPaths(keys);
  }

  /** Reads content that is complete; the session waits. */
  read(session: Session, { local }: ReportEnvelope, content: ContentHandle): void {
    const { arena, submissions, port, settings } = session.context;
    const head = this.#reading < MAX_READING ? headOf(arena, content) : null;
    session.completion.putDown();
    if (head === null) {
      session.reply(REPLY.persist_failed);
      session.proceed(READY);
      return;
    }
    this.#reading++;
    const ticket = submissions.expect(session);
    this.#post({ type: 'report', ticket, local, head });
    session.state = { phase: 'reported', ticket };
    port.deadline(session.connection, settings.persistWaitMs);
  }

  /** It was read, or could not be. */
  verdict(session: Session, verdict: number): void {
    this.#reading--;
    session.state = READY;
    session.reply(verdict === VERDICT.committed ? REPLY.report_read : REPLY.persist_failed);
    session.proceed(READY);
  }

  /** It takes too long; the client comes again. */
  expired(session: Session, ticket: number): void {
    this.forget(session, ticket);
    session.state = READY;
    session.reply(REPLY.persist_timeout);
    session.proceed(READY);
  }

  forget({ context }: Pick<Session, 'context'>, ticket: number): void {
    this.#reading--;
    context.submissions.forget(ticket);
  }
}

/** null: it cannot be read back. */
function headOf(arena: SessionContext['arena'], content: ContentHandle): Buffer | null {
  try {
    return Buffer.from(arena.head(content, MAX_HEAD_BYTES));
  } catch {
    return null;
  }
}
