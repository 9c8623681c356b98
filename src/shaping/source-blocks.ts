/** Which blocks of addresses the sources of the config are in. */
import { netblockOf } from '../base/netblock.ts';
import type { Config } from '../config/schema.ts';

export class SourceBlocks {
  readonly #blocks = new Map<string, string>();
  readonly #sources: Map<string, string[]>;

  constructor({ egress, delivery }: Pick<Config, 'egress' | 'delivery'>) {
    this.#blocks.set('', netblockOf(delivery.source_address ?? ''));
    for (const { name, address = '' } of egress.sources) this.#blocks.set(name, netblockOf(address));
    this.#sources = Map.groupBy(this.#blocks.keys(), (name) => this.of(name));
  }

  /** '' where it is not known. */
  of(source: string): string {
    return this.#blocks.get(source) ?? '';
  }

  in(netblock: string): readonly string[] {
    return this.#sources.get(netblock) ?? [];
  }
}
