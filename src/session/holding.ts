/**
 * The commands of a session while they have to wait: for the policy's answer, the end of a pause or of the greet delay,
 * a login, or the delay that a failed one costs. They are kept in order and served afterwards; the reactor reads no more
 * of them meanwhile.
 */
import type { Answer } from '../policy/session-policy.ts';
import { REPLY, type Reply } from '../protocol/reply.ts';
import { failureOf } from './failures.ts';
import type { Session } from './session.ts';

const LINE_OVERHEAD_BYTES = 100;

interface Held {
  readonly lines: { text: string; flags: number }[];
  /** null: the wait has no deadline, and whoever began it calls `resume`. */
  readonly onDeadline: (() => void) | null;
  /** The banner is not sent yet: a client that speaks now speaks too early. */
  readonly greeting: boolean;
  /** What the lines take of the client's account. */
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
   * Serves no more commands until `resume`; those that come meanwhile are kept. A caller that gives no `onDeadline` sees
   * to it by itself that the wait ends.
   * @param ms until `onDeadline`; 0: none.
   * @param greeting the banner is not sent yet.
   */
  begin(ms: number, onDeadline: (() => void) | null, greeting = false): void {
    const { context, connection } = this.#session;
    this.#held = { lines: [], onDeadline, greeting, bytes: 0 };
    // Before the banner we go on reading: the greet delay is there to see who speaks too early.
    if (!greeting) this.#session.lines.hold();
    context.port.deadline(connection, ms);
  }

  /** Ends the wait; the lines that were kept are dropped. */
  end(): void {
    this.#giveBack();
    this.#held = null;
  }

  /** Keeps a line that came meanwhile. Once reading is held, only lines of the same turn still come. */
  keep(text: string, flags: number): void {
    const held = this.#held;
    if (held === null) return;
    if (held.greeting && held.lines.length === 0) {
      if (this.#isTooEarly(held)) return;
      this.#session.lines.hold();
    }
    const bytes = LINE_OVERHEAD_BYTES + text.length;
    if (!this.#session.policy.share.takeEnvelope(bytes)) {
      this.#session.reply(REPLY.too_much_ahead.with(this.#session.context.settings.hostname));
      return;
    }
    held.bytes += bytes;
    held.lines.push({ text, flags });
  }

  /** The deadline passed. @param partBytes read of a line whose end has not come: that too is speaking before the banner. */
  expired(partBytes: number): void {
    const held = this.#held;
    if (held === null || (held.greeting && partBytes > 0 && this.#isTooEarly(held))) return;
    held.onDeadline?.();
  }

  /** Ends the wait: does `act`, then serves the lines that were kept. */
  resume(act: () => void): void {
    const session = this.#session;
    const held = this.#held;
    if (held === null || session.state.phase === 'closed') return;
    this.#giveBack();
    this.#held = null;
    act();
    // When one of them makes the session wait again, `take` keeps those behind it.
    for (const { text, flags } of held.lines) session.lines.take(text, flags);
    if (this.active || !session.readsLines()) return;
    session.lines.expect();
    session.commandDeadline();
  }

  #giveBack(): void {
    const held = this.#held;
    if (held !== null && held.bytes > 0) this.#session.policy.share.giveEnvelope(held.bytes);
  }

  /** Does `act`, unless the policy refuses; waits while the policy has to look something up. */
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

  /** Does work between two turns, and posts and sends what came of it: no turn would do so. */
  #later(work: () => void): void {
    const { readClock, port, submissions, logins, barrier } = this.#session.context;
    readClock();
    barrier.guard(this.#session, 'policy', work);
    submissions.flush();
    logins.flush();
    port.flush();
  }

  /** A 5xx was sent: the policy may count it, and slow the client down. @param errors how many this session had. */
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
