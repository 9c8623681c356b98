/**
 * The lanes of a delivery thread: a destination for each source that its mail leaves from. With the default source alone
 * there is one for each destination, under the destination's own key.
 */
import type { EgressSource } from '../egress/egress.ts';
import type { Destination } from './destination.ts';
import type { Connecting } from './granted-connections.ts';

/** Most lanes without work that are remembered, for their suspension. */
const MAX_IDLE_LANES = 10_000;
/** Most lanes beyond which one that gave its last connection away is dropped. */
const MAX_RESTING_LANES = 2500;

export class Lanes {
  readonly #create: (key: string, source: EgressSource) => Destination;
  readonly #dropped: (lane: Destination) => void;
  readonly #lanes = new Map<string, Destination>();
  /** The lanes of destinations whose mail leaves, or left, from more than the default source. */
  readonly #several = new Map<string, Set<Destination>>();

  /** @param dropped is told of lanes that are forgotten. */
  constructor(
    create: (key: string, source: EgressSource) => Destination,
    dropped: (lane: Destination) => void,
  ) {
    this.#create = create;
    this.#dropped = dropped;
  }

  of(key: string, source: EgressSource): Destination {
    const name = laneName(key, source);
    let lane = this.#lanes.get(name);
    if (lane !== undefined) return lane;
    if (this.#lanes.size >= MAX_IDLE_LANES) this.#forget();
    lane = this.#create(key, source);
    this.#lanes.set(name, lane);
    if (source.name !== '' || this.#several.has(key)) this.#addBeside(key, lane);
    return lane;
  }

  #addBeside(key: string, lane: Destination): void {
    const beside = this.#several.get(key);
    if (beside !== undefined) beside.add(lane);
    else {
      const plain = this.#lanes.get(key);
      this.#several.set(key, new Set(plain === undefined ? [lane] : [plain, lane]));
    }
  }

  /** The lane, if there is one. */
  known(key: string, source: EgressSource): Destination | undefined {
    return this.#lanes.get(laneName(key, source));
  }

  [Symbol.iterator](): Iterator<Destination> {
    return this.#lanes.values();
  }

  /** All lanes of a destination. */
  ofDestination(key: string): Iterable<Destination> {
    const beside = this.#several.get(key);
    if (beside !== undefined) return beside;
    const lane = this.#lanes.get(key);
    return lane === undefined ? [] : [lane];
  }

  /** Connections of the other lanes of its destination. */
  openBeside(lane: Destination): number {
    let open = 0;
    for (const other of this.#several.get(lane.key) ?? []) if (other !== lane) open += other.openConnections;
    return open;
  }

  isOnly({ key }: Destination): boolean {
    return (this.#several.get(key)?.size ?? 1) === 1;
  }

  /** The destinations, with all their lanes each, as limits of destinations see them. */
  *destinations(): Generator<Connecting> {
    for (const lane of this.#lanes.values()) {
      const beside = this.#several.get(lane.key);
      if (beside === undefined) yield lane;
      else if (beside.values().next().value === lane) yield together(lane.key, beside);
    }
  }

  destination(key: string): Connecting | undefined {
    const beside = this.#several.get(key);
    return beside === undefined ? this.#lanes.get(key) : together(key, beside);
  }

  /** It has no work and nothing to remember, but its next mail may come soon: to make it anew would cost more than that mail. */
  rests(lane: Destination): void {
    if (this.#lanes.size > MAX_RESTING_LANES) this.drop(lane);
  }

  drop(lane: Destination): void {
    this.#lanes.delete(laneName(lane.key, lane.source));
    const beside = this.#several.get(lane.key);
    beside?.delete(lane);
    if (beside?.size === 0) this.#several.delete(lane.key);
    this.#dropped(lane);
  }

  /** Drops lanes without work; first those of which nothing has to be remembered. */
  #forget(): void {
    for (const lane of this.#lanes.values()) if (lane.forgettable) this.drop(lane);
    for (const lane of this.#lanes.values()) {
      // Drops a tenth more than needed, so that this is not done for every new destination.
      if (this.#lanes.size < MAX_IDLE_LANES * 0.9) return;
      if (lane.empty) this.drop(lane);
    }
  }
}

const laneName = (key: string, { name }: EgressSource): string => (name === '' ? key : `${key}\0${name}`);

function together(key: string, lanes: ReadonlySet<Destination>): Connecting {
  const sum = (of: (lane: Destination) => number): number => {
    let all = 0;
    for (const lane of lanes) all += of(lane);
    return all;
  };
  return {
    key,
    openConnections: sum(({ openConnections }) => openConnections),
    wantedConnections: sum(({ wantedConnections }) => wantedConnections),
    connectionsGranted() {
      for (const lane of lanes) lane.connectionsGranted();
    },
  };
}
