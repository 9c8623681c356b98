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
}

export type Rollup = 'mx_set' | 'mx_domain' | 'none';

export interface ShapingData {
  rollup: Rollup;
  /** Of every site that belongs to no provider. */
  limits: Limits;
  total: Totals;
  providers: readonly Provider[];
}
