/** A peer that limits messages, and a sender that keeps to what the controller allows it, on a simulated clock. */
import { RateControl } from '../../src/shaping/adaptive/rate-control.ts';
import { type AdaptiveSettings, DEFAULTS } from '../../src/shaping/adaptive/settings.ts';

/** Says whether the peer takes a message at this time. */
export type Peer = (nowMs: number) => boolean;

export function tokenBucket(perS: (nowMs: number) => number, depthS = 1): Peer {
  let tokens = Number.NaN;
  let lastMs = 0;
  return (nowMs) => {
    const rate = perS(nowMs);
    const depth = Math.max(1, rate * depthS);
    tokens = Math.min(depth, (Number.isNaN(tokens) ? depth : tokens) + (rate * (nowMs - lastMs)) / 1000);
    lastMs = nowMs;
    if (tokens < 1) return false;
    tokens--;
    return true;
  };
}

/** So many messages in a minute; one more, and all are refused for a time. */
export function penaltyBox(perMinute: number, penaltyMs: number): Peer {
  const times: number[] = [];
  let shutUntilMs = 0;
  return (nowMs) => {
    if (nowMs < shutUntilMs) return false;
    while (times.length > 0 && (times[0] as number) <= nowMs - 60_000) times.shift();
    if (times.length >= perMinute) {
      shutUntilMs = nowMs + penaltyMs;
      return false;
    }
    times.push(nowMs);
    return true;
  };
}

export interface Counts {
  accepted: number;
  refused: number;
}

export interface SimulationOptions {
  peer: Peer;
  forMs: number;
  stepMs?: number;
  latencyMs?: number;
  connections?: number;
  settings?: Partial<AdaptiveSettings>;
  /** Messages a second that there are to send. */
  demandPerS?: number;
}

/** @returns what was accepted and refused in each second. */
export function simulate(options: SimulationOptions): Counts[] {
  const { peer, forMs, stepMs = 10, latencyMs = 100, connections = 100, demandPerS = Infinity } = options;
  const settings = { ...DEFAULTS, ...options.settings };
  const control = new RateControl(settings, () => settings.bounds('site'), 0);
  const seconds: Counts[] = Array.from({ length: Math.ceil(forMs / 1000) }, () => ({
    accepted: 0,
    refused: 0,
  }));
  const underWay: { sentMs: number; taken: boolean }[] = [];
  let head = 0;
  let tokens = 1;
  let demand = 0;
  for (let nowMs = 0; nowMs < forMs; nowMs += stepMs) {
    const second = seconds[Math.floor(nowMs / 1000)] as Counts;
    for (; head < underWay.length; head++) {
      const { sentMs, taken } = underWay[head] as { sentMs: number; taken: boolean };
      if (sentMs + latencyMs > nowMs) break;
      if (taken) control.answered(1, 1, sentMs, nowMs);
      else control.refused(sentMs, nowMs);
      second[taken ? 'accepted' : 'refused']++;
    }
    if (head > 10_000) {
      underWay.splice(0, head);
      head = 0;
    }
    if (nowMs % 1000 === 0) control.tick(nowMs);
    const limit = control.limit();
    demand = Math.min(demandPerS, demand + (demandPerS * stepMs) / 1000);
    if (nowMs < limit.closedUntilMs) {
      tokens = 1;
      continue;
    }
    tokens = Math.min(Math.max(1, limit.perS * 0.1), tokens + (limit.perS * stepMs) / 1000);
    while (tokens >= 1 && demand >= 1 && underWay.length - head < connections) {
      underWay.push({ sentMs: nowMs, taken: peer(nowMs) });
      tokens--;
      demand--;
    }
  }
  return seconds;
}

export function sum(seconds: readonly Counts[], fromS: number, toS: number): Counts {
  const total = { accepted: 0, refused: 0 };
  for (const { accepted, refused } of seconds.slice(fromS, toS)) {
    total.accepted += accepted;
    total.refused += refused;
  }
  return total;
}

/** Of what the peer allows: how much it took; and of what it was sent: how much it refused. */
export function ratios(seconds: readonly Counts[], fromS: number, toS: number, allowedPerS: number) {
  const { accepted, refused } = sum(seconds, fromS, toS);
  return {
    used: accepted / (allowedPerS * (toS - fromS)),
    refused: refused / Math.max(1, accepted + refused),
  };
}

/** Seconds from `fromS` on until this rate is reached over five seconds; Infinity: never. */
export function secondsUntil(seconds: readonly Counts[], fromS: number, perS: number): number {
  for (let at = fromS + 5; at <= seconds.length; at++)
    if (sum(seconds, at - 5, at).accepted >= perS * 5) return at - fromS;
  return Number.POSITIVE_INFINITY;
}
