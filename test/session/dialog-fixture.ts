/** A session thread without thread and sockets: the real sessions over the plain reactor, the test as main thread. */

import { Admission } from '../../src/admission/admission.ts';
import { createGauges, GAUGE, type Gauges } from '../../src/admission/gauges.ts';
import { Postmaster } from '../../src/admission/postmaster.ts';
import { RelayClasses } from '../../src/admission/recipient-class.ts';
import { RelayPolicy } from '../../src/admission/relay-policy.ts';
import type {
  AuthAnswer,
  AuthFailure,
  AuthProof,
  AuthRequest,
  AuthResult,
  Credentials,
} from '../../src/auth/auth.ts';
import { Quotas } from '../../src/auth/quotas.ts';
import { rulesOf } from '../../src/auth/rules.ts';
import type { Log } from '../../src/base/log.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import type { Message } from '../../src/mail/message.ts';
import { readMessages } from '../../src/mail/message-wire.ts';
import { QueueIds } from '../../src/mail/queue-id.ts';
import type { Arena } from '../../src/native.ts';
import { ContentAccount } from '../../src/policy/content-account.ts';
import type { PolicyQueries } from '../../src/policy/dns.ts';
import { ConnectionGate } from '../../src/policy/gate.ts';
import {
  initializePolicyMemory,
  PolicyMemory,
  policyMemoryBytes,
  policySizes,
} from '../../src/policy/host-memory.ts';
import { Policy } from '../../src/policy/policy.ts';
import { SessionPolicy } from '../../src/policy/session-policy.ts';
import { DateCache } from '../../src/protocol/date.ts';
import type { ReplyReason } from '../../src/protocol/reply.ts';
import { isCramDigest } from '../../src/protocol/sasl/cram-md5.ts';
import { scramKeys } from '../../src/protocol/sasl/scram.ts';
import { Barrier } from '../../src/session/barrier.ts';
import type { SessionContext, SessionPort } from '../../src/session/context.ts';
import { Logins } from '../../src/session/logins.ts';
import { type FromSession, VERDICT } from '../../src/session/messages.ts';
import { ReactorServer } from '../../src/session/reactor-server.ts';
import { Reports } from '../../src/session/reports.ts';
import { lineLimitBytes, settingsOf } from '../../src/session/settings.ts';
import { ShardRouter } from '../../src/session/shard-router.ts';
import { Submissions } from '../../src/session/submissions.ts';
import { Transcript } from '../../src/session/transcript.ts';
import { createVerbs } from '../../src/session/verbs.ts';
import { PlainArena, PlainReactor } from './plain-reactor.ts';

export interface LogLine {
  level: string;
  event: string;
  fields: Record<string, unknown>;
}

