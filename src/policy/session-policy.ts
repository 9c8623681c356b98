/**
 * The policy as one session meets it: who the client is, what the rules say at each step, what was tagged. It answers at
 * once when everything is known, else with a promise, for which the session holds its commands.
 */
import { type Ip, parseIp } from '../base/ip.ts';
import type { Reply } from '../protocol/reply.ts';
import type { FailureKind } from './ban-table.ts';
import type { Found, Hit, Rule } from './part.ts';
import type { Policy } from './policy.ts';
import { endsConnection, policyReply } from './replies.ts';
import type { NamedSubject } from './reverse-dns.ts';
import { Share } from './share.ts';

/** null: go on. */
export type Verdict = Refusal | null;
export type Answer = Verdict | Promise<Verdict>;

export interface Refusal {
  reply: Reply;
  /** The connection ends with it. */
  ends: boolean;
}

const MAX_TAG = 300;

export class SessionPolicy implements NamedSubject {
  ip: Ip | null;
  address: string;
  mayRelay: boolean;
  user: string | null = null;
  /** Forward-confirmed name of the address; '' when there is none, or nobody asked. */
  clientName = '';
  /** What the session holds of what clients share. */
  readonly share: Share;
  readonly #policy: Policy;
  readonly #session: string;
  /** Who sends the commands: a peer that may speak for other clients by XCLIENT. */
  #speaker: { readonly ip: Ip | null };
  /** This thread's gate has counted the client, because its address did not come with the socket. */
  #entered = false;
  #tags: string[] | null = null;
  /** How many of the tags, from the first, are the connection's; the rest are the transaction's. */
  #lasting = 0;
  /** Hits that were logged: one that does not refuse is logged once a session. */
  #said: Set<string> | null = null;
  #senderDomain = '';

  /** @param session its id, for the log. */
  constructor(policy: Policy, session: string, address: string, mayRelay: boolean) {
    this.#policy = policy;
    this.#session = session;
    this.address = address;
    this.ip = parseIp(address);
    this.#speaker = { ip: this.ip };
    this.mayRelay = mayRelay;
    this.share = new Share(policy.accounts, this.ip, address, mayRelay);
  }

  get expectsProxy(): boolean {
    return this.#policy.expectsProxy(this.address);
  }

  get proxyTimeoutMs(): number {
    return this.#policy.proxyTimeoutMs;
  }

  get mayXclient(): boolean {
    return this.#policy.mayXclient(this.#speaker);
  }

  get mayXforward(): boolean {
    return this.#policy.mayXforward(this.#speaker);
  }

  /**
   * The client is another one than the socket says. With a PROXY header it is the client that speaks from here on; with
   * XCLIENT it is still the peer, which may go on to speak for others.
   */
  moved(address: string, mayRelay: boolean, by: 'proxy' | 'xclient'): Verdict {
    this.#leave();
    this.address = address;
    this.ip = parseIp(address);
    if (by === 'proxy') this.#speaker = { ip: this.ip };
    this.mayRelay = mayRelay;
    this.share.moved(this.ip, address, mayRelay);
    this.user = null;
    this.clientName = '';
    this.#tags = null;
    this.#lasting = 0;
    const hit = this.#policy.gate.enter(this, this.#policy.clock.nowMs);
    const refusal = this.#refusal(hit);
    this.#entered = refusal === null;
    return refusal;
  }

  /** The client has proven who it is. */
  authenticated(user: string): void {
    this.user = user;
    this.share.trust(true);
  }

  /** The login counts no more: only its address says who the client is. */
  anonymous(): void {
    this.user = null;
    this.share.trust(this.mayRelay);
  }

  /** The client's address is known for good: questions about it begin. */
  opened(): void {
    const { gate, clock, looksAt, dnsbl, reverseDns } = this.#policy;
    for (const hit of gate.tags(this, clock.nowMs)) this.#refusal(hit);
    this.#lasting = this.#tags?.length ?? 0;
    if (!looksAt.connection) return;
    // Nobody waits for these answers now; MAIL will, if they are not there by then.
    if (dnsbl.part.concerns(this)) dnsbl.prepare(this);
    if (reverseDns.part.concerns(this)) void reverseDns.look(this);
  }

  closed(): void {
    this.#leave();
    this.share.close();
  }

  #leave(): void {
    if (this.#entered) this.#policy.gate.leave(this.address);
    this.#entered = false;
  }

  /** How long the banner waits; 0: not at all. */
  greetDelayMs(): number {
    return this.#policy.earlyTalker.concerns(this) ? this.#policy.greetDelayMs : 0;
  }

  spokeEarly(): Verdict {
    const { mode } = this.#policy.earlyTalker;
    const refusal = this.#refusal({ rule: 'early_talker', mode, detail: 'before the banner' });
    this.#lasting = this.#tags?.length ?? 0;
    return refusal;
  }

  /** At every command. */
  command(): Answer {
    const { looksAt, rates, clock } = this.#policy;
    if (!looksAt.commands) return null;
    return this.#answer(rates.take('commands', this, '', clock.nowMs));
  }

