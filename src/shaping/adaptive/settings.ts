/** What an operator can say of the adaptive control, as the controller reads it. */

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
}

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
};