export function recordingLog(lines: LogLine[]): Log {
  const at =
    (level: string) =>
    (event: string, fields: Record<string, unknown> = {}): void => {
      lines.push({ level, event, fields });
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** The corpus plays one dialog some thousand times, and checking its settings takes longer than playing it. */
const configs = new WeakMap<object, Config>();

export function configOf(settings: object): Config {
  let config = configs.get(settings);
  if (config === undefined) {
    config = configSchema.parse({ hostname: 'relay.example.test', data_dir: '/nonexistent', ...settings });
    configs.set(settings, config);
  }
  return config;
}

/** Memory of a host of one process. */
export function policyMemory(config: Config): PolicyMemory {
  const sizes = policySizes(config, 1);
  const memory = new SharedArrayBuffer(policyMemoryBytes(sizes));
  initializePolicyMemory(memory, sizes, 12_345);
  return new PolicyMemory(memory, sizes, 0);
}

/** Of all dialogs whose policy is off. */
let unusedMemory: PolicyMemory | null = null;

/** Errors in a dialog fail the test, unless it is about them. */
class NoBarrier extends Barrier {
  override report(_session: string, _client: string, _at: string, error: unknown): never {
    throw error;
  }
}

/** What sessions share, for any reactor and arena. */
export function contextOf(
  config: Config,
  port: SessionPort,
  arena: SessionContext['arena'] & Pick<Arena, 'totalBytes' | 'freeBytes' | 'holdEnvelope' | 'takeHeld'>,
  gauges: Gauges,
  post: (message: FromSession) => void,
  log: Log,
  now: () => number = Date.now,
  policyOf: { memory?: PolicyMemory; queries?: PolicyQueries; barrier?: Barrier } = {},
  tlsSlot = 0,
  wall: () => number = now,
): SessionContext {
  const clock = { nowMs: wall(), steadyMs: now() };
  const policyClock = {
    get nowMs() {
      return clock.steadyMs;
    },
  };
  const relayPolicy = new RelayPolicy(config.relay_networks, config.relay_domains);
  unusedMemory ??= policyMemory(config);
  const memory = policyOf.memory ?? unusedMemory;
  const gate = new ConnectionGate(config, memory, log);
  const queries = policyOf.queries === undefined ? {} : { queries: policyOf.queries };
  const policy = new Policy(config, { gate, memory, log, clock: policyClock, ...queries });
  const queueIds = new QueueIds(1, 0, () => clock.nowMs);
  return {
    port,
    arena,
    contentAccount: new ContentAccount(memory.accounts, arena),
    clock,
    readClock() {
      clock.nowMs = wall();
      clock.steadyMs = now();
    },
    policyOf: (session, address, mayRelay) => new SessionPolicy(policy, session, address, mayRelay),
    queueIds,
    shards: new ShardRouter({
      database: config.database,
      gauges,
      queueIds,
      now: () => clock.nowMs,
      lookUp() {},
    }),
    dates: new DateCache(),
    verbs: createVerbs(),
    admission: new Admission(gauges, arena, config.persist_max_inflight_mails),
    submissions: new Submissions(post),
    logins: new Logins(post),
    quotas: new Quotas(new ArrayBuffer(64 * 64), () => clock.nowMs),
    log,
    barrier: policyOf.barrier ?? new NoBarrier(gauges, log),
    tlsSlot,
    reports: new Reports(post),
    settings: settingsOf(config),
    suppressed: null,
    relayPolicy,
    postmaster: new Postmaster(config),
    classes: new RelayClasses(relayPolicy),
    transcript: config.log.transcripts.inbound ? new Transcript(log) : null,
  };
}

/** The users of the first memory backend, answered at once. `unavailable` is a user no backend can tell of. */
export class FixtureUsers {
  readonly #config: Config;

  constructor(config: Config) {
    this.#config = config;
  }

  answer(credentials: Credentials): AuthResult {
    const { username } = credentials;
    if (username === 'unavailable') return { result: 'unavailable' };
    const users = this.#config.auth.backends[0]?.users ?? [];
    const found = users.find((user) => user.username === username);
    const user = found && { name: username, rules: rulesOf(this.#config.auth, username, found) };
    if (credentials.kind === 'scram') {
      const keys = scramKeys(found?.password ?? 'nobody', Buffer.from('salt of the test'), 4096);
      return { result: 'keys', keys, user: user ?? null };
    }
    const matches =
      found !== undefined &&
      (credentials.kind === 'password'
        ? credentials.password === found.password
        : isCramDigest(credentials.challenge, found.password, credentials.digest));
    return matches && user ? { result: 'accepted', user } : { result: 'rejected' };
  }
}

export interface Submitted {
  message: Message;
  ticket: number;
  content: string;
}

export class DialogFixture {
  /** Steady; the time of day is so much ahead of it. */
  nowMs = Date.UTC(2026, 0, 2, 3, 4, 5);
  clockSetMs = 0;
  readonly arena = new PlainArena();
  readonly gauges = createGauges();
  readonly logged: LogLine[] = [];
  readonly submitted: Submitted[] = [];
  readonly closedPeers: string[] = [];
  /** Indices of `submitted` whose verdict was held back: their content is still with the main thread. */
  readonly heldBack = new Set<number>();
  /** What becomes of the next messages; null: no verdict until `verdict` is called. Beyond the list: committed. */
  verdicts: (number | null)[] = [];
  readonly reactor: PlainReactor;
  readonly context: SessionContext;
  readonly server: ReactorServer;
  posts = 0;
  #answers: number[] = [];
  #logins: AuthAnswer[] = [];
  readonly requests: AuthRequest[] = [];
  readonly failures: AuthFailure[] = [];
  readonly proofs: AuthProof[] = [];
  /** Logins are not answered until `answerLogins` is called. */
  holdLogins = false;
  readonly #users: FixtureUsers;

  /** @param world memory and DNS of the policy, when the settings use them. */
  constructor(
    settings: object = {},
    world: { memory?: PolicyMemory; queries?: PolicyQueries; barrier?: Barrier } = {},
  ) {
    const config = configOf(settings);
    this.#users = new FixtureUsers(config);
    this.reactor = new PlainReactor(this.arena, lineLimitBytes(config) - 2);
    const now = (): number => this.nowMs;
    const log = recordingLog(this.logged);
    const port = this.reactor.asReactor();
    const wall = (): number => this.nowMs + this.clockSetMs;
    const post = (m: FromSession) => this.#receive(m);
    this.context = contextOf(config, port, this.arena, this.gauges, post, log, now, world, 0, wall);
    this.server = new ReactorServer(this.context, port);
    this.reactor.onTurn = (count) => this.server.onTurn(count);
  }

  /** The main thread: every message of the turn leaves persistence, and its session hears of it. */
  #receive(batch: FromSession): void {
    if (batch.type === 'logins') {
      this.requests.push(...batch.requests);
      this.failures.push(...batch.failures);
      this.proofs.push(...batch.proofs);
      for (const request of batch.requests)
        this.#logins.push({ id: request.id, ...this.#users.answer(request.credentials) });
    }
    if (batch.type !== 'turn') return;
    this.posts++;
    this.closedPeers.push(...batch.closedPeers);
    readMessages(batch.messages, batch.tickets.length).forEach((message, i) => {
      const ticket = batch.tickets[i] as number;
      const content = this.arena.bytes(message.content).toString('latin1');
      this.submitted.push({ message, ticket, content });
      const verdict = this.verdicts.length > 0 ? (this.verdicts.shift() as number | null) : VERDICT.committed;
      if (verdict === null) {
        this.heldBack.add(this.submitted.length - 1);
        return;
      }
      this.#leave(message);
      if (ticket >= 0) this.#answers.push(ticket, verdict);
    });
  }

  #leave(message: Message): void {
    Atomics.sub(this.gauges, GAUGE.inflightMails, 1);
    this.context.contentAccount.giveBack(message.content);
    this.arena.release(message.content);
  }

  #answer(): void {
    if (!this.holdLogins) this.answerLogins();
    while (this.#answers.length > 0) {
      this.server.verdicts(this.#answers.splice(0));
      if (!this.holdLogins) this.answerLogins();
    }
  }

  answerLogins(): void {
    for (let answer = this.#logins.shift(); answer !== undefined; answer = this.#logins.shift())
      this.server.login(answer);
  }

  /** A verdict that was held back. */
  verdict(index: number, verdict: number): void {
    const { message, ticket } = this.submitted[index] as Submitted;
    this.heldBack.delete(index);
    this.#leave(message);
    this.server.verdicts([ticket, verdict]);
  }

  open(address?: string): number {
    return this.reactor.open(address);
  }

  /** Feeds octets and returns what came back. */
  say(connection: number, octets: string | Buffer): string {
    const before = (this.reactor.sent[connection] as string).length;
    this.reactor.feed(connection, octets);
    this.#answer();
    return (this.reactor.sent[connection] as string).slice(before);
  }

  /** Opens a connection, says EHLO and the commands (CRLF added), returns the last reply. */
  converse(...lines: string[]): string {
    const connection = this.open();
    this.say(connection, 'EHLO client.example\r\n');
    let reply = '';
    for (const line of lines) reply = this.say(connection, `${line}\r\n`);
    return reply;
  }

  isClosed(connection: number): boolean {
    return this.reactor.closedByUs.has(connection);
  }

  /** Reasons of the refusals that were logged. */
  refusals(): ReplyReason[] {
    return this.logged
      .filter((l) => l.event === 'session.refused')
      .map((l) => l.fields.reason as ReplyReason);
  }
}
