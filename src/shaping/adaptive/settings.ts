/** What an operator can say of the adaptive control, as the controller reads it. */
import type { AdaptiveConfig } from '../../config/adaptive-schema.ts';
import type { LimitKey } from './keys.ts';

export interface Bounds {
  /** No cut goes below; it is kept to even where the peer allows less. */
  floorPerS: number;
  /** Infinity: none. */
  ceilingPerS: number;
  /** The rate to begin with, doubled every 10 s until the first refusal; Infinity: no rate before that. */
  startPerS: number;
}

export interface AdaptiveSettings {
  /** What is left of the rate right after a cut. */
  betaRatio: number;
  minPlateauMs: number;
  maxPlateauMs: number;
  /** The share of the time that refusals may take: a plateau is as many times longer than they took. */
  probeCostRatio: number;
  firstProbeMs: number;
  maxProbeMs: number;
  /** Keys remembered; the one that was used least lately is forgotten. */
  maxKeys: number;
  bounds(site: string): Bounds;
  /** What of the limits this process has, where it shares them with others. */
  sharing: Sharing;
}

/** How a process shares what is learned with others: each may send its part of a rate, which is one for all of them. */
export interface Sharing {
  /** Name of this process, unlike all others there ever were. */
  me: string;
  /** Its part of the rate of a key, 0 … 1. */
  part(key: LimitKey): number;
  /** The parts go to where they are used, so that a part in use is a rate in use. */
  isLeased: boolean;
}

export const ALONE: Sharing = { me: '', part: () => 1, isLeased: false };

export const FREE: Bounds = {
  floorPerS: 0,
  ceilingPerS: Number.POSITIVE_INFINITY,
  startPerS: Number.POSITIVE_INFINITY,
};

export const DEFAULTS: AdaptiveSettings = {
  betaRatio: 0.85,
  minPlateauMs: 30_000,
  maxPlateauMs: 14_400_000,
  probeCostRatio: 0.05,
  firstProbeMs: 1000,
  maxProbeMs: 300_000,
  maxKeys: 100_000,
  bounds: () => FREE,
  sharing: ALONE,
};

/** The settings as the config has them at each moment. */
export function settingsOf(current: () => AdaptiveConfig, sharing = ALONE): AdaptiveSettings {
  return {
    get betaRatio() {
      return current().beta_ratio;
    },
    get minPlateauMs() {
      return current().min_plateau_ms;
    },
    get maxPlateauMs() {
      return current().max_plateau_ms;
    },
    get probeCostRatio() {
      return current().probe_cost_ratio;
    },
    get firstProbeMs() {
      return current().first_probe_ms;
    },
    get maxProbeMs() {
      return current().max_probe_ms;
    },
    maxKeys: current().max_keys,
    sharing,
    bounds: (site) => boundsOf(current().providers[site] ?? current().providers['*']),
  };
}

function boundsOf(given: AdaptiveConfig['providers'][string] | undefined): Bounds {
  if (given === undefined) return FREE;
  const orNone = (perS: number): number => (perS === 0 ? Number.POSITIVE_INFINITY : perS);
  return {
    floorPerS: given.floor_per_s,
    ceilingPerS: orNone(given.ceiling_per_s),
    startPerS: orNone(given.start_per_s),
  };
}
