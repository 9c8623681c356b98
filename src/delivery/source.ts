/** What mail leaves from: an address of this machine, and the name we give ourselves there. */

export interface Source {
  /** '' is the default one, of delivery.source_address and delivery.ehlo_name. */
  name: string;
  address: string | undefined;
  ehloName: string | undefined;
}

export const DEFAULT_SOURCE: Source = { name: '', address: undefined, ehloName: undefined };
