/** Names of providers as rules for replies and the shaping data have them: either is understood where the other is meant. */
import { ReplyClassifier } from '../feedback/classifier.ts';
import { compileRules } from '../feedback/compiled-rules.ts';
import { readRulesTexts } from '../feedback/rules-text.ts';
import { Providers } from '../shaping/providers.ts';
import type { Provider } from '../shaping/shaping-data.ts';
import { type LoadedShaping, loadShaping, SHIPPED_SHAPING } from '../shaping/shaping-file.ts';

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

/**
 * Hosts of a provider which the rules for replies have with another one, though they know that name: a reply of theirs would be
 * read by the rules of the other one where a host is all that is known.
 * @param file `replies.file`; '' for none.
 */
export function disagreements({ data, placeOfMatch }: LoadedShaping, file: string): string[] {
  const classifier = new ReplyClassifier(compileRules(readRulesTexts(file)));
  return data.providers.flatMap(({ name, match }) =>
    classifier.knows(name)
      ? (['mx_suffix', 'mx_exact'] as const).flatMap((list) =>
          match[list].flatMap((host) => {
            const other = classifier.providerOf(host);
            if (other === '' || other === name) return [];
            const place = placeOfMatch(name, list, host);
            return [
              `${place?.file}:${place?.line}: providers.${name}.match.${list}: ${host} is a host of ${other} in the rules for replies`,
            ];
          }),
        )
      : [],
  );
}
