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

/** Hosts by which mail goes to a site. */
export interface SiteHosts {
  site: string;
  provider: string;
  hosts: { name: string; addresses: string[] }[];
}

/** How a connection ended that says what the peer allows. */
export interface LimitSign {
  key: LimitKey;
  /** messages: it carried so many, and the peer took no more. connections: so many were served when it took no further one. */
  of: 'messages' | 'connections';
  count: number;
  /** Whether the peer said that this is its limit. */
  isSaid: boolean;
  /** '421 4.7.0 too many messages in this session'; '' where it said nothing. */
  reply: string;
  /** When the connection was begun, in steady time. */
  begunMs: number;
}

/** What a delivery thread asks and tells the main thread, gathered over a turn. */
export interface LimitNews {
  /** Keys for which it needs a slot. */
  ask: LimitKey[];
  /** Keys that it uses no more. */
  free: string[];
  sites: SiteOf[];
  signs: LimitSign[];
  /** Those not told before. */
  hosts: SiteHosts[];
}

/** The answer. */
export interface SlotOf {
  key: string;
  /** -1: the table is full. */
  slot: number;
}
