/** What was sent and refused over time, and what the controller would have allowed: points that become longer as time grows. */

export interface CurvePoint {
  fromMs: number;
  accepted: number;
  refused: number;
  /** The least that was allowed within; Infinity: no limit. */
  leastPerS: number;
}

const MAX_POINTS = 400;
const FIRST_POINT_MS = 10_000;

export class Curve {
  pointMs = FIRST_POINT_MS;
  points: CurvePoint[] = [];

  add(accepted: number, refused: number, perS: number, nowMs: number): void {
    const point = this.#pointAt(nowMs);
    point.accepted += accepted;
    point.refused += refused;
    point.leastPerS = Math.min(point.leastPerS, perS);
  }

  /** The point of this time. Events come nearly in order; what is late counts into the last point. */
  #pointAt(nowMs: number): CurvePoint {
    const fromMs = Math.floor(nowMs / this.pointMs) * this.pointMs;
    const last = this.points.at(-1);
    if (last !== undefined && fromMs <= last.fromMs) return last;
    if (this.points.length >= MAX_POINTS) {
      this.#coarsen();
      return this.#pointAt(nowMs);
    }
    const point = { fromMs, accepted: 0, refused: 0, leastPerS: Number.POSITIVE_INFINITY };
    this.points.push(point);
    return point;
  }

  #coarsen(): void {
    this.pointMs *= 2;
    const all = this.points;
    this.points = [];
    for (const { fromMs, accepted, refused, leastPerS } of all)
      this.add(accepted, refused, leastPerS, fromMs);
  }
}
