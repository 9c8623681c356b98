/** The shaping data of a relay, once its files are read and found good: plain, so that it can be sent to threads. */
import type { Limits, Totals } from './limits.ts';

export interface ProviderMatch {
  /** Ends of names of MX hosts: the name itself, and all below it. */
  mx_suffix: readonly string[];
  /** Names of MX hosts. */
  mx_exact: readonly string[];
  /** Recipient domains, whatever their MX hosts are. */
  domain: readonly string[];
}

export interface Provider {
  name: string;
  match: ProviderMatch;
  /** Those of all destinations included, where the provider says nothing else. */
  limits: Limits;
  total: Totals;
  /** Of sources that have values of their own there: all that holds for them. */
  sources?: ReadonlyMap<string, Limits>;
}

export type Rollup = 'mx_set' | 'mx_domain' | 'none';

export interface ShapingData {
  rollup: Rollup;
  /** Of every site that belongs to no provider. */
  limits: Limits;
  total: Totals;
  /** The same of sites of no provider. */
  sources?: ReadonlyMap<string, Limits>;
  providers: readonly Provider[];
}

/** What holds for a source at a provider, or at sites of none (the data themselves). */
export const limitsOfSource = (
  { limits, sources }: Pick<Provider, 'limits' | 'sources'>,
  source: string,
): Limits => sources?.get(source) ?? limits;
