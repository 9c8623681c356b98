import { LRUCache } from 'lru-cache';

/** A map of at most so many entries, which forgets the one that was used longest ago. */
export type MostRecent<Value extends {}> = LRUCache<string, Value>;

/**
 * The entries are counted by weight, one each: with `max` the cache would set aside the place of all at once, some 400,000
 * places over all that a relay remembers.
 */
export function mostRecent<Value extends {}>(
  count: number,
  options: Pick<LRUCache.Options<string, Value, unknown>, 'ttl' | 'ttlResolution' | 'dispose'> = {},
): MostRecent<Value> {
  return new LRUCache<string, Value>({ ...options, maxSize: count, sizeCalculation: () => 1 });
}
