/**
 * Which source a message leaves from. The choice is stable: a message takes the same member of its pool at every
 * attempt, unless that one may not send now, and then the same other one (weighted rendezvous hashing).
 */
import type { Config } from '../config/schema.ts';

type Rules = Config['egress'];
export type Pool = Rules['pools'][number];

/** Whether a source may send to where the message goes, now. */
export type May = (source: string) => boolean;

export interface Choice {
  /** '' for `delivery.source_address`, which belongs to no pool. */
  source: string;
  pool: string;
}

interface Member {
  source: string;
  weight: number;
  hash: number;
}

/** Steps to a fallback pool; the config has no circles, this holds should it be wrong. */
const MAX_FALLBACKS = 16;

export class Pools {
  readonly #pools = new Map<string, { pool: Pool; members: Member[] }>();

  constructor({ pools }: Pick<Rules, 'pools'>) {
    for (const pool of pools) {
      const members = pool.members.map(({ source, weight }) => ({
        source,
        weight,
        hash: hashOf(`${pool.name}\0${source}`, FNV_OFFSET),
      }));
      this.#pools.set(pool.name, { pool, members });
    }
  }

  get(name: string): Pool | undefined {
    return this.#pools.get(name)?.pool;
  }

  /**
   * @param avoid a source by which the message was refused; another one is taken if it can be.
   * @returns null: no source of the pool, nor of those it falls back to, may send now.
   */
  choose(name: string, queueId: string, may: May, avoid = ''): Choice | null {
    let next = this.#pools.get(name);
    for (let step = 0; next !== undefined && step < MAX_FALLBACKS; step++) {
      const { pool, members } = next;
      const source =
        pick(members, queueId, may, avoid) ?? (avoid === '' ? null : pick(members, queueId, may, ''));
      if (source !== null) return { source, pool: pool.name };
      next = this.#pools.get(pool.fallback_pool);
    }
    return null;
  }
}

function pick(members: readonly Member[], queueId: string, may: May, avoid: string): string | null {
  if (members.length === 1) {
    const [{ source }] = members as [Member];
    return source !== avoid && may(source) ? source : null;
  }
  let best: Member | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const member of members) {
    if (member.source === avoid || !may(member.source)) continue;
    // Of exponential variables with rates as the weights, each is the least as often as its weight says.
    const score = -Math.log((mixed(hashOf(queueId, member.hash)) + 1) / 4_294_967_297) / member.weight;
    if (score >= least) continue;
    best = member;
    least = score;
  }
  return best?.source ?? null;
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

function hashOf(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME);
  return hash;
}

/** Spreads the bits (FNV-1a leaves those of the last characters low), and makes it unsigned. */
function mixed(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
