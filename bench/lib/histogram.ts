/**
 * Compact histogram of times: 32 buckets per power of two of microseconds, so any percentile is within 3 % and
 * recording costs an index. Serialisable, so that several programs' figures can be joined.
 */
const STEPS = 32;
const OCTAVES = 37;

export interface Percentiles {
  count: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  maxMs: number;
}

export class Histogram {
  readonly counts = new Uint32Array(STEPS * OCTAVES);
  count = 0;
  maxMs = 0;

  record(ms: number): void {
    this.count++;
    if (ms > this.maxMs) this.maxMs = ms;
    const bucket = bucketOf(ms * 1000);
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
  }

  /** Upper edge of the bucket in which the given share (0…1) of all values is reached; 0 when empty. */
  percentileMs(share: number): number {
    let left = Math.ceil(this.count * share);
    for (let bucket = 0; bucket < this.counts.length; bucket++) {
      left -= this.counts[bucket] as number;
      if (left <= 0 && this.count > 0) return Math.min(edgeOf(bucket) / 1000, this.maxMs);
    }
    return this.maxMs;
  }

  percentiles(): Percentiles {
    const round = (ms: number): number => Math.round(ms * 1000) / 1000;
    return {
      count: this.count,
      p50Ms: round(this.percentileMs(0.5)),
      p90Ms: round(this.percentileMs(0.9)),
      p99Ms: round(this.percentileMs(0.99)),
      maxMs: round(this.maxMs),
    };
  }
}

/** Values below STEPS µs have a bucket each; above, the top five bits after the leading one choose it. */
function bucketOf(us: number): number {
  const value = us < 0 ? 0 : us > 0xffff_ffff ? 0xffff_ffff : Math.floor(us);
  if (value < STEPS) return value;
  const octave = 31 - Math.clz32(value) - 5;
  return (octave + 1) * STEPS + ((value >>> octave) & (STEPS - 1));
}

function edgeOf(bucket: number): number {
  if (bucket < STEPS) return bucket + 1;
  const octave = Math.floor(bucket / STEPS) - 1;
  return (STEPS + (bucket % STEPS) + 1) * 2 ** octave;
}
