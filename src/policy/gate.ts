/**
 * What is decided about a client before it has said anything: bans, limits of open connections, the rate of
 * connections. The main thread asks it as connections are accepted; a session thread asks its own when the client's
 * address comes from a PROXY header or XCLIENT. Counts are those of the host.
 */
import { LineBudget } from '../base/calm-log.ts';
import {
  clientNetwork,
  formatNetwork,
  type Ip,
  type Network,
  NetworkSet,
  neighbourhood,
  parseIp,
} from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { Reply } from '../protocol/reply.ts';
import { type Ban, endOf, type FailureKind, shifted } from './ban-table.ts';
import { Bans } from './bans.ts';
import type { PolicyMemory } from './host-memory.ts';
import { type Hit, nameless, Part, type Subject } from './part.ts';
import { policyToDayMs } from './policy-time.ts';
import { Rates } from './rates.ts';
import { policyReply } from './replies.ts';

type Limits = Config['policy']['connections'];

/** Bounds what connections that are refused can write to the log. */
const HIT_LINES_PER_SECOND = 20;

export class ConnectionGate {
  readonly #memory: PolicyMemory;
  readonly #log: Log;
  /** How many connections this thread has counted, by address: no others are given back. */
  readonly #entered = new Map<string, number>();
  readonly #lines = new LineBudget(HIT_LINES_PER_SECOND);
  #hostname = '';
  #limits!: Limits;
  #limitsPart!: Part;
  #bansPart!: Part;
  #bans!: Bans;
  #rates!: Rates;
  #proxies!: NetworkSet;
  #relayNetworks!: NetworkSet;

  constructor(config: Config, memory: PolicyMemory, log: Log) {
    this.#memory = memory;
    this.#log = log;
    this.reconfigure(config);
  }

  /** Takes the rules of a reloaded configuration; open connections stay counted. */
  reconfigure({ policy, hostname, relay_networks }: Config): void {
    this.#hostname = hostname;
    this.#limits = policy.connections;
    this.#limitsPart = new Part(policy.connections);
    this.#bansPart = new Part(policy.bans);
    this.#bans = new Bans(this.#memory.bans, this.#memory.counters, policy.bans);
    this.#rates = new Rates(policy.rates, this.#memory.counters);
    this.#proxies = new NetworkSet(policy.proxy_protocol.networks);
    this.#relayNetworks = new NetworkSet(relay_networks);
  }

