/** What the limits at a key are, who set each, and which of them let nothing through now. */
import type { Blocker, BlockerKind, EffectiveLimit } from '../mail/blocker.ts';
import type { LimitKey } from './limit-key.ts';
import type { Cap, KeyStanding, LimitKeys } from './limit-keys.ts';
import { type Gate, type GatedFrom, type GatedMail, type GateKind, isAbout } from './message-gates.ts';
import { RATE_NAMES, type RateName } from './rate.ts';

/** Who set something, since when, and what it counts itself. */
export interface Said {
  setBy: string;
  /** Time of day. */
  sinceMs: number | null;
  /** When it ends by itself; absent: not known. */
  untilMs?: number | null;
  counts: { limit: number; used: number } | null;
}

export interface ExplainingPorts {
  keys: Pick<LimitKeys, 'standing'>;
  /** File and line of a limit of the data; '' where it has none. */
  originOf(provider: string, limit: string, source: string): string;
  /** Who set what is not of the data. */
  says(by: string, source: string, site: string, limit: string): Said;
  gatesAt(site: string): { gate: Gate; setBy: string; sinceMs: number | null }[];
  /** Steady time, and the time of day at such a time. */
  now(): number;
  timeOfDay(steadyMs: number): number;
}

/** Of the data. */
const DATA = '';

const KINDS: Readonly<Record<string, BlockerKind>> = {
  adaptive: 'adaptive',
  netblock: 'adaptive',
  warmup: 'warmup',
  operator: 'source_paused',
  source: 'source_paused',
  connect_failures: 'connection_wait',
};

interface Least {
  /** As the data, or who else set it, have it: the data mean all processes that share it. */
  value: number;
  /** For this process. */
  here: number;
  by: string;
}

export class Explaining {
  readonly #ports: ExplainingPorts;

  constructor(ports: ExplainingPorts) {
    this.#ports = ports;
  }

