/**
 * The server side of each SASL mechanism as a small state machine: responses in, the next step out. Knows nothing of
 * sessions, replies, Base64 or users: a step of kind `ask` says what it wants to know, and the session finds it out.
 */
import type { AuthResult, Credentials, User } from '../auth/auth.ts';
import type { MECHANISMS } from '../config/auth-schema.ts';
import { cramChallenge, parseCramResponse } from '../protocol/sasl/cram-md5.ts';
import { LOGIN_PROMPTS, parseLoginField, parsePlain } from '../protocol/sasl/plain.ts';
import {
  authMessage,
  type ChannelBinding,
  type ClientFirst,
  isBoundTo,
  parseClientFinal,
  parseClientFirst,
  proveClient,
  serverFirst,
} from '../protocol/sasl/scram.ts';

export type Step =
  /** Say this and wait for the response. */
  | { kind: 'challenge'; text: string }
  /** Have this login checked, then call `answered`. */
  | { kind: 'ask'; credentials: Credentials }
  | { kind: 'accepted'; user: User }
  | { kind: 'rejected' }
  /** The response is not in this mechanism's form. */
  | { kind: 'malformed' }
  | { kind: 'unavailable' };

export interface Exchange {
  readonly mechanism: string;
  /** @param initial the initial response of AUTH; null when there was none. */
  start(initial: Buffer | null): Step;
  respond(response: Buffer): Step;
  answered(result: AuthResult): Step;
}

export interface ExchangePorts {
  /** Unpredictable, printable ASCII without commas. */
  nonce(): string;
  nowMs: number;
  hostname: string;
  /** What the connection can be bound to. */
  channelBindings: readonly ChannelBinding[];
}

const MALFORMED: Step = { kind: 'malformed' };
const REJECTED: Step = { kind: 'rejected' };

interface Implemented {
  /** Its name in the configuration, where a -PLUS goes by the name without it. */
  readonly of: Mechanism;
  /** Needs channel binding. */
  readonly plus?: true;
  /** The mechanism speaks first, so that an initial response has no place (RFC 4954 §4). */
  readonly serverFirst?: true;
  create(ports: ExchangePorts): Exchange;
}

/** The mechanisms; of two forms of one the better comes first. What EHLO offers and what AUTH takes is looked up here. */
const IMPLEMENTED = {
  PLAIN: { of: 'PLAIN', create: () => new PlainExchange() },
  LOGIN: { of: 'LOGIN', create: () => new LoginExchange() },
  'CRAM-MD5': { of: 'CRAM-MD5', serverFirst: true, create: (ports) => new CramExchange(ports) },
  'SCRAM-SHA-256-PLUS': {
    of: 'SCRAM-SHA-256',
    plus: true,
    create: (ports) => new ScramExchange('SCRAM-SHA-256-PLUS', ports),
  },
  'SCRAM-SHA-256': { of: 'SCRAM-SHA-256', create: (ports) => new ScramExchange('SCRAM-SHA-256', ports) },
} as const satisfies Record<string, Implemented>;

/** As the configuration names them. */
export type Mechanism = (typeof MECHANISMS)[number];
export type MechanismName = keyof typeof IMPLEMENTED;
const NAMES = Object.keys(IMPLEMENTED) as MechanismName[];
const rowOf = (name: MechanismName): Implemented => IMPLEMENTED[name];

/** Names of what these mechanisms of the configuration offer, in their order. @param plus with channel binding. */
export function namesOf(mechanisms: readonly Mechanism[], plus: boolean): MechanismName[] {
  return mechanisms.flatMap((one) =>
    NAMES.filter((name) => rowOf(name).of === one && (plus || rowOf(name).plus !== true)),
  );
}

/** Whether the mechanism speaks first, so that an initial response has no place (RFC 4954 §4). */
export function isServerFirst(mechanism: MechanismName): boolean {
  return rowOf(mechanism).serverFirst === true;
}

export function createExchange(mechanism: MechanismName, ports: ExchangePorts): Exchange {
  return rowOf(mechanism).create(ports);
}

function byAnswer(result: AuthResult): Step {
  switch (result.result) {
    case 'accepted':
      return { kind: 'accepted', user: result.user };
    case 'rejected':
      return REJECTED;
    default:
      return { kind: 'unavailable' };
  }
}

class PlainExchange implements Exchange {
  readonly mechanism = 'PLAIN';

  start(initial: Buffer | null): Step {
    return initial === null ? { kind: 'challenge', text: '' } : this.respond(initial);
  }

