/**
 * The command lines of a session: whether they are read, what of them is refused unread, and the way of a command
 * through the steps of its verb. Counts the commands that bring no mail forward; knows nothing of content.
 */
import { LINE_FLAG } from '../native.ts';
import { isOtherProtocol, verbCode } from '../protocol/command.ts';
import { REPLY, Reply } from '../protocol/reply.ts';
import { exchangeLine } from './auth.ts';
import type { Session } from './session.ts';
import { lacksTls } from './starttls.ts';
import type { Verb } from './verb.ts';

const BAD_LINE = LINE_FLAG.tooLong | LINE_FLAG.bareLf | LINE_FLAG.bareCr | LINE_FLAG.nul;

/** After a line that begins with one of these verbs the reactor reads nothing until it is told what follows. */
const DATA = verbCode('DATA');
const BDAT = verbCode('BDAT');
const AUTH = verbCode('AUTH');
const STARTTLS = verbCode('STARTTLS');

export class CommandLines {
  readonly #session: Session;
  /** Commands since the last one that brought mail forward. */
  #idleCommands = 0;
  /** The reactor reads lines for us; false after a line at which it stopped, until it is told what follows. */
  #reading = true;
  /** Flags of the pieces of a line that bare LFs have split. Only CRLF ends a line; then all of this one is refused. */
  #broken = 0;
  /** AUTH was said: a line that is no command may be a password. */
  #authSaid = false;

  constructor(session: Session) {
    this.#session = session;
  }

  /** A command line came, here without its CRLF; flags of LINE_FLAG. */
  take(text: string, flags: number): void {
    const session = this.#session;
    const { state, context, holding } = session;
    // What came in the clear before a handshake counts for nothing after it.
    if (state.phase === 'closed' || state.phase === 'securing') return;
    if (holding.active) {
      holding.keep(text, flags);
      return;
    }
    if (++this.#idleCommands > this.#idleLimit()) {
      session.reply(REPLY.too_many_idle_commands.with(context.settings.hostname));
      return;
    }
    if (state.phase === 'new' && isOtherProtocol(text)) {
      session.reply(REPLY.other_protocol.with(context.settings.hostname));
      return;
    }
    session.lineBytes = (flags & LINE_FLAG.eightBit) === 0 ? text.length : text.length * 2;
    let code = verbCode(text);
    if (code === DATA || code === BDAT || code === AUTH || code === STARTTLS) this.#reading = false;
    if ((flags & LINE_FLAG.bareLf) !== 0 && (code !== BDAT || this.#broken !== 0)) {
      this.#broken |= flags;
      this.expect();
      return;
    }
    if (this.#broken !== 0) {
      flags |= this.#broken;
      this.#broken = 0;
      code = 0;
    }
    if (state.phase === 'exchange') {
      context.transcript?.hidden(session.id);
      exchangeLine(session, state.exchange, text, flags);
    } else this.#commandLine(text, code, flags);
    if (holding.active || !session.readsLines()) return;
    this.expect();
    session.renewDeadline();
  }

  /** Reads nothing until `expect`. */
  hold(): void {
    this.#reading = false;
    this.#session.context.port.hold(this.#session.connection);
  }

  /** Reads on, where reading had stopped. */
  expect(): void {
    if (!this.#reading) this.readOn();
  }

  /** Reads lines again after content. */
  readOn(): void {
    this.#reading = true;
    this.#session.context.port.expectLines(this.#session.connection);
  }

  /** A handshake is done: the reactor reads lines again by itself, and what came before is forgotten. */
  resumed(): void {
    this.#broken = 0;
    this.#reading = true;
  }

  /** Mail was brought forward. */
  countIdleAnew(): void {
    this.#idleCommands = 0;
  }

  /** Higher in a transaction: a list with many recipients twice, or more than we take, is heard out, so none is lost. */
  #idleLimit(): number {
    const { state, context } = this.#session;
    const { maxIdleCommands, maxRecipients } = context.settings;
    return state.phase === 'envelope' ? maxIdleCommands + maxRecipients : maxIdleCommands;
  }

  #commandLine(text: string, code: number, flags: number): void {
    const { context, id } = this.#session;
    if (code === AUTH) this.#authSaid = true;
    else if (isTooLong(text, flags, context.settings.maxLineBytes)) flags |= LINE_FLAG.tooLong;
    const { transcript } = context;
    if (transcript !== null) {
      const known = (flags & BAD_LINE) === 0 && context.verbs.find(text, code) !== undefined;
      if (known) transcript.command(id, text);
      else transcript.hidden(id, this.#authSaid ? '' : text);
    }
    if ((flags & BAD_LINE) === 0) this.#command(text, code);
    else
      this.#unreadable(
        (flags & LINE_FLAG.tooLong) !== 0 ? REPLY.command_too_long : REPLY.command_bad_bytes,
        code,
      );
  }

  #command(text: string, code: number): void {
    const session = this.#session;
    const verb = session.context.verbs.find(text, code);
    if (verb === undefined) {
      this.#unreadable(REPLY.unknown_command, code);
      return;
    }
    if (!session.inTransaction() && verb.name !== 'QUIT' && session.context.admission.draining()) {
      session.shutDown();
      return;
    }
    if (verb.offers) session.offerRefused = true;
    const answer = session.policy.command();
    if (answer === null) this.#execute(verb, text);
    else session.holding.unless(answer, () => this.#execute(verb, text));
  }

  #execute(verb: Verb<unknown>, text: string): void {
    const session = this.#session;
    const command = lacksTls(session, verb) ? REPLY.starttls_first : verb.check(session, text);
    if (command instanceof Reply) {
      session.reply(command);
      return;
    }
    const refusal = verb.admit?.(session, command) ?? null;
    if (refusal !== null) {
      // The client offered mail; that we have no room for it now is not its fault.
      if (refusal.code < 500 && refusal !== REPLY.too_many_recipients) session.movedOn();
      session.reply(refusal);
      return;
    }
    const answer = verb.screen?.(session, command) ?? null;
    if (answer === null) verb.apply(session, command);
    else session.holding.unless(answer, () => verb.apply(session, command));
  }

  /** Refuses a line that is no command. After BDAT it closes: octets follow, which would be taken for commands. */
  #unreadable(reply: Reply, code: number): void {
    const session = this.#session;
    if (code === AUTH && reply === REPLY.command_too_long) session.reply(REPLY.auth_line_too_long);
    else session.reply(code === BDAT ? REPLY.bdat_syntax : reply);
    if (code === BDAT) session.close();
  }
}

/** Whether the line is longer than a command may be: the reactor's limit is higher, for exchanges of AUTH. */
function isTooLong(text: string, flags: number, maxBytes: number): boolean {
  const bytes = (flags & LINE_FLAG.eightBit) === 0 ? text.length : Buffer.byteLength(text);
  return bytes > maxBytes;
}
