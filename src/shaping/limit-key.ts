/** The key under which limits are counted: a site and a source, or the site in all. */

export interface LimitKey {
  site: string;
  /** '' where it belongs to none. */
  provider: string;
  /** The name of the source, '' for the default one; null: the site in all. */
  source: string | null;
}

export const limitKeyText = ({ site, source }: LimitKey): string =>
  source === null ? `${site} *` : source === '' ? site : `${site} ${source}`;

/** Domains that were found to belong to a site. */
export interface SiteOf {
  destination: string;
  site: string;
  provider: string;
}

/** What a delivery thread asks and tells the main thread, gathered over a turn. */
export interface LimitNews {
  /** Keys for which it needs a slot. */
  ask: LimitKey[];
  /** Keys that it uses no more. */
  free: string[];
  sites: SiteOf[];
}

/** The answer. */
export interface SlotOf {
  key: string;
  /** -1: the table is full. */
  slot: number;
}