  respond(response: Buffer): Step {
    const message = parsePlain(response);
    if (message === null) return MALFORMED;
    const { authorize, username, password } = message;
    // Nobody may act for others here.
    if (authorize !== '' && authorize !== username) return REJECTED;
    return { kind: 'ask', credentials: { kind: 'password', username, password } };
  }

  answered(result: AuthResult): Step {
    return byAnswer(result);
  }
}

class LoginExchange implements Exchange {
  readonly mechanism = 'LOGIN';
  #username: string | null = null;

  start(initial: Buffer | null): Step {
    return initial === null ? { kind: 'challenge', text: LOGIN_PROMPTS[0] } : this.respond(initial);
  }

  respond(response: Buffer): Step {
    const field = parseLoginField(response);
    if (field === null) return MALFORMED;
    if (this.#username === null) {
      this.#username = field;
      return { kind: 'challenge', text: LOGIN_PROMPTS[1] };
    }
    return { kind: 'ask', credentials: { kind: 'password', username: this.#username, password: field } };
  }

  answered(result: AuthResult): Step {
    return byAnswer(result);
  }
}

class CramExchange implements Exchange {
  readonly mechanism = 'CRAM-MD5';
  readonly #challenge: string;

  constructor({ nonce, nowMs, hostname }: ExchangePorts) {
    this.#challenge = cramChallenge(nonce(), nowMs, hostname);
  }

  start(): Step {
    return { kind: 'challenge', text: this.#challenge };
  }

  respond(response: Buffer): Step {
    const message = parseCramResponse(response);
    if (message === null) return MALFORMED;
    return { kind: 'ask', credentials: { kind: 'cram-md5', challenge: this.#challenge, ...message } };
  }

  answered(result: AuthResult): Step {
    return byAnswer(result);
  }
}

/** RFC 5802 §5: client-first, server-first, client-final, server-final, and an empty response to end it. */
class ScramExchange implements Exchange {
  readonly mechanism: string;
  readonly #ports: ExchangePorts;
  #first: ClientFirst | null = null;
  #serverFirst = '';
  #nonce = '';
  #found: Extract<AuthResult, { result: 'keys' }> | null = null;
  #proven: User | null = null;

  constructor(mechanism: string, ports: ExchangePorts) {
    this.mechanism = mechanism;
    this.#ports = ports;
  }

  start(initial: Buffer | null): Step {
    return initial === null ? { kind: 'challenge', text: '' } : this.respond(initial);
  }

  respond(response: Buffer): Step {
    if (this.#proven !== null) {
      return response.length === 0 ? { kind: 'accepted', user: this.#proven } : MALFORMED;
    }
    return this.#first === null ? this.#begin(response) : this.#finish(this.#first, response);
  }

  #begin(response: Buffer): Step {
    const first = parseClientFirst(response);
    if (first === null || !this.#isBindingAsOffered(first.binding)) return MALFORMED;
    if (first.authorize !== '' && first.authorize !== first.username) return REJECTED;
    this.#first = first;
    return { kind: 'ask', credentials: { kind: 'scram', username: first.username } };
  }

  /**
   * With -PLUS the binding must be one of the connection. Without, 'y' (the client thinks that we offer none) is refused
   * where we offered -PLUS: somebody between us has hidden the offer.
   */
  #isBindingAsOffered(binding: string): boolean {
    if (this.mechanism.endsWith('-PLUS')) return this.#channelOf(binding) !== null;
    return binding === 'n' || (binding === 'y' && this.#ports.channelBindings.length === 0);
  }

  #channelOf(type: string): ChannelBinding | null {
    return this.#ports.channelBindings.find((channel) => channel.type === type) ?? null;
  }

  answered(result: AuthResult): Step {
    if (result.result !== 'keys' || this.#first === null) return byAnswer(result);
    this.#found = result;
    this.#nonce = this.#first.nonce + this.#ports.nonce();
    this.#serverFirst = serverFirst(this.#nonce, result.keys);
    return { kind: 'challenge', text: this.#serverFirst };
  }

  #finish(first: ClientFirst, response: Buffer): Step {
    const final = parseClientFinal(response);
    const found = this.#found;
    if (final === null || found === null) return MALFORMED;
    const channel = this.mechanism.endsWith('-PLUS') ? this.#channelOf(first.binding) : null;
    const message = authMessage(first.bare, this.#serverFirst, final.withoutProof);
    const signature = proveClient(found.keys, message, final.proof);
    const holds = final.nonce === this.#nonce && isBoundTo(final, first.gs2Header, channel);
    if (signature === null || !holds || found.user === null) return REJECTED;
    this.#proven = found.user;
    return { kind: 'challenge', text: `v=${signature.toString('base64')}` };
  }
}
