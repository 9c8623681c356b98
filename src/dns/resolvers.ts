/**
 * The resolvers of the config, or of the system, as one: everything that looks up names asks here. Only NOERROR and
 * NXDOMAIN are answers. Any other code (SERVFAIL, REFUSED, NOTIMP, FORMERR …), silence, a damaged reply, a mere
 * referral, and a truncated answer that cannot be had over TCP are faults of that resolver, and the next one is
 * asked. A fault is returned only when all of them had one. (c-ares, which node:dns uses, believes the first resolver
 * that says anything.)
 */
import { getServers } from 'node:dns';
import type { Config } from '../config/schema.ts';
import { MAX_ALIASES, openAlias } from './answer.ts';
import { askOverTcp, CLOSED, type Question, type Server, UdpWay } from './exchange.ts';
import {
  DAMAGED,
  type DnsReply,
  type DnsType,
  encodeQuestion,
  isAnswer,
  type QuestionForm,
  replyTo,
} from './wire.ts';

type Rules = Pick<Config['dns'], 'servers' | 'timeout_ms' | 'tries'>;

/** After this long without an answer the next resolver is asked as well. */
const IMPATIENT_MS = 1000;
/** How long a resolver that was silent, or refused us, is asked after the others. */
const SHUNNED_MS = 30_000;

const CODES: Record<number, string> = {
  [DAMAGED]: 'EBADRESP',
  1: 'FORMERR',
  2: 'SERVFAIL',
  4: 'NOTIMP',
  5: 'REFUSED',
};

/** The fault when there are too many questions at the same time. */
export const BUSY = 'too many questions at a time';
const REFERS = 'no recursion';
const NOBODY = 'no resolver (dns.servers)';
const UNANSWERED: ReadonlySet<string> = new Set([REFERS, NOBODY, CLOSED, 'REFUSED', BUSY]);
/** Errors of the system and of node:dns that mean that no resolver could be asked, or none answered. */
const SYSTEM =
  /^E(?:AI_(?:AGAIN|MEMORY)|TIMEOUT|TIMEDOUT|CONN[A-Z]+|HOST[A-Z]+|NET[A-Z]+|ADDR[A-Z]+|PIPE|PERM|ACCES|[MN]FILE|NOBUFS|NOMEM)$/;

/**
 * Whether the faults that `Resolvers.ask` or the system returned say nothing of the name: nobody answered, or nobody
 * serves us. If one resolver said something of the name (SERVFAIL, for example), that counts.
 */
export function isUnanswered(details: string): boolean {
  return details.split(', ').every((detail) => UNANSWERED.has(detail) || SYSTEM.test(detail));
}

class Resolver {
  readonly server: Server;
  readonly #udp: UdpWay;
  shunnedUntilMs = 0;

  constructor(server: Server) {
    this.server = server;
    this.#udp = new UdpWay(server);
  }

  /** @throws Error as in exchange.ts. */
  async ask(question: Question<DnsReply>): Promise<DnsReply> {
    const reply = await this.#udp.ask(question);
    if (!reply.truncated) return reply;
    const whole = await askOverTcp(this.server, question);
    // Nobody knows what was cut off: it is no word on what there is.
    return whole.truncated ? { ...whole, code: DAMAGED } : whole;
  }
}

interface Fault {
  detail: string;
  /** Whether nothing came, so that the next try may be answered. */
  silent: boolean;
}

export class Resolvers {
  readonly #rules: Rules;
  readonly #resolvers: Resolver[];

  constructor(rules: Rules, systemServers: () => string[] = getServers) {
    this.#rules = rules;
    const servers = rules.servers.length > 0 ? rules.servers : systemServers();
    this.#resolvers = servers.map((text) => new Resolver(serverOf(text)));
  }

  /**
   * @param validated ask so that the reply says whether it is validated, and from a port of its own.
   * @returns a reply with NOERROR or NXDOMAIN; or, as text, the faults of the resolvers; or null when the name cannot
   *   exist in DNS.
   */
  async ask(name: string, type: DnsType, validated = false): Promise<DnsReply | string | null> {
    let reply = await this.#ask(name, type, validated);
    // Some resolvers leave it to us to follow an alias (RFC 1034 §5.3.3). One that goes on for ever ends in answer.ts.
    for (let asked = 0; asked <= MAX_ALIASES && reply !== null && typeof reply !== 'string'; asked++) {
      const target = openAlias(reply, type);
      if (target === null) break;
      const rest = await this.#ask(target, type, validated);
      if (rest === null || typeof rest === 'string') return rest;
      const answers = [...reply.answers, ...rest.answers];
      const authentic = reply.authentic && rest.authentic;
      // It says no more than the one before: so there is nothing.
      const denies = rest.denies || rest.answers.length === 0;
      reply = { ...rest, question: reply.question, authentic, answers, denies };
    }
    return reply;
  }

