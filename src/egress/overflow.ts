/** Where mail goes that a source in warm-up may not send now (`warmup[].overflow_pool`). */
import type { Config } from '../config/schema.ts';
import { sourceWarmUps } from '../config/source-warm-ups.ts';

export class Overflow {
  readonly #pools = new Map<string, Map<string, string>>();
  readonly #members = new Map<string, readonly string[]>();
  /** Whether any plan has such a pool. */
  readonly active: boolean;

  constructor({ warmup, egress }: Pick<Config, 'warmup' | 'egress'>) {
    this.active = warmup.some(({ overflow_pool }) => overflow_pool !== '');
    for (const { source, providers, overflow_pool: pool } of sourceWarmUps({ warmup, egress })) {
      const ofSource = this.#pools.get(source) ?? new Map<string, string>();
      for (const provider of providers) ofSource.set(provider, pool);
      this.#pools.set(source, ofSource);
    }
    for (const { name, members } of egress.pools)
      this.#members.set(
        name,
        members.map(({ source }) => source),
      );
  }

  /** The pool; '' for none. */
  poolOf(source: string, site: string, provider: string): string {
    const pools = this.#pools.get(source);
    return pools?.get(provider) ?? pools?.get(site) ?? pools?.get('*') ?? '';
  }

  /** The sources of that pool. */
  sourcesOf(source: string, site: string, provider: string): readonly string[] {
    return this.#members.get(this.poolOf(source, site, provider)) ?? [];
  }
}
