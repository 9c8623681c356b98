/** On what terms the sessions of a lane work: the rules of the config, and the limits of the site where they are stricter. */
import type { Config } from '../config/schema.ts';
import type { EgressSource } from '../egress/egress.ts';
import type { Job } from '../mail/job.ts';
import type { Arena } from '../native.ts';
import type { OwnerTls, SessionOwner } from './client/owner.ts';
import type { ClientSession } from './client/session.ts';
import type { DestinationPorts } from './destination-ports.ts';
import { LaneShare } from './lane-share.ts';
import type { RememberedHosts } from './remembered-hosts.ts';
import { type Route, reachableFrom } from './route.ts';
import { atLeast, ruleHop, tlsPolicyOf } from './security/tls-policy.ts';

/** So long a connection is kept for another domain of its site that waits for one, until it is known whether it suits. */
const AWAITED_MS = 1000;

/** @template Lane the class of the lane itself. */
export abstract class LaneTerms<Lane> {
  readonly key: string;
  /** A reload replaces it by the one of the same name. */
  source: EgressSource;
  readonly share: LaneShare;
  readonly classify: SessionOwner['classify'];
  protected readonly ports: DestinationPorts<Lane>;
  /** Most recipients this peer takes in one transaction, as far as we know. */
  #peersLimit = Number.POSITIVE_INFINITY;

  constructor(key: string, source: EgressSource, ports: DestinationPorts<Lane>) {
    this.key = key;
    this.source = source;
    this.ports = ports;
    this.classify = ports.classify;
    const lane = this as unknown as Lane;
    this.share = new LaneShare({
      now: () => this.now(),
      enter: (site, hosts) => ports.enter(lane, site, hosts),
      release: (limits) => ports.release(limits),
      at: (atMs) => ports.pumpAt(lane, atMs),
    });
  }

  get arena(): Arena {
    return this.ports.arena;
  }

  get rules(): Config['delivery'] {
    return this.ports.config.delivery;
  }

  get ehloName(): string {
    return this.source.ehloName;
  }

  get returnPaths(): SessionOwner['returnPaths'] {
    return this.ports.returnPaths;
  }

  get tls(): OwnerTls {
    const { broken, tlsSlot: slot, tlsSession: record } = this.ports;
    const ruled = ruleHop(this.ports.config.egress, this.key);
    const policy = atLeast(tlsPolicyOf(this.rules, this.key, ruled), this.share.limits?.fixed.tls);
    return { policy, broken, slot, record };
  }

  get recipientLimit(): number {
    const { max_recipients_per_transaction: most } = this.rules;
    const { recipients_per_transaction: atSite = most } = this.share.limits?.fixed ?? {};
    return Math.min(this.#peersLimit, most, atSite);
  }

  set recipientLimit(limit: number) {
    this.#peersLimit = limit;
  }

  get messageLimit(): number {
    const most = this.rules.max_messages_per_connection;
    return this.share.limits === null ? most : Math.min(most, this.share.limits.messagesPerConnection);
  }

  get idleMs(): number {
    const { limits } = this.share;
    if (limits?.crowded === true) return this.ports.isAwaited(limits) ? AWAITED_MS : 0;
    const { idle_connection_ms: most } = this.rules;
    return Math.min(most, limits?.fixed.idle_connection_ms ?? most);
  }

  /** Most connections: of the destination, those of its other lanes included, and of the site. */
  protected get mostConnections(): number {
    const most = this.rules.max_connections_per_destination - this.ports.openBeside(this as unknown as Lane);
    return this.share.limits === null ? most : Math.min(most, this.share.limits.maxConnections);
  }

  /** Whether nothing else slows it after a refusal: with a site, the adaptive control does so for all that goes there. */
  protected get slowsByItself(): boolean {
    return this.share.limits === null || this.ports.config.adaptive.mode !== 'on';
  }

  /** Where its mail goes. @param entered is called when it has limits of a site that it did not have before. */
  protected async route(entered: () => void): Promise<Route> {
    const route = reachableFrom(this.source, await this.ports.route(this.key));
    const site = route.kind === 'hosts' ? route.site : undefined;
    const wasFree = this.share.limits === null;
    // Most routes of a config without MX destinations never wait here.
    if (site !== undefined || !wasFree)
      await this.share.routed(site, route.kind === 'hosts' ? route.hosts : []);
    if (wasFree && this.share.limits !== null) this.outside(entered);
    return route;
  }

  get careful(): RememberedHosts {
    return this.ports.careful;
  }

  get turn(): number {
    return this.ports.turn;
  }

  now(): number {
    return this.ports.now();
  }

  outside(work: () => void): void {
    this.ports.outside(work);
  }

  leaseHolds(job: Job): boolean {
    return this.ports.leaseHolds(job);
  }

  guard(session: ClientSession, at: string, work: (session: ClientSession) => void): void {
    this.ports.guard(session, at, work);
  }
}