  async #ask(name: string, type: DnsType, validated: boolean): Promise<DnsReply | string | null> {
    if (encodeQuestion(0, name, type) === null) return null;
    let left = this.#inOrder();
    if (left.length === 0) return NOBODY;
    const details = new Map<Resolver, string>();
    for (let round = 0; round < this.#rules.tries && left.length > 0; round++) {
      const silent: Resolver[] = [];
      // Some middleboxes drop questions with EDNS, so the second round goes without.
      const form = validated ? 'validated' : round === 0 ? 'edns' : 'plain';
      const reply = await this.#round(left, { name, type, form }, (resolver, fault) => {
        details.set(resolver, fault.detail);
        if (fault.silent) silent.push(resolver);
      });
      if (reply !== null) return reply;
      left = silent;
    }
    return [...new Set(details.values())].join(', ');
  }

  /** The resolvers in the order of the config, but those that did not answer lately last. */
  #inOrder(): Resolver[] {
    const nowMs = performance.now();
    const isShunned = ({ shunnedUntilMs }: Resolver): number => (shunnedUntilMs > nowMs ? 1 : 0);
    return [...this.#resolvers].sort((one, other) => isShunned(one) - isShunned(other));
  }

  /** Asks one after another until one answers; goes on to the next while one is silent. */
  #round(
    resolvers: readonly Resolver[],
    asked: Asked,
    failed: (resolver: Resolver, fault: Fault) => void,
  ): Promise<DnsReply | null> {
    const impatientMs = Math.min(IMPATIENT_MS, this.#rules.timeout_ms / 2);
    return new Promise((resolve) => {
      let next = 0;
      let open = 0;
      let timer: NodeJS.Timeout | undefined;
      const end = (reply: DnsReply | null): void => {
        clearTimeout(timer);
        next = Number.POSITIVE_INFINITY;
        resolve(reply);
      };
      const start = (): void => {
        clearTimeout(timer);
        const resolver = resolvers[next++];
        if (resolver === undefined) return;
        open++;
        if (next < resolvers.length) timer = setTimeout(start, impatientMs);
        void this.#one(resolver, asked).then((found) => {
          open--;
          if (next === Number.POSITIVE_INFINITY) return;
          if (!('detail' in found)) {
            end(found);
            return;
          }
          failed(resolver, found);
          if (next < resolvers.length) start();
          else if (open === 0) end(null);
        });
      };
      start();
    });
  }

  async #one(resolver: Resolver, asked: Asked): Promise<DnsReply | Fault> {
    const { name, type, form } = asked;
    const { timeout_ms: timeoutMs } = this.#rules;
    const question: Question<DnsReply> = {
      bytes: encodeQuestion(0, name, type, form) as Buffer,
      read: (bytes, id) => replyTo(bytes, id, name, type),
      timeoutMs,
      alone: form === 'validated',
    };
    try {
      let reply = await resolver.ask(question);
      // A server that does not know EDNS answers in one of these ways (RFC 6891 §7).
      if (form === 'edns' && (reply.code === 1 || reply.code === 4))
        reply = await resolver.ask({ ...question, bytes: encodeQuestion(0, name, type, 'plain') as Buffer });
      resolver.shunnedUntilMs = reply.code === 5 ? performance.now() + SHUNNED_MS : 0;
      if (reply.code === 0 && reply.referral) return { detail: REFERS, silent: false };
      if (isAnswer(reply.code)) return reply;
      return { detail: CODES[reply.code] ?? `code ${reply.code}`, silent: false };
    } catch (error) {
      resolver.shunnedUntilMs = performance.now() + SHUNNED_MS;
      const { code, message } = error as NodeJS.ErrnoException;
      return { detail: code ?? message, silent: true };
    }
  }
}

interface Asked {
  name: string;
  type: DnsType;
  form: QuestionForm;
}

/** @param text '192.0.2.1', '192.0.2.1:53', '2001:db8::1' or '[2001:db8::1]:53'. */
function serverOf(text: string): Server {
  const [, six, four, port] =
    /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text) ?? /^(.+)()()$/.exec(text) ?? [];
  return { address: (six || four) ?? text, port: port === undefined || port === '' ? 53 : Number(port) };
}