  /** At MAIL. @param domain of the sender, '' for the null path. */
  mail(address: string, domain: string, helo: string): Answer {
    if (this.#tags !== null) this.#tags.length = this.#lasting;
    this.#senderDomain = domain;
    const { gate, looksAt, clock } = this.#policy;
    const banned = this.#refusal(gate.banned(this, clock.nowMs));
    if (banned !== null) return banned;
    if (!looksAt.mail) return null;
    const { reverseDns, helo: names, addresses, senderDomain, dnsbl, rates } = this.#policy;
    const found: Found[] = [];
    if (reverseDns.part.concerns(this, domain)) found.push(reverseDns.look(this));
    if (names.part.concerns(this, domain)) found.push(names.look(this, helo));
    if (addresses.part.concerns(this, domain)) found.push(addresses.look('sender', address, domain));
    if (senderDomain.part.concerns(this, domain)) found.push(senderDomain.look(domain));
    if (dnsbl.part.concerns(this, domain)) found.push(dnsbl.look(this, domain));
    return this.#inTurn(found, () => rates.take('messages', this, domain, clock.nowMs));
  }

  /** At RCPT, with the sender as MAIL gave it. */
  recipient(sender: string, address: string, domain: string): Answer {
    const senderDomain = this.#senderDomain;
    const { looksAt, addresses, greylist, rates, clock } = this.#policy;
    if (!looksAt.recipient) return null;
    const found: Found[] = [];
    if (addresses.part.concerns(this, senderDomain)) found.push(addresses.look('recipient', address, domain));
    if (greylist.part.concerns(this, senderDomain))
      found.push(greylist.look(this, sender, address, clock.nowMs));
    return this.#inTurn(found, () => rates.take('recipients', this, senderDomain, clock.nowMs));
  }

  /**
   * A reply of 5xx class went out. @param errors of this session so far.
   * @returns how long to pause before the next command, and the refusal that ends the session, if it does.
   */
  erred(errors: number): { pauseMs: number; refusal: Verdict } {
    const { tarpit, pauses } = this.#policy;
    const over = errors - pauses.afterErrors;
    if (over <= 0 || !tarpit.concerns(this)) return { pauseMs: 0, refusal: null };
    const pauseMs = Math.min(pauses.maxMs, pauses.delayMs * over);
    const { mode } = tarpit;
    const last = pauseMs >= pauses.maxMs;
    const hit: Hit = {
      rule: 'tarpit',
      mode: last || mode === 'log' ? mode : 'tag',
      detail: `${errors} errors`,
    };
    const refusal = this.#refusal(hit);
    this.#lasting = Math.max(this.#lasting, this.#tags?.length ?? 0);
    return { pauseMs: mode === 'log' ? 0 : pauseMs, refusal };
  }

  /** The client did something for which it is banned when it goes on. */
  failure(kind: FailureKind): void {
    const { gate, clock } = this.#policy;
    gate.failure(this, kind, clock.nowMs);
  }

  /** The header field with the tags, to go before the trace of a message; '' when there are none. */
  tags(): string {
    if (this.#tags === null || this.#tags.length === 0) return '';
    return `${this.#policy.tagHeader}: ${this.#tags.join(';\r\n\t')}\r\n`;
  }

  /** Judges what was found; only when nothing refuses does it ask `last` (rates: a refused command costs no token). */
  #inTurn(found: Found[], last: () => Found): Answer {
    if (found.some((one) => one instanceof Promise))
      return Promise.all(found).then((hits) => this.#firstOf(hits) ?? this.#answer(last()));
    return this.#firstOf(found as (Hit | null)[]) ?? this.#answer(last());
  }

  #firstOf(hits: (Hit | null)[]): Verdict {
    for (const hit of hits) {
      const refusal = this.#refusal(hit);
      if (refusal !== null) return refusal;
    }
    return null;
  }

  #answer(found: Found): Answer {
    return found instanceof Promise ? found.then((hit) => this.#refusal(hit)) : this.#refusal(found);
  }

  /** Logs, tags or refuses, as the mode says. */
  #refusal(hit: Hit | null): Verdict {
    if (hit === null) return null;
    const { log, hostname } = this.#policy;
    const key = `${hit.rule} ${hit.detail}`;
    this.#said ??= new Set();
    const reply = policyReply(hit, hostname);
    if (reply !== null || !this.#said.has(key)) {
      if (this.#said.size < 100) this.#said.add(key);
      const { rule, mode, detail } = hit;
      log.info('policy.hit', { session_id: this.#session, client_address: this.address, rule, mode, detail });
    }
    if (reply !== null) return { reply, ends: endsConnection(hit.rule) };
    if (hit.mode === 'tag') this.#tag(hit.rule, hit.detail);
    return null;
  }

  #tag(rule: Rule, detail: string): void {
    this.#tags ??= [];
    const tag = `${rule} (${detail.slice(0, MAX_TAG)})`.replace(/[^ -~]/g, '?');
    if (!this.#tags.includes(tag)) this.#tags.push(tag);
  }
}
