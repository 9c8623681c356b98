/** Names of providers as rules for replies and the shaping data have them: either is understood where the other is meant. */
import type { ReplyClassifier } from '../feedback/classifier.ts';
import { Providers } from '../shaping/providers.ts';
import type { Provider } from '../shaping/shaping-data.ts';
import { loadShaping, SHIPPED_SHAPING } from '../shaping/shaping-file.ts';

export class ProviderNames {
  readonly #classifier: ReplyClassifier;
  readonly #byName: ReadonlyMap<string, Provider>;
  readonly #providers: Providers;

  constructor(classifier: ReplyClassifier) {
    const { data } = loadShaping({ file: SHIPPED_SHAPING, overrides_file: '', rollup: 'mx_set' });
    this.#classifier = classifier;
    this.#byName = new Map(data.providers.map((provider) => [provider.name, provider]));
    this.#providers = new Providers(data.providers);
  }

  /** The name that rules for replies have for a provider that is named so, or for that of the host; '' for none. */
  of(named: string, mxHost: string): string {
    const match = this.#byName.get(named)?.match;
    const host = match?.mx_suffix[0] ?? match?.mx_exact[0] ?? mxHost;
    const ofHost = this.#providers.ofHost(host.toLowerCase().replace(/\.$/, ''))?.name ?? '';
    return this.#classifier.providerFor(this.#classifier.knows(named) ? named : ofHost, host);
  }
}
