/**
 * A verb of the dialog. `check` is pure and judges order and syntax; `admit` asks what changes from moment to moment
 * (relay policy, pressure); `screen` asks the connection policy, which may have to look something up; `apply` alone
 * moves the state. A new verb is one more object in the table of verbs.ts.
 */
import type { Answer } from '../policy/session-policy.ts';
import { verbCode } from '../protocol/command.ts';
import type { Reply } from '../protocol/reply.ts';
import type { Session } from './session.ts';

/** What check and admit may look at. */
export type SessionView = Readonly<
  Pick<
    Session,
    | 'state'
    | 'client'
    | 'context'
    | 'policy'
    | 'mayRelay'
    | 'transactions'
    | 'offerRefused'
    | 'listener'
    | 'secure'
    | 'channelBindings'
    | 'user'
  >
>;

export interface Verb<Command> {
  readonly name: string;
  /** Also before TLS where the listener requires it (RFC 3207 §4). */
  readonly beforeTls?: true;
  /** Offers mail, as MAIL does: unless it is applied, commands sent ahead behind it are refused as a mere echo. */
  readonly offers?: true;
  /** The parsed command, to go on with; or the reply that ends it here: a refusal, or all the verb has to say. */
  check(session: SessionView, line: string): Command | Reply;
  /** null, or the refusal. */
  admit?(session: SessionView, command: Command): Reply | null;
  /** null or the refusal; a promise of these when something has to be looked up: the session holds its commands then. */
  screen?(session: SessionView, command: Command): Answer;
  apply(session: Session, command: Command): void;
}

/** Verbs by name; those of four letters are found by one number, without making a string. */
export class VerbTable {
  readonly #byCode = new Map<number, Verb<unknown>>();
  readonly #byName = new Map<string, Verb<unknown>>();

  constructor(verbs: readonly Verb<unknown>[]) {
    for (const verb of verbs) {
      if (verb.name.length === 4) this.#byCode.set(verbCode(verb.name), verb);
      else this.#byName.set(verb.name, verb);
    }
  }

  /** The verb a line begins with; undefined when it is none of ours. */
  find(line: string, code: number): Verb<unknown> | undefined {
    if (line.length === 4 || line.charCodeAt(4) === 0x20) return this.#byCode.get(code);
    const space = line.indexOf(' ');
    return this.#byName.get((space < 0 ? line : line.slice(0, space)).toUpperCase());
  }
}
