/** What lies between the nodes and the database servers: delay, and links that are cut for a while. */
import type { Actor, Clock } from './clock.ts';
import type { Connection } from './connector.ts';
import { processOf } from './process.ts';
import type { Server } from './server.ts';

/** Share of what a cut link swallows that still arrives when it is whole again. */
const HELD_SHARE = 0.5;

/** One direction of a connection: what is sent arrives in order, or nothing more arrives. */
export interface Lane {
  atMs: number;
  /** On their way. */
  flying: number;
  broken: boolean;
  held: boolean;
}

export const newLane = (): Lane => ({ atMs: 0, flying: 0, broken: false, held: false });

export interface LinkTroubles {
  /** Share of messages that take their time, and how long at most. */
  slowShare: number;
  slowMs: number;
  /** Share of statements, and of answers, that are lost with their connection. */
  losses: number;
}

interface Link {
  cut: boolean;
  held: { lane: Lane; arrive(): void }[];
}

export class Network {
  readonly #clock: Clock;
  readonly #links = new Map<string, Link>();
  readonly #connections = new Set<Connection>();
  troubles: LinkTroubles;
  lost: (process: Actor, server: Server) => void = () => {};

  constructor(clock: Clock, troubles: LinkTroubles) {
    this.#clock = clock;
    this.troubles = troubles;
  }

  #link(node: string, server: number): Link {
    const key = `${node}/${server}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = { cut: false, held: [] };
      this.#links.set(key, link);
    }
    return link;
  }

  cut(node: string, server: number): void {
    this.#link(node, server).cut = true;
  }

  heal(node: string, server: number): void {
    const link = this.#link(node, server);
    link.cut = false;
    // Sent again by the kernel, and late.
    const { nowMs } = this.#clock;
    for (const { lane, arrive } of link.held.splice(0)) {
      lane.held = false;
      lane.atMs = Math.max(lane.atMs, nowMs + this.#clock.between(0, 200));
      this.#fly(lane, arrive);
    }
  }

  healAll(): void {
    for (const key of this.#links.keys()) {
      const [node = '', server] = key.split('/');
      this.heal(node, Number(server));
    }
  }

  remember(connection: Connection): void {
    this.#connections.add(connection);
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** A process or thread is gone: the servers learn it, after what it had sent. */
  ended(actor: Actor): void {
    for (const connection of this.#connections) {
      const { owner, session, server, toServer } = connection;
      if (owner !== actor && owner.process !== actor) continue;
      this.#connections.delete(connection);
      if (session === null) continue;
      toServer.atMs = Math.max(toServer.atMs, this.#clock.nowMs + this.#clock.between(0, 30));
      this.#carry(connection, toServer, () => server.end(session));
    }
  }

  toServer(connection: Connection, arrive: () => void): void {
    if (this.#loses(connection)) return;
    this.#carry(connection, connection.toServer, arrive);
  }

  toClient(connection: Connection, arrive: () => void): void {
    if (this.#loses(connection)) return;
    this.#carry(connection, connection.toClient, () => connection.owner.reach(arrive));
  }

  /** The connection ends, and what is on its way with it: a statement before it is done, or its answer. */
  #loses(connection: Connection): boolean {
    const { owner, session, server } = connection;
    if (session === null || !this.#clock.chance(this.troubles.losses)) return false;
    this.lost(owner.process, server);
    this.#clock.later(0, () => server.end(session));
    owner.later(this.#clock.between(0, 40), () => connection.lost('connection reset'));
    return true;
  }

  #carry({ owner, server }: Connection, lane: Lane, arrive: () => void): void {
    const clock = this.#clock;
    if (lane.broken) return;
    const link = this.#link(processOf(owner).node, server.id);
    if (link.cut) {
      lane.held ||= clock.chance(HELD_SHARE);
      if (lane.held) link.held.push({ lane, arrive });
      else lane.broken = true;
      return;
    }
    const { slowShare, slowMs } = this.troubles;
    const delayMs = clock.chance(slowShare) ? clock.between(1, slowMs) : 0;
    lane.atMs = Math.max(lane.atMs, clock.nowMs + delayMs);
    if (lane.flying === 0 && lane.atMs <= clock.nowMs) arrive();
    else this.#fly(lane, arrive);
  }

  #fly(lane: Lane, arrive: () => void): void {
    lane.flying++;
    this.#clock.later(lane.atMs - this.#clock.nowMs, () => {
      lane.flying--;
      arrive();
    });
  }
}