  /** Of a source at a site: what holds there in all comes first. */
  at(site: string, provider: string, source: string): { blockers: Blocker[]; limits: EffectiveLimit[] } {
    const parts = [null, source].map((one) => this.#key({ site, provider, source: one }));
    // A connection that is waited for comes last: what else holds, holds before one is of use.
    const blockers = parts.flatMap((part) => part.blockers);
    const waits = ({ kind }: Blocker): boolean => kind === 'connection_wait';
    return {
      blockers: [...blockers.filter((one) => !waits(one)), ...blockers.filter(waits)],
      limits: parts.flatMap((part) => part.limits),
    };
  }

  /** What closes a site for mail of its block of addresses, signature, tenant, campaign or sender's domain. */
  gates(site: string, mail: GatedMail, from: GatedFrom): Blocker[] {
    const nowMs = this.#ports.now();
    return this.#ports
      .gatesAt(site)
      .filter(({ gate }) => gate.closedUntilMs > nowMs && isAbout(gate, mail, from))
      .map(({ gate: { kind, value, closedUntilMs }, setBy, sinceMs }) => ({
        kind: GATE_BLOCKERS[kind],
        key: `${kind} ${value} at ${site}`,
        limit: null,
        used: null,
        sinceMs,
        untilMs: this.#ports.timeOfDay(closedUntilMs),
        setBy,
      }));
  }

  #key(key: LimitKey): { blockers: Blocker[]; limits: EffectiveLimit[] } {
    const standing = this.#ports.keys.standing(key);
    const least = leastOf(standing);
    const limits = [...least].map(([name, { value, by }]): EffectiveLimit => {
      const said = this.#plain(key, by, name);
      return { limit: nameOf(key, name), value, used: this.#used(standing, name), ...said };
    });
    for (const [name, value] of Object.entries(standing.data))
      if (!least.has(name))
        limits.push({ limit: nameOf(key, name), value, used: null, ...this.#plain(key, DATA, name) });
    return { blockers: [...this.#closed(key, standing), ...this.#usedUp(key, standing, least)], limits };
  }

  #plain(key: LimitKey, by: string, name: string): Pick<EffectiveLimit, 'setBy' | 'sinceMs' | 'untilMs'> {
    const { setBy, sinceMs, untilMs = null } = this.#said(key, by, name);
    return { setBy, sinceMs, untilMs };
  }

  #closed(key: LimitKey, { closed, data }: KeyStanding): Blocker[] {
    const nowMs = this.#ports.now();
    return closed
      .filter(([, untilMs]) => untilMs > nowMs)
      .map(([by, untilMs, sinceMs]) => {
        // A thread closed it for as long as the data say.
        const beganMs = sinceMs === 0 && by === 'connect_failures' ? untilMs - (data.pause_ms ?? 0) : sinceMs;
        const limit = by === 'connect_failures' ? 'connect_failures_before_pause' : '';
        const said = this.#said(key, by === 'connect_failures' ? DATA : by, limit);
        const { setBy, counts } = said;
        return {
          kind: KINDS[by] ?? 'provider_limit',
          key: `pause (${by}) of ${whose(key)}`,
          limit: counts?.limit ?? null,
          used: counts?.used ?? null,
          sinceMs: beganMs === 0 || beganMs === untilMs ? said.sinceMs : this.#ports.timeOfDay(beganMs),
          untilMs: this.#ports.timeOfDay(untilMs),
          setBy,
        };
      });
  }

  #usedUp(key: LimitKey, standing: KeyStanding, least: ReadonlyMap<string, Least>): Blocker[] {
    const { slot } = standing;
    if (slot === null) return [];
    const nowMs = this.#ports.now();
    const found: Blocker[] = [];
    for (const [name, { here, by }] of least) {
      const isRate = RATE_NAMES.includes(name as RateName);
      const { untilMs, sinceMs } = isRate ? slot.usage(name as RateName, nowMs) : FREE;
      const isFull = name === 'max_connections' && slot.open >= slot.maxConnections;
      if (untilMs === 0 && !isFull) continue;
      const waits = name === 'max_connections' || name === 'connections_per_min';
      found.push({
        kind: waits ? 'connection_wait' : by === 'adaptive' || by === 'warmup' ? by : 'provider_limit',
        key: `${nameOf(key, name)} of ${whose(key)}`,
        limit: isFull ? slot.maxConnections : here,
        used: this.#used(standing, name),
        ...this.#plain(key, by, name),
        sinceMs: this.#since(isFull ? slot.fullSinceMs : sinceMs),
        untilMs: untilMs === 0 ? null : this.#ports.timeOfDay(untilMs),
      });
    }
    return found;
  }

  #since(steadyMs: number): number | null {
    return steadyMs === 0 ? null : this.#ports.timeOfDay(steadyMs);
  }

  #used({ slot }: KeyStanding, name: string): number | null {
    if (slot === null) return null;
    if (name === 'max_connections') return slot.open;
    return RATE_NAMES.includes(name as RateName)
      ? slot.usage(name as RateName, this.#ports.now()).used
      : null;
  }

  #said({ site, provider, source }: LimitKey, by: string, name: string): Said {
    if (by !== DATA) return this.#ports.says(by, source ?? '', site, name);
    const limit = source === null ? `total_${name}` : name;
    return { setBy: this.#ports.originOf(provider, limit, source ?? ''), sinceMs: null, counts: null };
  }
}

const FREE = { untilMs: 0, sinceMs: 0 };

const GATE_BLOCKERS: Record<GateKind, BlockerKind> = {
  provider: 'source_paused',
  source: 'source_paused',
  netblock: 'adaptive',
  dkim_domain: 'sender_limit',
  campaign: 'campaign_paused',
  tenant: 'tenant_limit',
  return_path_domain: 'sender_limit',
};

const nameOf = ({ source }: LimitKey, name: string): string => (source === null ? `total_${name}` : name);

const whose = ({ site, source }: LimitKey): string =>
  source === null || source === '' ? site : `${site} from ${source}`;

/** The least of the data and of what others set, with who set it; 0 is no limit. */
function leastOf({ data, caps, share }: KeyStanding): Map<string, Least> {
  const least = new Map<string, Least>();
  const take = (name: string, value: number, here: number, by: string): void => {
    const known = least.get(name);
    if (value > 0 && (known === undefined || here < known.here)) least.set(name, { value, here, by });
  };
  const { part, connections } = share;
  const perConnection = data.messages_per_connection ?? 0;
  take('messages_per_connection', perConnection, perConnection, DATA);
  const most = data.max_connections ?? 0;
  take('max_connections', most, connections ?? Math.max(1, Math.floor(most * part)), DATA);
  for (const name of RATE_NAMES) take(name, data[name] ?? 0, (data[name] ?? 0) * part, DATA);
  for (const [by, cap, isShared] of caps)
    for (const [name, value] of Object.entries(cap) as [keyof Cap, number][])
      take(name, value, isShared ? value * part : value, by);
  return least;
}
