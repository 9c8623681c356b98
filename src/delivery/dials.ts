/**
 * The connections of a destination that are being opened. Each dial asks for the route, and then tries host after host
 * until a session is established or no host is left. Promises that every dial ends in one of these ways, or is aborted.
 */
import type { Config } from '../config/schema.ts';
import type { ClientSession } from './client/session.ts';
import type { Fault } from './client/state.ts';
import type { HostChoice } from './host-choice.ts';
import { moreHopeful } from './outcome.ts';
import type { Host, Route } from './route.ts';

export interface DialsPorts {
  readonly rules: Config['delivery'];
  now(): number;
  route(): Promise<Route>;
  outside(work: () => void): void;
  /** Whether an open connection to one of these hosts that has no work serves as well; then it works for the destination from now on. */
  adopt(hosts: readonly Host[]): boolean;
  /** Opens a connection to the host; null when none may be opened now. */
  connect(host: Host): ClientSession | null;
  /** Whether the dial is still needed. */
  isWanted(dial: Dial): boolean;
  /** Every host failed. @param fault the one that leaves most hope; null: there was no host to try. */
  failed(dial: Dial, fault: Fault | null): void;
  /** The route names no hosts. */
  noHosts(dial: Dial, route: Exclude<Route, { kind: 'hosts' }>): void;
  /** A program error ended the dial. */
  broke(at: string, error: unknown): void;
}

export interface Dial {
  readonly startedAtMs: number;
  /** Addresses that are not wanted, because the attempt was tried there. None: the dial is for any attempt that is ready. */
  readonly avoid: readonly string[];
  hosts: Host[];
  next: number;
  session: ClientSession | null;
  fault: Fault | null;
}

export class Dials {
  readonly #ports: DialsPorts;
  readonly #hosts: HostChoice;
  readonly #dials = new Set<Dial>();
  readonly #dialOf = new Map<ClientSession, Dial>();
  /** Sessions that failed, but whose connection is not closed yet: after that the next host is tried. */
  readonly #leaving = new Map<ClientSession, Dial>();

  constructor(ports: DialsPorts, hosts: HostChoice) {
    this.#ports = ports;
    this.#hosts = hosts;
  }

  get size(): number {
    return this.#dials.size;
  }

  /** Whether a dial is for attempts that wait for another host. */
  get detouring(): boolean {
    for (const { avoid } of this.#dials) if (avoid.length > 0) return true;
    return false;
  }

  has(session: ClientSession): boolean {
    return this.#dialOf.has(session);
  }

  /** @param avoid addresses of hosts that are not wanted. */
  open(avoid: readonly string[]): void {
    const startedAtMs = this.#ports.now();
    const dial: Dial = { startedAtMs, avoid, hosts: [], next: 0, session: null, fault: null };
    this.#dials.add(dial);
    // In an async function, so that an error thrown at once is a rejection as well.
    const asked = async (): Promise<Route> => this.#ports.route();
    void asked().then(
      (route) => this.#ports.outside(() => this.#guard(dial, () => this.#routed(dial, route))),
      (error) => this.#ports.outside(() => this.#broke(dial, 'route', error)),
    );
  }

  #guard(dial: Dial, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#broke(dial, 'connect', error);
    }
  }

  #broke(dial: Dial, at: string, error: unknown): void {
    this.#dials.delete(dial);
    this.#ports.broke(at, error);
  }

  #routed(dial: Dial, route: Route): void {
    // A drain has aborted the dial meanwhile.
    if (!this.#dials.has(dial)) return;
    if (route.kind === 'hosts') {
      dial.hosts = this.#hosts.order(route.hosts, dial.avoid);
      this.#begin(dial);
      return;
    }
    this.#dials.delete(dial);
    this.#ports.noHosts(dial, route);
  }

  #begin(dial: Dial): void {
    const hosts = this.#ports.isWanted(dial) ? this.#hosts.best(dial.hosts) : [];
    // From here on it takes no place: the connection that is adopted has one.
    this.#dials.delete(dial);
    if (hosts.length > 0 && this.#ports.adopt(hosts)) return;
    this.#dials.add(dial);
    this.#tryNext(dial);
  }

  #tryNext(dial: Dial): void {
    const host = dial.hosts[dial.next];
    if (host === undefined) {
      this.#dials.delete(dial);
      this.#ports.failed(dial, dial.fault);
      return;
    }
    const session = this.#ports.connect(host);
    if (session === null) {
      this.#dials.delete(dial);
      return;
    }
    dial.next++;
    dial.session = session;
    this.#dialOf.set(session, dial);
  }

  /** This host gave no session; `gone` follows. */
  lost(session: ClientSession, fault: Fault): void {
    const dial = this.#dialOf.get(session);
    this.#dialOf.delete(session);
    if (dial === undefined || !this.#dials.has(dial)) return;
    if (fault.plainRetry === true) dial.hosts.splice(dial.next, 0, { ...session.host, plain: true });
    else this.#hosts.unreachable(session.host.address);
    dial.session = null;
    dial.fault = moreHopeful(dial.fault, fault, this.#ports.rules.greeting_refusal === 'bounce');
    this.#leaving.set(session, dial);
  }

  /** The failed connection is closed, so the next host can have its place, which may be the only one. */
  gone(session: ClientSession): void {
    const dial = this.#leaving.get(session);
    if (dial === undefined) return;
    this.#leaving.delete(session);
    if (!this.#dials.has(dial)) return;
    if (this.#ports.isWanted(dial)) this.#guard(dial, () => this.#tryNext(dial));
    else this.#dials.delete(dial);
  }

  /** The session is established. */
  established(session: ClientSession): void {
    const dial = this.#dialOf.get(session);
    this.#dialOf.delete(session);
    if (dial !== undefined) this.#dials.delete(dial);
    this.#hosts.reached(session.host.address);
  }

  /** Aborts all dials. @returns their sessions, which end. */
  abort(): ClientSession[] {
    for (const dial of this.#dials) dial.session?.abort();
    const sessions = [...this.#dialOf.keys()];
    this.#dials.clear();
    this.#dialOf.clear();
    return sessions;
  }
}
