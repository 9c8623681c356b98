/**
 * The commands of a session while they have to wait: for the policy's answer, the end of a pause or of the greet delay,
 * for a login and the delay that a failed one costs. They are kept in order and served then; the reactor reads no more of them meanwhile.
 */
import type { Answer } from '../policy/session-policy.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { failureOf } from './failures.ts';
import type { Session } from './session.ts';

/** Of a line that waits, its text apart. */
const LINE_BYTES = 100;

interface Held {
  readonly lines: { text: string; flags: number }[];
  /** null: no deadline, somebody will resume. */
  readonly onDeadline: (() => void) | null;
  /** The banner is not out yet: whoever speaks is early. */
  readonly greeting: boolean;
  /** Of the lines, on the client's account. */
  bytes: number;
}

export class Holding {
  readonly #session: Session;
  #held: Held | null = null;

  constructor(session: Session) {
    this.#session = session;
  }

  get active(): boolean {
    return this.#held !== null;
  }

  /**
   * Serves no more commands until `resume`; those that come meanwhile are kept. The deadline is for the caller's delay:
   * without one the caller answers for the end of it.
   */
  begin(ms: number, onDeadline: (() => void) | null, greeting = false): void {
    const { context, connection } = this.#session;
    this.#held = { lines: [], onDeadline, greeting, bytes: 0 };
    // Before the banner commands are read on: to see them now is what its delay is for.
    if (!greeting) this.#session.hold();
    context.port.deadline(connection, ms);
  }

  /** Ends it without serving anything. */
  end(): void {
    this.#giveBack();
    this.#held = null;
  }

  /** A line that came meanwhile. At most those of one turn do. */
  keep(text: string, flags: number): void {
    const held = this.#held;
    if (held === null) return;
    if (held.greeting && held.lines.length === 0) {
      if (this.#isTooEarly(held)) return;
      this.#session.hold();
    }
    const bytes = LINE_BYTES + text.length;
    if (!this.#session.policy.share.takeEnvelope(bytes)) {
      this.#session.reply(REPLY.tooMuchAhead.with(this.#session.context.settings.hostname));
      return;
    }
    held.bytes += bytes;
    held.lines.push({ text, flags });
  }

  /** The deadline passed. @param partBytes read of a line whose end has not come: the beginning of one is speech too. */
  expired(partBytes: number): void {
    const held = this.#held;
    if (held === null || (held.greeting && partBytes > 0 && this.#isTooEarly(held))) return;
    held.onDeadline?.();
  }

  /** Goes on: does what was waited for, then serves the commands that came meanwhile. */
  resume(act: () => void): void {
    const session = this.#session;
    const held = this.#held;
    if (held === null || session.state.phase === 'closed') return;
    this.#giveBack();
    this.#held = null;
    act();
    // One that makes the session wait again keeps those behind it.
    for (const { text, flags } of held.lines) session.line(text, flags);
    if (this.active || !session.readsLines()) return;
    session.expectLines();
    session.commandDeadline();
  }

  #giveBack(): void {
    const held = this.#held;
    if (held !== null && held.bytes > 0) this.#session.policy.share.giveEnvelope(held.bytes);
  }

  /** Does it, unless the policy refuses; waits for the policy where it has to ask. */
  unless(answer: Answer, act: () => void): void {
    if (answer === null) act();
    else if (!(answer instanceof Promise)) this.#session.refuse(answer);
    else {
      this.begin(0, null);
      void answer.then(
        (verdict) => this.#later(() => this.resume(() => this.unless(verdict, act))),
        (error) =>
          this.#later(() => {
            throw error;
          }),
      );
    }
  }

  /** Between two turns nobody else sends what came of it. */
  #later(work: () => void): void {
    const { readClock, port, submissions, logins, barrier } = this.#session.context;
    readClock();
    barrier.guard(this.#session, 'policy', work);
    submissions.flush();
    logins.flush();
    port.flush();
  }

  /** A refusal for good went out: the policy may count it, and slow the client down. @param errors of the session. */
  erred(reply: Reply, errors: number): void {
    const session = this.#session;
    const kind = failureOf(reply);
    if (kind !== null) session.policy.failure(kind);
    const { pauseMs, refusal } = session.policy.erred(errors);
    if (refusal !== null) session.refuse(refusal);
    else if (pauseMs > 0 && !this.active && session.readsLines())
      this.begin(pauseMs, () => this.resume(() => {}));
  }

  /** The client spoke before the banner: true when it is turned away for that. */
  #isTooEarly(held: Held): boolean {
    const refusal = held.lines.length === 0 ? this.#session.policy.spokeEarly() : null;
    if (refusal !== null) this.#session.refuse(refusal);
    return refusal !== null;
  }
}