  /**
   * At accept: null and the connection is counted, or the refusal. Peers whose client's address comes later, by a PROXY
   * header, are not judged here.
   */
  accept(peer: string, nowMs: number): Reply | null {
    const ip = parseIp(peer);
    if (ip === null || (!this.#proxies.isEmpty && this.#proxies.has(ip))) return null;
    const subject = { ip, address: peer, mayRelay: this.#relayNetworks.has(ip), user: null };
    const hit = this.enter(subject, nowMs);
    if (hit === null) return null;
    this.#tell(peer, hit, nowMs);
    return policyReply(hit, this.#hostname);
  }

  /** Logs a hit; of a flood of them, those that are left out are counted. */
  #tell(peer: string, { rule, mode, detail }: Hit, nowMs: number): void {
    const left = this.#lines.leftOut(nowMs);
    if (left !== null) this.#log.info('log.left_out', { of: 'policy.hit', ...left });
    if (this.#lines.admit(rule, nowMs))
      this.#log.info('policy.hit', { client_address: peer, rule, mode, detail });
  }

  /** Counts a connection, unless it is refused. Returns the hit that refuses it, else one that is only logged, or null. */
  enter(subject: Subject, nowMs: number): Hit | null {
    if (subject.ip === null && nameless(subject) === null) return null;
    this.#count(subject.address, subject.ip, 1);
    const hits = [this.#banned(subject, nowMs), this.#crowded(subject), this.#tooOften(subject, nowMs)];
    const hit = hits.find((found) => refuses(found)) ?? hits.find((found) => found?.mode === 'log') ?? null;
    if (refuses(hit)) this.leave(subject.address);
    return hit;
  }

  /** The connection ended. Does nothing for one that this thread did not count. */
  leave(address: string): void {
    if (!this.#entered.has(address)) return;
    this.#count(address, parseIp(address), -1);
  }

  /** The hits that the mail of an admitted session is tagged with. */
  tags(subject: Subject, nowMs: number): Hit[] {
    const hits = [
      this.#banned(subject, nowMs),
      this.#limitsPart.mode === 'tag' ? this.#crowded(subject) : null,
      this.#rates.part.mode === 'tag' ? this.#rated(subject, nowMs) : null,
    ];
    return hits.filter((hit) => hit?.mode === 'tag') as Hit[];
  }

  /** The ban that keeps a client out, or null; also one that came while it was connected. */
  banned(subject: Subject, nowMs: number): Hit | null {
    return this.#banned(subject, nowMs);
  }

  /** Counts a failure of a client, which may be banned for it. */
  failure(subject: Subject, kind: FailureKind, nowMs: number): void {
    if (subject.ip === null || !this.#bansPart.concerns(subject)) return;
    const ban = this.#bans.failure(subject.ip, kind, nowMs);
    if (ban instanceof Promise) void ban.then((late) => this.#tellBan(subject, late));
    else this.#tellBan(subject, ban);
  }

  #tellBan(subject: Subject, ban: Ban | null): void {
    if (ban === null) return;
    this.#log.info('policy.ban', {
      client_address: subject.address,
      network: ban.network,
      kind: ban.kind,
      times: ban.times,
      ...endOf(shifted(ban, policyToDayMs())),
    });
  }

  #count(address: string, ip: Ip | null, change: 1 | -1): void {
    const open = (this.#entered.get(address) ?? 0) + change;
    if (open > 0) this.#entered.set(address, open);
    else this.#entered.delete(address);
    const { accounts } = this.#memory;
    accounts.count(accounts.accountOf(ip, false, address), 'connections', change);
  }

  #banned(subject: Subject, nowMs: number): Hit | null {
    if (subject.ip === null) return null;
    const ban = this.#bans.find(subject.ip, nowMs);
    if (ban === null) return null;
    if (ban.kind === 'operator') return banHit(ban, 'reject');
    return this.#bansPart.concerns(subject) ? banHit(ban, this.#bansPart.mode) : null;
  }

  #crowded(subject: Subject): Hit | null {
    const { ip, address } = subject;
    if ((ip === null && nameless(subject) === null) || !this.#limitsPart.concerns(subject)) return null;
    const { accounts } = this.#memory;
    const { mode } = this.#limitsPart;
    const { max_total, max_per_ip, max_per_network } = this.#limits;
    const account = accounts.accountOf(ip, false, address);
    if (max_total > 0 && accounts.total('connections') > max_total)
      return { rule: 'total', mode, detail: `more than ${max_total} connections` };
    if (max_per_ip > 0 && accounts.of(account.client, 'connections') > max_per_ip)
      return { rule: 'per_ip', mode, detail: tooMany(max_per_ip, address, ip && clientNetwork(ip)) };
    if (max_per_network > 0 && accounts.of(account.network, 'connections') > max_per_network)
      return {
        rule: 'per_network',
        mode,
        detail: tooMany(max_per_network, address, ip && neighbourhood(ip)),
      };
    return null;
  }

  #tooOften(subject: Subject, nowMs: number): Hit | null {
    return this.#rates.part.mode === 'tag' ? null : this.#rated(subject, nowMs);
  }

  /** A connection is accepted without waiting: an answer that comes as a promise counts it, but cannot refuse it. */
  #rated(subject: Subject, nowMs: number): Hit | null {
    const hit = this.#rates.take('connections', subject, '', nowMs);
    return hit instanceof Promise ? null : hit;
  }
}

const tooMany = (limit: number, address: string, whose: Network | null): string =>
  `more than ${limit} connections of ${whose === null ? address : formatNetwork(whose)}`;

function refuses(hit: Hit | null): boolean {
  return hit !== null && (hit.mode === 'defer' || hit.mode === 'reject');
}

function banHit(ban: Ban, mode: Hit['mode']): Hit {
  return { rule: 'ban', mode, detail: `${ban.network} for ${ban.kind}` };
}
